//! [`ItemResult`]: what the model answered to one test item, and what it is worth.

use serde::{Deserialize, Serialize};

use crate::no_answer::NoAnswer;
use crate::png::Png;

/// A test item with its prompt, answer and score: a line of the log, and an entry of `samples.json`.
#[derive(Clone, Debug, Default, PartialEq, Serialize, Deserialize)]
pub struct ItemResult {
    /// The test item's id.
    pub id: String,
    /// Its kind of question.
    pub category: String,
    /// Further kinds by which scores are reported.
    #[serde(default, skip_serializing_if = "Vec::is_empty")]
    pub further_categories: Vec<String>,
    /// The question; empty for captioning.
    pub question: String,
    /// The whole prompt, pictures written `<image>` and special tokens by name.
    pub prompt: String,
    /// What the model wrote, up to the stop string; in multiple choice the option that it found most likely.
    pub output: String,
    /// Why there are no words in it, where there is none.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub no_answer: Option<NoAnswer>,
    /// What was scored: see [`crate::task::Task::prediction`].
    pub prediction: String,
    /// The accepted answers or reference captions.
    pub answers: Vec<String>,
    /// In the unit of [`crate::run::Outcome::score`].
    pub score: f64,
    /// The options of multiple choice.
    #[serde(default, skip_serializing_if = "Vec::is_empty")]
    pub choices: Vec<String>,
    /// For each option, or each accepted answer, its log-probability after the prompt; where the task asks
    /// for it.
    #[serde(default, skip_serializing_if = "Vec::is_empty")]
    pub log_probs: Vec<f64>,
    /// Tokens of the first of them.
    #[serde(default, skip_serializing_if = "is_zero")]
    pub tokens: usize,
    /// Hashes (XXH3, 64 bits) of the prompt's pictures in order, demonstrations first.
    pub hashes: Vec<String>,
    /// The pictures of the test item as the model saw them; for the first items only, else empty.
    #[serde(default)]
    pub pictures: Vec<Png>,
}

impl ItemResult {
    /// Every kind by which its score is reported: its category, then the further ones.
    pub fn categories(&self) -> impl Iterator<Item = &str> {
        [&self.category].into_iter().chain(&self.further_categories).map(String::as_str)
    }
}

fn is_zero(number: &usize) -> bool {
    *number == 0
}
