//! [`Question`]: one test or demonstration item of a benchmark.

use anyhow::{Result, bail, ensure};

use crate::document::{Document, Image, Segment, Special};

/// Pictures, a question about them and its accepted answers. A captioning item has an empty `text`.
#[derive(Clone, Debug, Default, PartialEq)]
pub struct Question {
    /// `task/split/index`.
    pub id: String,
    /// The kind of question, for scores by kind: `what`, `colour`, `count`, `where`, `yes-no`, `caption`, …
    pub category: String,
    /// Further kinds by which its score is reported, such as how tall its letters are; of most there are
    /// none.
    pub further_categories: Vec<String>,
    /// The pictures it is about, in order.
    pub pictures: Vec<Image>,
    /// The question; empty for captioning. `<image>` in it stands for the pictures, once for each; where
    /// there is none, they come before it.
    pub text: String,
    /// The accepted answers or reference captions; never empty.
    pub answers: Vec<String>,
    /// The options of a multiple-choice question, else empty.
    pub choices: Vec<String>,
    /// How the answer is found, for chain-of-thought demonstrations; may be empty.
    pub reasoning: String,
}

impl Question {
    /// A captioned picture, or a conversation of one question and one answer about one picture. Questions are
    /// of one category that begin with the same two words.
    ///
    /// # Errors
    /// Another kind of document.
    pub fn of(document: Document) -> Result<Self> {
        let Document { id, segments, .. } = document;
        let (mut pictures, mut questions, mut replies) = (Vec::new(), Vec::new(), Vec::new());
        let (mut users, mut assistants) = (0, 0);
        for segment in segments {
            match segment {
                Segment::Image(picture) => pictures.push(picture),
                Segment::Text { text, .. } if users > assistants => questions.push(text),
                Segment::Text { text, .. } => replies.push(text),
                Segment::Token { token: Special::User, .. } => users += 1,
                Segment::Token { token: Special::Assistant, .. } => assistants += 1,
                Segment::Token { token: Special::End, .. } => {}
                Segment::Token { token, .. } => {
                    bail!("{id}: the token {token:?} is in no item of a benchmark")
                }
            }
        }
        ensure!(
            pictures.len() == 1,
            "{id}: {} pictures; an item of a benchmark is about one",
            pictures.len()
        );
        ensure!(
            users == assistants && users <= 1,
            "{id}: {users} turns of the user and {assistants} of the assistant; an item of a \
             benchmark has one of each"
        );
        let (text, answer) = (joined(&questions), joined(&replies));
        ensure!(!answer.is_empty(), "{id}: no answer");
        ensure!(users == 0 || !text.is_empty(), "{id}: no question");
        let first: Vec<&str> = text.split_whitespace().take(2).collect();
        // The kind of a question by its first words, as VQAv2 does it: "how many", "is the".
        let category = if users == 0 { "caption".to_owned() } else { first.join(" ").to_lowercase() };
        Ok(Self { id, category, pictures, text, answers: vec![answer], ..Self::default() })
    }
}

fn joined(texts: &[String]) -> String {
    texts.concat().trim().to_owned()
}

/// A question by which two are told to be the same: lower case, single spaces, without places of
/// pictures, and without punctuation at its end and quotes around it.
pub fn normalised_question(text: &str) -> String {
    let words = text.replace("<image>", " ").to_lowercase();
    let joined = words.split_whitespace().collect::<Vec<_>>().join(" ");
    let quotes = |c: char| matches!(c, '"' | '\'' | '\u{2018}'..='\u{201d}' | '\u{ab}' | '\u{bb}' | '`');
    let ends = |c: char| c == ' ' || quotes(c) || ".?!:;,\u{2026}\u{3002}\u{ff1f}\u{ff01}\u{61f}".contains(c);
    joined.trim_end_matches(ends).trim_start_matches(quotes).trim().to_owned()
}
