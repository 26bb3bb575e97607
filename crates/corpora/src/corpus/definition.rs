//! [`Corpus`]: what a corpus is made of, and how its packages become documents.

use std::path::PathBuf;

use anyhow::Result;

use crate::package::Package;
use crate::settings::CorpusSettings;
use crate::sink::Sink;

/// Makes the documents of a corpus from the files of its packages, which are in the same order.
type Make = fn(&[PathBuf], CorpusSettings, &mut Sink) -> Result<()>;

/// A corpus.
pub struct Corpus {
    /// By which `--only` and the shards know it.
    pub name: &'static str,
    /// What it is.
    pub title: &'static str,
    /// What it is made of.
    pub packages: &'static [Package],
    /// Under which terms it may be used.
    pub licence: &'static str,
    /// Whom to name.
    pub attribution: &'static str,
    pub(crate) make: Make,
}

impl Corpus {
    /// The same corpus, made of other packages.
    pub fn of(&self, packages: &'static [Package]) -> Self {
        let Self { name, title, licence, attribution, make, .. } = *self;
        Self { name, title, packages, licence, attribution, make }
    }
}
