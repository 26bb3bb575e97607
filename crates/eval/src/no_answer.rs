//! [`NoAnswer`]: an item to which the model gave no words. It counts as an empty answer, and is reported.

use std::collections::BTreeMap;

use serde::{Deserialize, Serialize};

/// Why there are no words.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "kebab-case")]
pub enum NoAnswer {
    /// The model answered, but without text. It is kept as it is.
    Empty(String),
    /// The question was not answered. The next evaluation with the same log asks it again.
    Failed(String),
}

/// Reasons that are told by name; the others are counted all the same.
const REASONS: usize = 20;

/// How many items of an evaluation have no answer.
#[derive(Clone, Debug, Default, PartialEq, Eq, Serialize, Deserialize)]
pub struct NoAnswerCounts {
    /// Answers without text.
    pub empty: u64,
    /// Questions that failed, and are asked again by the same command.
    pub failed: u64,
    /// The first 20 reasons, each with its number of items.
    pub reasons: BTreeMap<String, u64>,
}

impl NoAnswerCounts {
    /// Counts those of an evaluation's items.
    pub fn of<'a>(items: impl IntoIterator<Item = &'a NoAnswer>) -> Self {
        let mut counts = Self::default();
        for none in items {
            let (count, reason) = match none {
                NoAnswer::Empty(reason) => (&mut counts.empty, reason),
                NoAnswer::Failed(reason) => (&mut counts.failed, reason),
            };
            *count += 1;
            if counts.reasons.contains_key(reason) || counts.reasons.len() < REASONS {
                *counts.reasons.entry(reason.clone()).or_default() += 1;
            }
        }
        counts
    }

    /// Whether every item has an answer.
    pub fn is_none(&self) -> bool {
        self.empty + self.failed == 0
    }
}
