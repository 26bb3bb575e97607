//! What the world is made of: emoji by class, background colours, numbers, and the grammar of their names.

use anyhow::{Context, Result, ensure};
use image::ImageFormat;
use twemoji_assets::png::PngTwemojiAsset;

use super::draw::Sprite;
use super::svg::drawing;

/// Side of a Twemoji picture in pixels.
const SPRITE: u32 = 72;

/// What sort of thing an emoji shows: a fact that text alone teaches.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Class {
    /// An animal.
    Animal,
    /// A plant.
    Plant,
    /// Food.
    Food,
    /// Vehicles, buildings, weather.
    Outdoor,
    /// Sport, toys, feasts.
    Fun,
    /// Tools, clothes, instruments, furniture.
    Household,
}

impl Class {
    /// Every class.
    pub const ALL: [Self; 6] =
        [Self::Animal, Self::Plant, Self::Food, Self::Outdoor, Self::Fun, Self::Household];

    /// With its article, as in "a rose is *a plant*".
    pub fn phrase(self) -> &'static str {
        match self {
            Self::Animal => "an animal",
            Self::Plant => "a plant",
            Self::Food => "food",
            Self::Outdoor => "an outdoor thing",
            Self::Fun => "a thing for fun",
            Self::Household => "a useful thing",
        }
    }
}

/// Each class with the number of emoji it gives to every twenty, and its emoji in the order in which they are
/// taken. Chosen by eye to differ from one another; their CLDR names have one or two words and take "a" or
/// "an".
const POOLS: [(Class, usize, &str); 6] = [
    (
        Class::Animal,
        5,
        "🐶🐘🐧🐸🐙 🦋🦀🦁🐷🦒 🐳🐠🦉🐢🐝 🐼🦓🦩🐌🦊 🐮🦜🐍🕷🦈 🦄🐨🦚🐞🐊 🐱🦞🦔🦢🐪 🐰🐬🦇🦂🐔 🦑🦘🐭🐡🦍",
    ),
    (Class::Plant, 1, "🌵 🌻 🌴 🌹 🍁 🌲 🌷 🪴 ☘"),
    (Class::Food, 4, "🍎🍌🍕🍔 🍩🍉🍓🥕 🍍🌮🎂🍋 🥑🍆🥨🌭 🍅🥐🍭🧁 🍪🍐🍨🥥 🍑🥪🧇🥭 🥟🍯🌶🥔 🥒🍫🥝🍙"),
    (Class::Outdoor, 4, "✈⛵🚀🚲 🏰🚜🌈🌋 🚁🚂🎡⛺ 🏠🚒☂⭐ ☁⚓🛸🪐 🛵🪂🚌🎪 🚕🛹⛽❄ 🛟🧭⛪🌙 🛑🛶⛲🚑"),
    (Class::Fun, 2, "🎈🏆 ⚽🎁 🏀🎯 🪁🔮 🧸🎨 ⛸🎲 🧩🥊 🎀🎰 🛷🪩"),
    (Class::Household, 4, "🎸🔑👑🔨 🎩💡📷☎ 🔔🥁✉✏ 🧲🔬🕯👗 🎒👟🪜🛁 🔋💉🧹📺 🎻🎺💻🛡 🪓🎷🚪💊 🪑🚽📌🧺"),
];

/// One emoji: its name and its picture.
pub struct Emoji {
    /// The CLDR name.
    pub name: &'static str,
    /// What sort of thing it is.
    pub class: Class,
    pub(super) sprite: Sprite,
    /// The same as a drawing.
    pub(super) svg: &'static str,
}

/// Number of emoji to choose from.
pub fn available() -> usize {
    order().len()
}

/// The first `number` emoji, spread over the classes; `number` is at most [`available`].
pub(super) fn emoji(number: usize) -> Result<Vec<Emoji>> {
    order().into_iter().take(number).map(|(class, symbol)| decode(class, symbol)).collect()
}

/// Twenty of each round of the pools after the other.
fn order() -> Vec<(Class, char)> {
    let pools: Vec<Vec<char>> =
        POOLS.iter().map(|p| p.2.chars().filter(|c| !c.is_whitespace()).collect()).collect();
    let rounds = pools[0].len() / POOLS[0].1;
    let mut out = Vec::new();
    for round in 0..rounds {
        for ((class, share, _), pool) in POOLS.iter().zip(&pools) {
            out.extend(pool[round * share..(round + 1) * share].iter().map(|&c| (*class, c)));
        }
    }
    out
}

fn decode(class: Class, symbol: char) -> Result<Emoji> {
    let symbol = symbol.to_string();
    let name = emojis::get(&symbol).with_context(|| format!("emoji {symbol} has no CLDR name"))?.name();
    let png = PngTwemojiAsset::from_emoji(&symbol).with_context(|| format!("emoji {name} has no picture"))?;
    let picture = image::load_from_memory_with_format(png, ImageFormat::Png)
        .with_context(|| format!("picture of emoji {name}"))?
        .to_rgba8();
    let (width, height) = picture.dimensions();
    ensure!(
        (width, height) == (SPRITE, SPRITE),
        "emoji {name} is {width}x{height}, expected {SPRITE}x{SPRITE}"
    );
    let mut rgba = picture.into_raw();
    for pixel in rgba.chunks_exact_mut(4) {
        // Colours times alpha: scaling the two apart would leave dark rims.
        let alpha = u16::from(pixel[3]);
        for channel in &mut pixel[..3] {
            *channel = ((u16::from(*channel) * alpha + 127) / 255) as u8;
        }
    }
    let svg = drawing(&symbol).with_context(|| format!("emoji {name} has no drawing"))?;
    Ok(Emoji { name, class, sprite: Sprite { width, height, rgba }, svg })
}

/// The background colours: name and middle shade. Apart from one another, and from the usual shades of
/// Twemoji.
pub const COLOURS: [(&str, [u8; 3]); 10] = [
    ("red", [200, 20, 40]),
    ("orange", [255, 125, 0]),
    ("yellow", [255, 232, 80]),
    ("green", [30, 145, 60]),
    ("blue", [30, 80, 215]),
    ("purple", [120, 40, 170]),
    ("pink", [255, 165, 205]),
    ("brown", [110, 70, 40]),
    ("grey", [130, 130, 130]),
    ("white", [246, 246, 246]),
];

const NUMBERS: [&str; 13] = [
    "zero", "one", "two", "three", "four", "five", "six", "seven", "eight", "nine", "ten", "eleven", "twelve",
];

/// `number` (at most 12) as a word.
pub(super) fn number(number: usize) -> &'static str {
    NUMBERS[number]
}

/// `words` with "a" or "an" before them, by sound.
pub(super) fn with_article(words: &str) -> String {
    let vowel = words.starts_with(['a', 'e', 'i', 'o', 'u']) && !words.starts_with("uni");
    format!("{} {words}", if vowel { "an" } else { "a" })
}

/// `text` with its first letter as a capital.
pub(super) fn capital(text: &str) -> String {
    let mut letters = text.chars();
    letters.next().map(|first| first.to_uppercase().chain(letters).collect()).unwrap_or_default()
}

/// "x", "x and y", "x, y and z".
pub(super) fn enumerate(items: &[String]) -> String {
    match items {
        [] => String::new(),
        [one] => one.clone(),
        [first @ .., last] => format!("{} and {last}", first.join(", ")),
    }
}

/// `template` with each key of `values` replaced by its value.
pub(super) fn fill(template: &str, values: &[(&str, &str)]) -> String {
    values.iter().fold(template.to_owned(), |text, (key, value)| text.replace(key, value))
}
