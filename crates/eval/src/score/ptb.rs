//! Penn Treebank words of a caption, as pycocoevalcap's `PTBTokenizer` (Stanford CoreNLP 3.4.1, lower-cased, its list of
//! punctuation removed) gives them for ordinary captions. No Java.
//!
//! Kept from the original, though they look odd: brackets become the words `-lrb-`, `-rsb-`, …; `?!` and `!!!` stay words
//! while a lone `?` or `!` goes; `€` becomes `$` and `£` becomes `#`. Not covered: emoticons (`:-)`), SGML tags (`<b>`),
//! vulgar fractions (`½`), and nested apostrophes (`x'y'z`).

/// Abbreviations that keep their full stop wherever they stand.
const ABBREVIATIONS: &str = " al apr assn aug ave blvd bros calif capt cf co col corp dec dept dr est etc ext feb fri ft gen \
    gov inc jan jr jul jun lt ltd mar mon mr mrs ms mt nov oct pres prof rd rep rev sen sep sept sgt sr st tel thu tue univ \
    vs wed ";

/// Words that keep their full stop before a number only.
const BEFORE_NUMBER: &str = " art fig no p pp ";

/// Endings that are words of their own.
const CLITICS: [&str; 7] = ["n't", "'ve", "'ll", "'re", "'s", "'d", "'m"];

/// The words of `caption`, lower-cased, without punctuation.
pub fn words(caption: &str) -> Vec<String> {
    let chunks: Vec<Vec<char>> = caption.split_whitespace().map(|c| c.chars().collect()).collect();
    let mut words = Vec::new();
    for (i, chunk) in chunks.iter().enumerate() {
        let next = chunks.get(i + 1).and_then(|c| c.first()).copied();
        let mut at = 0;
        while at < chunk.len() {
            let rest = &chunk[at..];
            at += if starts_word(rest) { word(rest, next, &mut words) } else { symbol(rest, &mut words) };
        }
    }
    words
}

fn starts_word(rest: &[char]) -> bool {
    let digit = |i: usize| rest.get(i).is_some_and(char::is_ascii_digit);
    match rest[0] {
        '#' | '@' => rest.get(1).is_some_and(|c| c.is_alphabetic()),
        '.' | '-' => digit(1),
        '\'' => {
            let text: String = rest.iter().collect::<String>().to_lowercase();
            let word = text.trim_end_matches(['.', ',']);
            (digit(1) && digit(2))
                || matches!(word, "'s" | "'em" | "'til" | "'cause" | "'n" | "'n'" | "'tis" | "'twas")
        }
        c => c.is_alphanumeric(),
    }
}

/// Takes one word from the start of `rest`; returns how many characters it took.
fn word(rest: &[char], next_chunk: Option<char>, words: &mut Vec<String>) -> usize {
    let mut end = 1;
    while end < rest.len() && (continues(rest, end)) {
        end += 1;
    }
    if rest.starts_with(&['\'', 'n', '\'']) {
        end = 3;
    }
    let text: String = rest[..end].iter().collect::<String>().to_lowercase();
    let stop = rest.get(end) == Some(&'.') && rest.get(end + 1) != Some(&'.');
    if stop && keeps_stop(&text, if end + 1 == rest.len() { next_chunk } else { None }) {
        words.push(text + ".");
        return end + 1;
    }
    split_clitics(text, words);
    end
}

/// Whether the character at `i` belongs to the word that began before it.
fn continues(rest: &[char], i: usize) -> bool {
    let (last, c) = (rest[i - 1], rest[i]);
    if c.is_alphabetic()
        && rest[..i].contains(&'.')
        && rest[..i].iter().all(|c| c.is_ascii_digit() || *c == '.')
    {
        return false; // 19.5cm is two words; 5cm is one.
    }
    if c.is_alphanumeric() {
        return true;
    }
    let Some(&next) = rest.get(i + 1) else { return false };
    match c {
        '-' | '/' | '_' | '.' | '@' => last.is_alphanumeric() && next.is_alphanumeric(),
        '\'' | '’' => last.is_alphanumeric() && next.is_alphabetic(),
        ':' | ',' => last.is_ascii_digit() && next.is_ascii_digit(),
        '&' => last.is_uppercase() && next.is_uppercase(),
        _ => false,
    }
}

/// Whether the full stop after `text` is part of the word; `next` is the first character of what follows on the line.
fn keeps_stop(text: &str, next: Option<char>) -> bool {
    let listed = |list: &str| list.contains(&format!(" {text} "));
    let letter = |part: &str| part.chars().count() == 1 && part.chars().all(char::is_alphabetic);
    let acronym = text.contains('.') && text.split('.').all(|part| letter(part) || part == "ph");
    acronym
        || listed(ABBREVIATIONS)
        || (letter(text) && next.is_some())
        || (listed(BEFORE_NUMBER) && next.is_some_and(|c| c.is_ascii_digit()))
}

fn split_clitics(text: String, words: &mut Vec<String>) {
    let halves = match text.as_str() {
        "cannot" | "gonna" | "gotta" | "wanna" | "gimme" | "lemme" => 3,
        "y'all" | "'tis" | "'twas" => 2,
        _ => 0,
    };
    if halves > 0 {
        words.extend([text[..halves].to_string(), text[halves..].to_string()]);
        return;
    }
    let straight = text.replace('’', "'");
    let (mut stem, mut tail) = (straight.as_str(), Vec::new());
    while let Some(clitic) = CLITICS.iter().find(|c| stem.len() > c.len() && stem.ends_with(**c)) {
        stem = &stem[..stem.len() - clitic.len()];
        tail.push((*clitic).to_string());
    }
    words.push(if tail.is_empty() { text } else { stem.to_string() });
    words.extend(tail.into_iter().rev());
}

/// Takes one symbol from the start of `rest` and keeps it where the original does; returns how many characters it took.
fn symbol(rest: &[char], words: &mut Vec<String>) -> usize {
    let run = |set: &[char]| rest.iter().take_while(|c| set.contains(c)).count();
    let kept = match rest[0] {
        '(' => "-lrb-".to_string(),
        ')' => "-rrb-".to_string(),
        '[' => "-lsb-".to_string(),
        ']' => "-rsb-".to_string(),
        '{' => "-lcb-".to_string(),
        '}' => "-rcb-".to_string(),
        '€' => "$".to_string(),
        '£' => "#".to_string(),
        '?' | '!' => {
            let len = run(&['?', '!']);
            if len > 1 {
                words.push(rest[..len].iter().collect());
            }
            return len;
        }
        '\'' | '’' | '‘' | '"' | '`' | '“' | '”' | '.' | ',' | ':' | ';' | '-' | '–' | '—' | '…' =>
        {
            return 1;
        }
        // Characters that Stanford's lexer cannot tokenise are deleted: variation selectors and all beyond the first plane.
        c if c.is_control() || ('\u{fe00}'..='\u{fe0f}').contains(&c) || c > '\u{ffff}' => return 1,
        c => c.to_string(),
    };
    words.push(kept);
    1
}
