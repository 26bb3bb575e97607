//! [`Account`]: what became of all that is there.

use serde::ser::SerializeStruct as _;
use serde::{Deserialize, Serialize, Serializer};

use crate::left_out::LeftOut;

/// Read, skipped for damage and left out, in one unit (files, documents). Their sum is what is there.
#[derive(Clone, Debug, Default, PartialEq, Eq, Deserialize)]
pub struct Account {
    /// All that is there, counted where it was found.
    pub there: u64,
    /// Read.
    pub read: u64,
    /// Damaged, by reason.
    pub skipped: LeftOut,
    /// Not wanted or not possible, by reason.
    pub left_out: LeftOut,
}

/// What became of all that is at the paths of a command.
#[derive(Clone, Debug, Default, PartialEq, Eq, Serialize, Deserialize)]
pub struct Accounts {
    /// The files, and what is no file.
    pub files: Account,
    /// The documents in files that could be opened.
    pub documents: Account,
}

impl Account {
    /// How many are in no count; below 0, how many are in two. 0, unless this program has a fault.
    pub fn in_no_count(&self) -> i64 {
        let counted = self.read + self.skipped.total() + self.left_out.total();
        self.there.cast_signed() - counted.cast_signed()
    }

    /// Adds what became of others.
    pub fn merge(&mut self, other: &Self) {
        self.there += other.there;
        self.read += other.read;
        self.skipped.merge(&other.skipped);
        self.left_out.merge(&other.left_out);
    }
}

impl Serialize for Account {
    fn serialize<S: Serializer>(&self, serializer: S) -> Result<S::Ok, S::Error> {
        let mut fields = serializer.serialize_struct("Account", 5)?;
        fields.serialize_field("there", &self.there)?;
        fields.serialize_field("read", &self.read)?;
        fields.serialize_field("skipped", &self.skipped)?;
        fields.serialize_field("left_out", &self.left_out)?;
        fields.serialize_field("in_no_count", &self.in_no_count())?;
        fields.end()
    }
}
