//! The built-in emoji as drawings, for pictures that are larger than Twemoji's own.

use twemoji_assets::svg::SvgTwemojiAsset;
use twemoji_assets::svg_twemoji_asset;

macro_rules! drawings {
    ($($emoji:tt)*) => { [$(svg_twemoji_asset!($emoji)),*] };
}

/// Of every emoji of the world. Named one by one: a look-up in the crate's own table would link all 4,009
/// drawings (10 MB; these take 326 kB).
const DRAWINGS: [&SvgTwemojiAsset; 180] = drawings![
    "🐶" "🐘" "🐧" "🐸" "🐙" "🌵" "🍎" "🍌" "🍕" "🍔" "✈" "⛵" "🚀" "🚲" "🎈" "🏆" "🎸" "🔑" "👑" "🔨"
    "🦋" "🦀" "🦁" "🐷" "🦒" "🌻" "🍩" "🍉" "🍓" "🥕" "🏰" "🚜" "🌈" "🌋" "⚽" "🎁" "🎩" "💡" "📷" "☎"
    "🐳" "🐠" "🦉" "🐢" "🐝" "🌴" "🍍" "🌮" "🎂" "🍋" "🚁" "🚂" "🎡" "⛺" "🏀" "🎯" "🔔" "🥁" "✉" "✏"
    "🐼" "🦓" "🦩" "🐌" "🦊" "🌹" "🥑" "🍆" "🥨" "🌭" "🏠" "🚒" "☂" "⭐" "🪁" "🔮" "🧲" "🔬" "🕯" "👗"
    "🐮" "🦜" "🐍" "🕷" "🦈" "🍁" "🍅" "🥐" "🍭" "🧁" "☁" "⚓" "🛸" "🪐" "🧸" "🎨" "🎒" "👟" "🪜" "🛁"
    "🦄" "🐨" "🦚" "🐞" "🐊" "🌲" "🍪" "🍐" "🍨" "🥥" "🛵" "🪂" "🚌" "🎪" "⛸" "🎲" "🔋" "💉" "🧹" "📺"
    "🐱" "🦞" "🦔" "🦢" "🐪" "🌷" "🍑" "🥪" "🧇" "🥭" "🚕" "🛹" "⛽" "❄" "🧩" "🥊" "🎻" "🎺" "💻" "🛡"
    "🐰" "🐬" "🦇" "🦂" "🐔" "🪴" "🥟" "🍯" "🌶" "🥔" "🛟" "🧭" "⛪" "🌙" "🎀" "🎰" "🪓" "🎷" "🚪" "💊"
    "🦑" "🦘" "🐭" "🐡" "🦍" "☘" "🥒" "🍫" "🥝" "🍙" "🛑" "🛶" "⛲" "🚑" "🛷" "🪩" "🪑" "🚽" "📌" "🧺"
];

/// The SVG of an emoji of the world.
pub(super) fn drawing(symbol: &str) -> Option<&'static str> {
    DRAWINGS.iter().find(|asset| asset.emoji == symbol).map(|asset| ***asset)
}
