//! The first training documents of another source, and no more of it.

use std::sync::Arc;

use anyhow::{Result, ensure};

use super::interface::{Source, Split};
use crate::document::Document;

/// A source that ends after a number of training documents and holds nothing out.
pub struct FirstDocuments {
    of: Arc<dyn Source>,
    count: u64,
}

impl FirstDocuments {
    /// The first `count` training documents of `of`, in their order; after the last the first follows.
    ///
    /// # Errors
    /// No document; more than `of` has for training.
    pub fn new(of: Arc<dyn Source>, count: u64) -> Result<Self> {
        ensure!(count > 0, "give 1 at least");
        let there = of.len(Split::Train);
        ensure!(
            there.is_none_or(|there| count <= there),
            "the source has {} for training: give at most that",
            there.unwrap_or_default()
        );
        Ok(Self { of, count })
    }

    fn place(&self, split: Split, index: u64) -> Result<u64> {
        ensure!(split == Split::Train, "nothing is held out of the first {} documents", self.count);
        Ok(index % self.count)
    }
}

impl Source for FirstDocuments {
    fn document(&self, split: Split, index: u64) -> Result<Document> {
        self.of.document(split, self.place(split, index)?)
    }

    fn len(&self, split: Split) -> Option<u64> {
        Some(if split == Split::Train { self.count } else { 0 })
    }

    fn texts(&self, split: Split, index: u64) -> Result<Vec<String>> {
        self.of.texts(split, self.place(split, index)?)
    }

    fn memory(&self) -> u64 {
        self.of.memory()
    }
}
