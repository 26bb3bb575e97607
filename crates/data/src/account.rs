//! [`Account`]: what became of all that is there.

use serde::Serialize;

use crate::left_out::LeftOut;

/// Read, skipped for damage and left out, in one unit (documents, pictures, captions, members of
/// archives). Their sum is what is there.
#[derive(Clone, Debug, Default, PartialEq, Eq, Serialize)]
pub struct Account {
    /// Read.
    pub read: u64,
    /// Damaged, by reason.
    pub skipped: LeftOut,
    /// Not wanted or not possible, by reason.
    pub left_out: LeftOut,
}

impl Account {
    /// All that is there.
    pub fn there(&self) -> u64 {
        self.read + self.skipped.total() + self.left_out.total()
    }

    /// Adds what became of others.
    pub fn merge(&mut self, other: &Self) {
        self.read += other.read;
        self.skipped.merge(&other.skipped);
        self.left_out.merge(&other.left_out);
    }
}
