//! [`Cursor`]: where a run is in its data, and what it has left out.

use std::collections::BTreeMap;

use serde::{Deserialize, Serialize};

/// Where a run is in its data: the same for all ranks, however many there are, so that a run resumes with
/// another number of them. A source that leaves the mixture and comes back resumes where it was.
#[derive(Clone, Debug, Default, PartialEq, Eq, Serialize, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct Cursor {
    /// The next row.
    pub row: u64,
    /// The place in each source, by the name of the part.
    pub sources: BTreeMap<String, SourceCursor>,
}

/// Where a run is in one source.
#[derive(Clone, Debug, Default, PartialEq, Eq, Serialize, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct SourceCursor {
    /// The next index; so also the number of documents that were taken.
    pub next: u64,
    /// How many pieces of the document at `next` were taken: above 0 inside a text that is longer than a row.
    #[serde(default, skip_serializing_if = "is_zero")]
    pub pieces: u64,
    /// How many of them were damaged and skipped, whichever rank's row they would have been in.
    pub skipped: u64,
    /// How many of this rank's were found damaged only when they were decoded. One rank's count is the sum of
    /// the counts of several; on a resume rank 0 continues it.
    #[serde(default, skip_serializing_if = "is_zero")]
    pub undecodable: u64,
    /// How many were longer than a row and cut; texts without pictures never are.
    pub truncated: u64,
}

fn is_zero(number: &u64) -> bool {
    *number == 0
}

impl Cursor {
    /// Damaged documents that were skipped.
    pub fn skipped(&self) -> u64 {
        self.sources.values().map(|s| s.skipped + s.undecodable).sum()
    }

    /// Documents that were longer than a row and cut.
    pub fn truncated(&self) -> u64 {
        self.sources.values().map(|s| s.truncated).sum()
    }
}

/// A damaged document.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub struct SkippedSample {
    /// `source/train/index`.
    pub id: String,
    /// What is wrong with it, and with which file.
    pub reason: String,
}
