//! [`Source`]: documents by split and index. Every format and the built-in world is one; what reads them
//! knows no more.

use anyhow::{Context as _, Result};

use crate::document::Document;
use crate::image::{DecodeBudget, open};
use crate::question::Question;
use crate::store::DataStamp;

/// Training or held-out data. No sample, and for the built-in world no composition, is in both.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash)]
pub enum Split {
    /// Seen in training; demonstrations are drawn from it.
    Train,
    /// Held out.
    Test,
}

impl Split {
    /// `train` or `test`, as sample ids write it.
    pub fn name(self) -> &'static str {
        match self {
            Self::Train => "train",
            Self::Test => "test",
        }
    }
}

/// Documents by index.
pub trait Source: Send + Sync {
    /// The document at `index` of `split`: a pure function of its arguments. In `Train` there is no last
    /// index; a source of `n` documents begins its next epoch at each multiple of `n`, in another order.
    ///
    /// # Errors
    /// A damaged sample; the loader skips, counts and lists it.
    fn document(&self, split: Split, index: u64) -> Result<Document>;

    /// Number of documents of `split`; `None` where there is no end.
    fn len(&self, split: Split) -> Option<u64>;

    /// The texts of [`Source::document`], which some sources have for less than the whole.
    ///
    /// # Errors
    /// A damaged sample, as far as its texts show it.
    fn texts(&self, split: Split, index: u64) -> Result<Vec<String>> {
        Ok(self.document(split, index)?.texts().map(str::to_owned).collect())
    }

    /// The classes, where a document's text is the class of its picture and nothing else.
    fn classes(&self) -> Option<Vec<String>> {
        None
    }

    /// What its files are like now; `None` for what is drawn. Pictures that documents name by an address or a
    /// path of their own are not looked at.
    ///
    /// # Errors
    /// A file that can't be read.
    fn stamp(&self) -> Result<Option<DataStamp>> {
        Ok(None)
    }

    /// Bytes that the source holds between documents at most, once it was read for some time; nothing, unless
    /// it says so.
    fn memory(&self) -> u64 {
        0
    }

    /// The document at `index` of `split` as an item of a benchmark: a caption or a question and answer about
    /// one picture, which is decoded once within `decoding`, so that a damaged one is found here.
    ///
    /// # Errors
    /// As [`Source::document`]; a document that is neither.
    fn question(&self, split: Split, index: u64, decoding: &DecodeBudget) -> Result<Question> {
        let question = Question::of(self.document(split, index)?)?;
        let check = |picture| {
            let _held = decoding.hold(picture);
            open(picture).map(drop)
        };
        question.pictures.iter().try_for_each(check).with_context(|| question.id.clone())?;
        Ok(question)
    }
}
