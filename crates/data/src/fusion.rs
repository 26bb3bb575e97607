//! [`fuse`]: one caption of an alt-text, which knows names, and a description, which says what the picture
//! shows (VeCap, Lai et al. 2023). A plain rule does what the paper asks a language model for.
//!
//! 1. The alt-text comes first, as it is. Where something follows, it is closed by a full stop if it has no
//!    mark.
//! 2. A sentence of the description follows if it has a content word that was not said before. A content word
//!    is a run of letters and digits that is no function word of English and no word for pictures as such;
//!    `cat` and `Cats` are one.
//! 3. A last sentence without a mark is left out if others come before it: the model was cut short there.
//! 4. A description that has the alt-text in it, word for word, stands alone.
//!
//! So no word of the alt-text is ever lost, and a model that repeats itself adds nothing.

use std::collections::HashSet;

/// Words that say nothing of what a picture shows.
const EMPTY: &[&str] = &[
    "a",
    "an",
    "the",
    "this",
    "that",
    "these",
    "those",
    "it",
    "its",
    "he",
    "she",
    "they",
    "his",
    "her",
    "their",
    "we",
    "you",
    "i",
    "my",
    "your",
    "our",
    "and",
    "or",
    "but",
    "nor",
    "so",
    "as",
    "if",
    "than",
    "then",
    "of",
    "in",
    "on",
    "at",
    "by",
    "to",
    "for",
    "from",
    "with",
    "into",
    "onto",
    "over",
    "under",
    "about",
    "up",
    "down",
    "out",
    "off",
    "is",
    "are",
    "was",
    "were",
    "be",
    "been",
    "being",
    "am",
    "do",
    "does",
    "did",
    "has",
    "have",
    "had",
    "can",
    "could",
    "will",
    "would",
    "may",
    "might",
    "there",
    "here",
    "which",
    "who",
    "whose",
    "what",
    "where",
    "some",
    "very",
    "also",
    "photo",
    "picture",
    "image",
    "photograph",
    "shown",
    "show",
];

/// A caption of two.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct FusedCaption {
    /// The caption.
    pub text: String,
    /// Whether it has a content word that the alt-text lacks.
    pub gained: bool,
}

/// Joins the two texts by the rule above.
pub fn fuse(alt_text: &str, description: &str) -> FusedCaption {
    let alt_text = alt_text.trim();
    let description = description.split_whitespace().collect::<Vec<_>>().join(" ");
    let mut sentences = sentences(&description);
    // A description that was cut by the limit on tokens ends in half a sentence.
    if sentences.len() > 1 && sentences.last().is_some_and(|last| !is_closed(last)) {
        sentences.pop();
    }
    let known: HashSet<String> = content_words(alt_text).collect();
    // The description alone, when it says all that the alt-text says: word for word, so that no name is lost.
    let alone = with_news(&sentences, HashSet::new()).join(" ");
    if holds(&alone, alt_text) {
        let gained = content_words(&alone).any(|word| !known.contains(&word));
        return FusedCaption { text: alone, gained };
    }
    let more = with_news(&sentences, known);
    let gained = !more.is_empty();
    let alt_text = if gained { closed(alt_text) } else { alt_text.to_owned() };
    FusedCaption {
        text: std::iter::once(alt_text.as_str()).chain(more).collect::<Vec<_>>().join(" "),
        gained,
    }
}

/// The sentences that have a content word which is not in `said` and in no sentence before.
fn with_news<'a>(sentences: &[&'a str], mut said: HashSet<String>) -> Vec<&'a str> {
    let is_new = |sentence: &&&str| {
        let before = said.len();
        said.extend(content_words(sentence));
        said.len() > before
    };
    sentences.iter().filter(is_new).copied().collect()
}

/// Whether the words of `text` hold those of `part`, one after the other, each with its capitals; the first
/// word of a part may differ in them.
fn holds(text: &str, part: &str) -> bool {
    let (text, part): (Vec<&str>, Vec<&str>) = (words(text).collect(), words(part).collect());
    let Some((first, rest)) = part.split_first() else { return true };
    let same = |window: &[&str]| window[0].to_lowercase() == first.to_lowercase() && window[1..] == *rest;
    text.windows(part.len()).any(same)
}

/// Words without the marks around them.
fn words(text: &str) -> impl Iterator<Item = &str> {
    const MARKS: [char; 14] = ['.', ',', ';', ':', '!', '?', '…', '"', '“', '”', '(', ')', '[', ']'];
    text.split_whitespace().map(|word| word.trim_matches(MARKS)).filter(|word| !word.is_empty())
}

/// The content words, in lower case and without the `s` of a plural.
fn content_words(text: &str) -> impl Iterator<Item = String> {
    let runs = text.split(|c: char| !c.is_alphanumeric()).filter(|word| !word.is_empty());
    runs.map(str::to_lowercase)
        .filter(|word| !EMPTY.contains(&word.as_str()))
        .map(|word| singular(&word).to_owned())
}

fn singular(word: &str) -> &str {
    match word.strip_suffix('s') {
        Some(stem) if stem.len() > 2 && !stem.ends_with(['s', 'u', 'i']) => stem,
        _ => word,
    }
}

/// The sentences: each ends with its mark before white space.
fn sentences(text: &str) -> Vec<&str> {
    let (mut found, mut start) = (Vec::new(), 0);
    for (at, _) in text.match_indices(' ') {
        if is_closed(&text[start..at]) {
            found.push(&text[start..at]);
            start = at + 1;
        }
    }
    found.push(&text[start..]);
    found.retain(|sentence| !sentence.is_empty());
    found
}

/// Whether a text ends with a mark, quotes and brackets after it left out.
fn is_closed(text: &str) -> bool {
    text.trim_end_matches(['"', '\'', '”', '’', ')', ']']).ends_with(['.', '!', '?', '…', '。', '！', '？'])
}

/// The text with a mark at its end.
fn closed(text: &str) -> String {
    let mark = if text.is_empty() || is_closed(text) { "" } else { "." };
    format!("{text}{mark}")
}
