//! [`FilesRecord`]: what a task knows of files, and what all know together.

use std::collections::{BTreeMap, BTreeSet};

use anyhow::{Context as _, Result};
use serde::{Deserialize, Serialize};

use crate::account::Account;
use crate::examine::{Damaged, LISTED};
use crate::source::detect::{Detected, UnusedFile};
use crate::source::stored::StoredSource;
use crate::source::{BesidePictures, beside_account};

/// What became of the files. Every task has detected all of them; which pictures beside documents are named
/// shows in the shares.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub struct FilesRecord {
    /// All files but pictures that lie beside documents.
    sources: Account,
    /// The number of these pictures.
    beside: u64,
    /// Hashes of the paths of those that the task's documents name.
    named: Vec<u64>,
    /// Files of no source.
    left: Vec<UnusedFile>,
}

impl FilesRecord {
    /// What a task knows, when its documents are read.
    pub fn of(detected: &Detected, beside: &BesidePictures) -> Self {
        let (sources, left) = (detected.source_files(beside), detected.left.clone());
        Self { sources, beside: beside.there(), named: beside.named(), left }
    }

    /// What all know: the account of one task that reads everything, and the files of no source.
    ///
    /// # Errors
    /// No task.
    pub fn join<'a>(records: impl IntoIterator<Item = &'a Self>) -> Result<(Account, Vec<UnusedFile>)> {
        let (mut first, mut named) = (None, BTreeSet::new());
        for record in records {
            named.extend(record.named.iter().copied());
            first.get_or_insert(record);
        }
        let Self { sources, beside, left, .. } = first.context("no task")?;
        let mut account = sources.clone();
        account.merge(&beside_account(*beside, named.len() as u64));
        Ok((account, left.clone()))
    }
}

/// A source as a task has it.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub struct SourceRecord {
    /// Its name, one among all sources of the command.
    pub name: String,
    /// Its kind.
    pub kind: String,
    /// Files of the share.
    pub files: u64,
    /// Their bytes.
    pub bytes: u64,
    /// Documents in them.
    pub documents: u64,
}

impl SourceRecord {
    /// What a task has of a source.
    pub fn of(source: &StoredSource) -> Self {
        let (name, kind) = (source.name().to_owned(), source.kind().to_owned());
        Self { name, kind, files: source.files(), bytes: source.bytes(), documents: source.documents() }
    }

    /// The sources of all tasks, in order, each once.
    pub fn join<'a>(tasks: impl IntoIterator<Item = &'a [Self]>) -> Vec<Self> {
        let mut all: Vec<Self> = Vec::new();
        for record in tasks.into_iter().flatten() {
            match all.iter_mut().find(|known| known.name == record.name) {
                Some(known) => {
                    known.files += record.files;
                    known.bytes += record.bytes;
                    known.documents += record.documents;
                }
                None => all.push(record.clone()),
            }
        }
        all
    }
}

/// Damaged documents of all tasks, numbered in their whole source: the first 1,000.
pub fn offset<'a>(tasks: impl IntoIterator<Item = (&'a [SourceRecord], &'a [Damaged])>) -> Vec<Damaged> {
    let (mut before, mut all) = (BTreeMap::<&str, u64>::new(), Vec::new());
    for (sources, damaged) in tasks {
        let first = |found: &Damaged| before.get(found.source.as_str()).copied().unwrap_or_default();
        let placed = |found: &Damaged| {
            let index = found.index.map(|index| first(found) + index);
            Damaged { index, ..found.clone() }
        };
        let room = LISTED.saturating_sub(all.len());
        all.extend(damaged.iter().take(room).map(placed));
        for source in sources {
            *before.entry(&source.name).or_default() += source.documents;
        }
    }
    all
}
