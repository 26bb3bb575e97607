//! [`SkippedItems`]: items that could not be read and were left out.

use std::collections::BTreeMap;

use anyhow::Error;
use mm1_data::error_line::error_line;
use mm1_data::loader::SkippedSample;

/// Why each item was left out, by its place: an item that is met twice is listed once.
#[derive(Debug, Default)]
pub struct SkippedItems {
    /// From `task/split/index` to the reason.
    reasons: BTreeMap<String, String>,
}

impl SkippedItems {
    /// Adds the item `index` of the `split` (`test` or `train`) of a task.
    pub(crate) fn add(&mut self, task: &str, split: &str, index: u64, error: &Error) {
        self.reasons.insert(format!("{task}/{split}/{index}"), error_line(error));
    }

    /// Adds those of `others`.
    pub(crate) fn append(&mut self, others: &mut Self) {
        self.reasons.append(&mut others.reasons);
    }

    /// Sorted by place, to be shown to the person.
    pub fn list(&self) -> Vec<SkippedSample> {
        let skipped =
            |(id, reason): (&String, &String)| SkippedSample { id: id.clone(), reason: reason.clone() };
        self.reasons.iter().map(skipped).collect()
    }
}
