//! [`LeftOut`]: what was there and is not in a document, counted by reason.

use std::collections::BTreeMap;

use serde::{Deserialize, Serialize};

/// How many pieces of a record its document lacks, or has in another form, by reason: pictures that are not
/// there, turns that answer nothing. A reason is a few words without names, the same for every document.
#[derive(Clone, Debug, Default, PartialEq, Eq, Serialize, Deserialize)]
#[serde(transparent)]
pub struct LeftOut(BTreeMap<String, u64>);

impl LeftOut {
    /// Counts `count` more for a reason; none, for 0.
    pub fn add(&mut self, reason: &str, count: u64) {
        if count > 0 {
            *self.0.entry(reason.to_owned()).or_default() += count;
        }
    }

    /// One count for each reason.
    pub fn of<'a>(counts: impl IntoIterator<Item = (&'a str, u64)>) -> Self {
        let mut all = Self::default();
        counts.into_iter().for_each(|(reason, count)| all.add(reason, count));
        all
    }

    /// Adds what was counted elsewhere.
    pub fn merge(&mut self, other: &Self) {
        other.iter().for_each(|(reason, count)| self.add(reason, count));
    }

    /// Reasons in the order of the alphabet, with their counts.
    pub fn iter(&self) -> impl Iterator<Item = (&str, u64)> {
        self.0.iter().map(|(reason, count)| (reason.as_str(), *count))
    }

    /// The count for a reason.
    pub fn count(&self, reason: &str) -> u64 {
        self.0.get(reason).copied().unwrap_or_default()
    }

    /// All that is counted.
    pub fn total(&self) -> u64 {
        self.0.values().sum()
    }

    /// Whether nothing is left out.
    pub fn is_empty(&self) -> bool {
        self.0.is_empty()
    }
}
