//! Penn Treebank words of a caption, as pycocoevalcap's `PTBTokenizer` (Stanford CoreNLP 3.4.1, lower-cased,
//! punctuation removed) gives them. No Java.
//!
//! The tokenizer is a list of patterns (`RULES`): at each place the longest match is the next word, of
//! equally long ones that of the earlier rule. They were found with the Java program as a black box: all
//! short strings over small alphabets, every character of Unicode's first plane, and the seeded captions of
//! `scripts/reference/captions.py`.
//!
//! Kept from the original, though they look odd: brackets become the words `-lrb-`, `-rsb-`, …; `?!` and
//! `!!!` stay words while a lone `?` or `!` goes; `€` becomes `$` and `£` becomes `#`; letters newer than
//! Unicode 6.3 and all beyond the first plane are deleted. Not kept: there the next caption of the file
//! decides whether the last word of this one keeps its full stop. Here every caption is followed by one that
//! begins with `A`.

use std::sync::LazyLock;

use regex_automata::hybrid::dfa::{Cache, DFA};
use regex_automata::util::pool::Pool;
use regex_automata::{Anchored, Input, MatchKind, meta};

use Write::{As, Itself, Nothing, Quotes, Straight};

/// What becomes of a match.
#[derive(Clone, Copy)]
enum Write {
    /// No word: pycocoevalcap removes it as punctuation.
    Nothing,
    /// The match in lower case, with round brackets by name and its spaces unbreakable, as Stanford writes
    /// them.
    Itself,
    /// The same with straight apostrophes and without `&amp;`.
    Straight,
    /// Two quotation marks in ASCII, which go if they are of one kind.
    Quotes,
    /// Another word.
    As(&'static str),
}

/// Names in the patterns, in the order in which they are replaced. L, D and M are for use inside of brackets.
const NAMES: [(&str, &str); 25] = [
    ("{hyphened}", "(?:[A-Za-z0-9][A-Za-z0-9.,]*(?:{H}{part})+)"),
    ("{dotted}", "(?:{word}(?:[.!?]{word})+)"),
    ("{word}", "(?:(?:[{L}{M}]|{entity})(?:[{L}{D}{M}]|{entity})*)"),
    ("{entity}", "&(?i:[a-z](?:acute|cedil|circ|grave|tilde|uml));"),
    ("{part}", "(?:[{L}{D}]+)"),
    ("{number}", "(?:[{D}]*(?:[.,:\u{66b}\u{66c}][{D}]+)+|[{D}]+)"),
    // What addresses are made of.
    ("{host}", r"[^\s\u{a0}().<>{|}]"),
    ("{path}", r#"[^ \t\n"()<>|]*[^ \t\n"()<>|{},.?!-]"#),
    ("{mail}", r#"[^ \t\n\u{a0}"()<>|{}]"#),
    ("{name}", r##"[^\s"'$(),./0-9:;<=>?@\[\\\]^_`{|}!-]"##),
    ("{label}", r#"[^ \t\n\u{a0}"().<>|{}]+"#),
    ("{stroke}", "(?:[A-Za-z0-9]+(?:-[A-Za-z]+)*)"),
    ("{tag}", r"[A-Za-z][A-Za-z0-9_:.-]*"),
    ("{attribute}", r#"[A-Za-z][A-Za-z0-9_:.-]*(?: *= *(?:"[^"\n]*"|'[^'\n]*'))?"#),
    ("{ending}", ENDING),
    ("{leading}", LEADING),
    ("{opener}", OPENERS),
    ("{extension}", EXTENSIONS),
    ("{space}", r"[ \u{a0}]"),
    ("{Q}", "(?:{A}|`)"),
    ("{A}", r"(?:['’\u{92}]|&apos;)"),
    ("{H}", r"[-‐‑֊]"),
    // A soft hyphen counts as a letter.
    ("{L}", r"[\p{L}&&\p{age:6.3}&&[\u{0}-\u{ffff}]]\u{ad}"),
    ("{D}", r"[\p{Nd}&&\p{age:6.3}&&[\u{0}-\u{ffff}]]"),
    ("{M}", MARKS),
];

/// Marks and vowel signs that are parts of words; other ones are deleted.
const MARKS: &str = r"
\u{2c2}-\u{2c5}\u{2d2}-\u{2df}\u{2e5}-\u{2eb}\u{2ed}\u{2ef}-\u{36f}\u{375}\u{378}\u{379}\u{384}\u{385}
\u{3f6}\u{483}-\u{487}\u{55a}-\u{55f}\u{591}-\u{5bd}\u{5bf}\u{5c1}\u{5c2}\u{5c4}\u{5c5}\u{5c7}
\u{615}-\u{61a}\u{64b}-\u{65e}\u{670}\u{6d6}-\u{6e4}\u{6e7}-\u{6ed}\u{6fd}\u{6fe}\u{70f}\u{711}
\u{730}-\u{74c}\u{7a6}-\u{7b0}\u{7eb}-\u{7f3}\u{900}-\u{903}\u{93c}\u{93e}-\u{94e}\u{951}-\u{955}\u{962}
\u{963}\u{981}-\u{983}\u{9bc}\u{9be}-\u{9c4}\u{9c7}\u{9c8}\u{9cb}-\u{9cd}\u{9d7}\u{9e2}\u{9e3}
\u{a01}-\u{a03}\u{a3c}\u{a3e}-\u{a4f}\u{a81}-\u{a83}\u{abc}\u{abe}-\u{acf}\u{b82}\u{bbe}-\u{bc2}
\u{bc6}-\u{bc8}\u{bca}-\u{bcd}\u{c01}-\u{c03}\u{c3e}-\u{c56}\u{d3e}-\u{d44}\u{d46}-\u{d48}\u{e31}
\u{e34}-\u{e3a}\u{e47}-\u{e4e}\u{eb1}\u{eb4}-\u{ebc}\u{ec8}-\u{ecd}";

/// Of dates, places and firms, most at the end of a sentence; those of states that are words too with a
/// capital letter only.
const ENDING: &str = "\
(?:(?i:al|ala|apr|ariz|assn|aug|bldg|blvd|bros|calif|co|colo|conn|corp|cos|ct|dec|esq|est|etc|ext|feb|\
fla|fri|ga|inc|ind|intl|jan|jr|jul|jun|kan|kans|ky|ltd|mar|md|mich|minn|mo|mon|mont|neb|nev|nov|oct|\
okla|penn|ph[.]d|plc|rd|sep|sept|seq|sq|sr|tel|tenn|thu|thurs|tue|tues|univ|va|vt|wed|wis|wisc|wyo)|\
A(?i:rk)|D(?i:el)|I(?i:ll)|L(?i:a)|M(?i:ass|iss)|O(?i:re)|P(?:a|A|ty)|T(?i:ex)|W(?i:ash))";

/// Of titles and such, before other words.
const LEADING: &str = "\
(?:(?i:adj|adm|adv|alex|assoc|asst|atty|ave|brig|capt|cf|cie|cmdr|col|comdr|cpl|dept|dr|ft|gen|gov|hon|\
jos|lt|maj|messrs|mlle|mme|mr|mrs|ms|mt|natl|ph|pres|prof|pvt|rep|rev|rt|sen|sgt|st|ste|supt|treas|vs|\
wm)|[Mm](?:fg|tg))";

/// With a capital letter they begin a sentence: a single letter before them loses its full stop.
const OPENERS: &str = "\
(?:A(?i:n|bout|ccording|fter|s|t)?|B(?i:ut)|E(?i:arlier)|H(?i:er?|ere|owever)|I(?i:f|n|t)|L(?i:ast)|\
M(?i:any|ore)|N(?i:ow)|O(?i:nce|ne|ther|ur)|S(?i:he|ince|o|ome|uch)|T(?i:hat|he|heir|hen|here|hese|hey|\
his)|W(?i:e|hat|hen|hile)|Y(?i:et|ou))";

/// Of file names.
const EXTENSIONS: &str = "\
(?i:bat|bmp|c|class|cgi|cpp|dll|docx?|exe|gif|gz|h|html?|jar|java|jpe?g|mov|mp3|pdf|php|pl|png|ppt|ps|\
py|sql|tar|txt|wav|x|xml|zip)";

/// What is a word, and how it is written. Where there is a group, it is the word, and the rest must follow.
const RULES: &[(&str, Write)] = &[
    (r"\u{ad}+", Nothing),
    // Words in two parts.
    (r"((?i:can))(?i:not)", Itself),
    (r"((?i:gon|wan))(?i:na)", Itself),
    (r"((?i:got))(?i:ta)", Itself),
    (r"((?i:gim|lem))(?i:me)", Itself),
    (r"('(?i:t))(?i:is|was)", Itself),
    (r"([A-Za-z]*[A-Za-z--[Nn]])(?i:n){A}(?i:t)", Itself),
    (r"(?i:n){A}(?i:t)", Straight),
    (r"(?i:[dlo]){Q}[{L}{D}]{2,}", Itself),
    (r"[A-Zn--[IY]]{Q}[{L}]{2,}", Itself),
    (r"([{L}]+){A}(?i:s|d|m|ll|re|ve)[^A-Za-z]", Itself),
    (r"({A}(?i:s|d|m|ll|re|ve))[^A-Za-z]", Straight),
    // A curly apostrophe can't open a quotation, so letters may follow.
    (r"([{L}]+)(?:’|&apos;)(?i:s|d|m|ll|re|ve)", Itself),
    (r"(?:’|&apos;)(?i:s|d|m|ll|re|ve)", Straight),
    (r"(?i:[djl]){A}", Itself),
    (r"((?i:y){A})[{L}]", Itself),
    // Words with an apostrophe inside or in front.
    (r"[{L}]+[aeiouyAEIOUY]{Q}[aeiouA-Z][{L}]*", Itself),
    (r"(?i:c{A}(?:mon|est)|qu{A}[{L}]{2,}|cap{A}n|nat{A}l|li{A}l|ev{A}ry)", Itself),
    (r"{A}(?i:em|til|cause|[2-9]0s)", Itself),
    (r"{A}(?i:n){A}", Itself),
    (r"((?i:ol){A})[^DdMmSs]", Itself),
    (r"({A}(?i:n|[{D}]{2}))\s", Itself),
    // Words, numbers, and both with hyphens and strokes.
    (r"{word}", Itself),
    (r"[{D}]+[{L}][{L}{D}]*", Itself),
    (r"[-+]?{number}", Itself),
    (r"{hyphened}", Itself),
    (r"{part}(?:(?:{H}|_)(?:(?i:[dlo]){A}[{L}])?{part})+", Itself),
    (r"{stroke}(?:\\?/{stroke}){1,2}", Itself),
    (r"(?i:anti|pro)-", Itself),
    (r"(?i:[cf]#|c\+\+)", Itself),
    (r"[A-Z]+(?:(?:[+&]|&amp;)[A-Z]+)+", Straight),
    (r"[A-Z]+\$", Itself),
    // Full stops that belong to a word.
    (r"[A-Za-z](?:\.[A-Za-z])+\.", Itself),
    (r"[A-Za-z]\.", Itself),
    (r"([A-Za-z])\.\s+(?:{opener}|M(?i:r|s)\.|</?{tag}/?>|<[!?][^>\n]*>)\s", Itself),
    (r"({ending}\.)[{L}]", Itself),
    (r"(?:{ending}|{leading})\.", Itself),
    (r"((?i:art|ca|figs?|nos?|op|pp)\.)\s?[{D}]", Itself),
    (r"((?:{part}|{word}|{hyphened}|{dotted}|{part}(?:(?:{H}|_){part})+)\.)[,:;]", Itself),
    (r"{dotted}", Itself),
    (r"({part}(?:\.{part})*\.{extension})[^A-Za-z0-9]", Itself),
    // Addresses, tags, entities.
    (r"(?i:https?)://[^\s]{path}", Itself),
    (r"(?i:www)\.(?:{host}+\.)+[A-Za-z]{2,4}(?:/{path})?", Itself),
    (
        // A name, or words with full stops between.
        r##"(?:{name}+|{word}(?:\.{word})*)\.(?:com|net|org|edu)(?:/{path})?"##,
        Itself,
    ),
    (r"(?:<|&lt;)?[A-Za-z0-9]{mail}*@(?:{label}\.)*{label}>?", Itself),
    (r"@[A-Za-z_][A-Za-z0-9_]*", Itself),
    (r"#[{L}{M}]+", Itself),
    (r"<{tag}(?: +{attribute})* */?>|</{tag} *>|<[!?][A-Za-z-][^>\n]*>", Itself),
    (r"(?i:&amp;)", As("&")),
    (r"(?i:&lt;)", As("<")),
    (r"(?i:&gt;)", As(">")),
    ("&(?:quot|apos);", Nothing),
    (r"(?i:&(?:nbsp|mdash|ndash|MD);)", Nothing),
    (r"&(?:#[0-9]+|[TLU][LR]|QUOT|APOS);", Itself),
    // Telephone numbers and fractions, of which spaces are part.
    (r"\([0-9]{2,3}\){space}?[0-9]{3,4}(?:-|{space})[0-9]{3,5}", Itself),
    (r"\+?(?:[0-9]{2}{space})?[0-9]{2,4}(?:-|{space})[0-9]{3,4}(?:(?:-|{space})[0-9]{3,5}){1,2}", Itself),
    (r"(?:[{D}]{1,4}(?:-|{space}))?[{D}]{1,4}[/⁄][{D}]{1,4}", Itself),
    (r"[0-9]{1,4}[-/][0-9]{1,4}[-/][0-9]{1,5}", Itself),
    ("½", As("1/2")),
    ("¼", As("1/4")),
    ("¾", As("3/4")),
    ("⅓", As("1/3")),
    ("⅔", As("2/3")),
    // Faces.
    (r"([<>]?[:;=][-o*']?[()DPdpO\\|@\[\]{])[^A-Za-z0-9]", Itself),
    (r"[-^x=~<>']_[-^x=~<>']", Itself),
    (r"\([-^x=~<>'][_.-]?[-^x=~<>']\)", Itself),
    // Symbols that are words, and punctuation.
    (r"\(", As("-lrb-")),
    (r"\)", As("-rrb-")),
    (r"\[", As("-lsb-")),
    (r"\]", As("-rsb-")),
    (r"\{", As("-lcb-")),
    (r"\}", As("-rcb-")),
    (r"[€¤₠\u{80}]", As("$")),
    ("£", As("#")),
    ("¢", As("cents")),
    (r#"\.|…|\.{3,}|\. \. \.|-{1,4}|\u{ad}|[–—―\u{96}\u{97}]+|[?!,:;`'"‘’‛“”«»‹›\u{91}-\u{94}]|''"#, Nothing),
    (r"[?!]{2,}|-{5,}|#+|\*+|\\\*|-(?i:[lr][rsc]b)-|_+|@+|<<|>>", Itself),
    (r"[`‘’‚‛“”„«»‹›\u{91}-\u{94}]{2}", Quotes),
    (r"[$%&+/<=>\\^|~]", Itself),
    (SYMBOLS, Itself),
];

/// Other characters that are words of their own; what no rule takes is deleted.
const SYMBOLS: &str = r"
[¡¥-©¬®-´¶-¹¿×÷\u{37e}\u{387}\u{589}\u{5be}\u{5c0}\u{5c3}\u{5c6}\u{5f3}\u{5f4}\u{600}-\u{603}\u{606}-\u{60c}
\u{614}\u{61b}\u{61e}\u{61f}\u{66a}\u{66d}\u{6d4}\u{700}-\u{70d}\u{7f6}-\u{7f8}\u{964}\u{965}\u{e3f}\u{e4f}
\u{1fbd}\u{2016}\u{2017}\u{201a}\u{201e}-\u{2023}\u{2030}-\u{2038}\u{203b}\u{203e}-\u{2042}\u{2044}\u{2070}
\u{2074}-\u{207e}\u{2080}-\u{208e}\u{20a4}\u{2100}\u{2101}\u{2103}-\u{2106}\u{2108}\u{2109}\u{2114}
\u{2116}-\u{2118}\u{211e}-\u{2123}\u{2125}\u{2127}\u{2129}\u{212e}\u{213a}\u{213b}\u{2140}-\u{2144}
\u{214a}-\u{214d}\u{214f}\u{2155}-\u{215e}\u{2190}-\u{2bff}\u{3001}\u{3002}\u{3012}\u{30fb}\u{ff01}-\u{ff0f}
\u{ff1a}-\u{ff20}\u{ff3b}-\u{ff40}\u{ff5b}-\u{ff65}\u{ffe0}\u{ffe1}\u{ffe5}\u{ffe6}]";

/// The compiled rules.
struct Lexer {
    /// All rules at once.
    longest: DFA,
    /// Of rules with a group, in which the group is the word and the rest must follow: each by itself.
    groups: Vec<Option<meta::Regex>>,
}

static LEXER: LazyLock<Lexer> = LazyLock::new(|| {
    let pattern = |rule: &str| {
        NAMES.iter().fold(rule.to_owned(), |rule, (name, piece)| rule.replace(name, piece)).replace('\n', "")
    };
    let patterns: Vec<String> = RULES.iter().map(|(rule, _)| pattern(rule)).collect();
    let all = DFA::config().match_kind(MatchKind::All).cache_capacity(CACHE_BYTES);
    let longest = DFA::builder().configure(all).build_many(&patterns).expect("the rules are patterns");
    let alone = |pattern: &String| {
        let regex = meta::Regex::new(pattern).expect("a rule is a pattern");
        (regex.captures_len() > 1).then_some(regex)
    };
    Lexer { longest, groups: patterns.iter().map(alone).collect() }
});

/// The most memory of a cache: of the states that the lexer has met.
const CACHE_BYTES: usize = 16 << 20;

const LINE_BREAKS: [char; 7] = ['\n', '\r', '\u{b}', '\u{c}', '\u{85}', '\u{2028}', '\u{2029}'];

/// How the caption after this one begins.
const NEXT: &str = "\nA ";

/// Makes the words of captions, in any number of threads.
pub struct PtbTokenizer {
    /// States of the lexer that captions have led to, for each thread that is at work. They are worth keeping
    /// for a whole test set: a fresh cache finds its states again. What a caption gives does not depend on
    /// them.
    caches: Pool<Cache, fn() -> Cache>,
}

impl Default for PtbTokenizer {
    fn default() -> Self {
        Self::new()
    }
}

impl PtbTokenizer {
    /// With empty caches.
    pub fn new() -> Self {
        Self { caches: Pool::new(|| LEXER.longest.create_cache()) }
    }

    /// The words of `caption`, one space between. A word can hold an unbreakable space: CIDEr and BLEU split
    /// there, ROUGE does not.
    pub fn tokenize(&self, caption: &str) -> String {
        let text = caption.replace(LINE_BREAKS, " ") + NEXT;
        let end = text.len() - NEXT.len();
        let (mut words, mut at) = (String::new(), 0);
        let mut cache = self.caches.get();
        while at < end {
            let Some((rule, stop)) = LEXER.longest_match(&mut cache, &text, at) else {
                at += text[at..].chars().next().map_or(1, char::len_utf8);
                continue;
            };
            push(&mut words, &text[at..stop], RULES[rule].1);
            at = stop;
        }
        words
    }
}

impl Lexer {
    /// The rule of the word at `at`, and where the word stops.
    fn longest_match(&self, cache: &mut Cache, text: &str, at: usize) -> Option<(usize, usize)> {
        let input = Input::new(text).range(at..).anchored(Anchored::Yes);
        // It can't fail: no byte stops it, and the cache may be cleared as often as it likes.
        let found = self.longest.try_search_fwd(cache, &input).ok().flatten()?;
        let rule = found.pattern().as_usize();
        let Some(regex) = &self.groups[rule] else { return Some((rule, found.offset())) };
        let mut captures = regex.create_captures();
        regex.captures(input, &mut captures);
        Some((rule, captures.get_group(1)?.end))
    }
}

fn push(words: &mut String, found: &str, write: Write) {
    let before = words.len();
    if before > 0 {
        words.push(' ');
    }
    let start = words.len();
    match write {
        Nothing => {}
        Quotes => words.extend(found.chars().map(ascii_quote)),
        As(word) => words.push_str(word),
        Itself => push_lower(words, found),
        Straight => {
            let straight = found.replace(['’', '\u{92}'], "'").replace("&apos;", "'").replace("&amp;", "&");
            push_lower(words, &straight);
        }
    }
    if matches!(&words[start..], "" | "``" | "''") {
        words.truncate(before);
    }
}

fn ascii_quote(mark: char) -> &'static str {
    match mark {
        '‘' | '‛' | '‹' | '\u{91}' | '`' => "`",
        '’' | '›' | '\u{92}' => "'",
        '“' | '«' | '\u{93}' => "``",
        '”' | '»' | '\u{94}' => "''",
        '‚' => "‚",
        _ => "„",
    }
}

fn push_lower(words: &mut String, found: &str) {
    for c in found.to_lowercase().chars() {
        match c {
            '(' => words.push_str("-lrb-"),
            ')' => words.push_str("-rrb-"),
            ' ' => words.push('\u{a0}'),
            '\u{ad}' => {}
            c => words.push(c),
        }
    }
}
