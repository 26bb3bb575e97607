//! [`Sink`]: where a corpus puts its documents, and what it could not use.

use std::collections::BTreeMap;
use std::fs;
use std::path::{Path, PathBuf};

use anyhow::{Context as _, Result};
use mm1_data::document::{Document, DocumentKind};
use mm1_data::shard::{FolderLock, MANIFEST, Provenance, ShardManifest, ShardWriter};
use xxhash_rust::xxh3::xxh3_64;

use crate::stream::{ShardCounts, ShardFolder, SkippedItem, is_of};

/// A shard is closed at this size.
const SHARD_BYTES: u64 = 256 << 20;
/// The longest group that is written as a word.
const MAX_GROUP: usize = 60;

/// The documents of one corpus on their way into shards.
pub(crate) struct Sink {
    root: PathBuf,
    /// The name of the corpus, with which its shards begin.
    stem: &'static str,
    origin: Provenance,
    /// Opened with the first document of a folder.
    writers: BTreeMap<ShardFolder, ShardWriter>,
    skipped: Vec<SkippedItem>,
    left_out: BTreeMap<String, u64>,
}

impl Sink {
    /// Removes what an earlier, unfinished fetch of the corpus left.
    pub(crate) fn new(root: &Path, stem: &'static str, origin: Provenance) -> Result<Self> {
        clear(root, stem)?;
        Ok(Self {
            root: root.to_owned(),
            stem,
            origin,
            writers: BTreeMap::new(),
            skipped: Vec::new(),
            left_out: BTreeMap::new(),
        })
    }

    /// Adds a document. Those whose ids are the same before a `#` are held out together, or not at all.
    pub(crate) fn push(&mut self, stream: ShardFolder, document: &Document) -> Result<()> {
        self.writer(stream)?.push(document)
    }

    /// Adds a document that has a licence of its own.
    pub(crate) fn push_licensed(
        &mut self,
        stream: ShardFolder,
        document: &Document,
        terms: FileTerms,
    ) -> Result<()> {
        let FileTerms { licence, attribution } = terms;
        let origin = Provenance { source: self.origin.source.clone(), licence, attribution };
        self.writer(stream)?.push_from(document, origin)
    }

    fn writer(&mut self, stream: ShardFolder) -> Result<&mut ShardWriter> {
        let writer = match self.writers.entry(stream) {
            std::collections::btree_map::Entry::Occupied(open) => open.into_mut(),
            std::collections::btree_map::Entry::Vacant(none) => {
                let folder = self.root.join(stream.folder());
                none.insert(ShardWriter::new(&folder, self.stem, self.origin.clone(), SHARD_BYTES)?)
            }
        };
        Ok(writer)
    }

    /// Adds a page or a part of one where it belongs.
    pub(crate) fn push_page(&mut self, document: &Document) -> Result<()> {
        let stream = if document.kind == DocumentKind::Interleaved {
            ShardFolder::Interleaved
        } else {
            ShardFolder::Text
        };
        self.push(stream, document)
    }

    /// Lists what could not be used.
    pub(crate) fn skip(&mut self, id: impl Into<String>, reason: impl Into<String>) {
        self.skipped.push(SkippedItem { id: id.into(), reason: reason.into() });
    }

    /// Counts what a rule removed.
    pub(crate) fn leave_out(&mut self, rule: impl Into<String>, count: u64) {
        if count > 0 {
            *self.left_out.entry(rule.into()).or_default() += count;
        }
    }

    /// Closes the shards.
    pub(crate) fn finish(self) -> Result<WrittenShards> {
        let mut streams = BTreeMap::new();
        for (stream, writer) in self.writers {
            let manifest = writer.finish()?;
            let mine = manifest.shards.iter().filter(|shard| is_of(&shard.file, self.stem));
            let counts = mine.fold(ShardCounts::default(), |sum, shard| ShardCounts {
                shards: sum.shards + 1,
                documents: sum.documents + shard.documents,
                images: sum.images + shard.images,
                words: sum.words + shard.words,
            });
            streams.insert(stream, counts);
        }
        Ok(WrittenShards { streams, skipped: self.skipped, left_out: self.left_out })
    }
}

/// Under which terms one file may be used, where those of its corpus differ.
pub(crate) struct FileTerms {
    pub(crate) licence: String,
    /// Whom to name.
    pub(crate) attribution: String,
}

/// Removes all shards of a corpus.
pub(crate) fn clear(root: &Path, stem: &str) -> Result<()> {
    ShardFolder::ALL.into_iter().try_for_each(|stream| remove(&root.join(stream.folder()), stem))
}

/// Removes the shards of `stem` from a folder and from its manifest.
fn remove(folder: &Path, stem: &str) -> Result<()> {
    if !folder.exists() {
        return Ok(());
    }
    let lock = FolderLock::wait(folder)?;
    if folder.join(MANIFEST).exists() {
        let mut listed = ShardManifest::read(folder)?;
        listed.shards.retain(|shard| !is_of(&shard.file, stem));
        listed.write(folder, &lock)?;
    }
    for entry in fs::read_dir(folder).with_context(|| folder.display().to_string())? {
        let entry = entry?;
        if is_of(&entry.file_name().to_string_lossy(), stem) {
            fs::remove_file(entry.path()).with_context(|| entry.path().display().to_string())?;
        }
    }
    Ok(())
}

/// What a corpus became.
pub(crate) struct WrittenShards {
    pub(crate) streams: BTreeMap<ShardFolder, ShardCounts>,
    pub(crate) skipped: Vec<SkippedItem>,
    pub(crate) left_out: BTreeMap<String, u64>,
}

/// The group of what `text` names, for the beginning of ids: its letters and digits, or a hash where these
/// are no name.
pub(crate) fn group(prefix: &str, text: &str) -> String {
    let words = slug(text);
    if words.is_empty() || prefix.len() + words.len() >= MAX_GROUP {
        format!("{prefix}-{:016x}", xxh3_64(text.as_bytes()))
    } else {
        format!("{prefix}-{words}")
    }
}

/// Small letters and digits, `-` between words.
pub(crate) fn slug(text: &str) -> String {
    let lower = text.to_lowercase();
    let words = lower.split(|c: char| !c.is_ascii_alphanumeric()).filter(|word| !word.is_empty());
    words.collect::<Vec<_>>().join("-")
}
