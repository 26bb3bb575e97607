//! [`import`]: sources of any format as shards of our own, cleaned by the paper's rules.
//!
//! The documents are read twice: the first pass finds what is damaged and how often each picture is used, so
//! that too much damage stops the import before anything is written; the second writes. Shards are written
//! into a folder beside their own, and moved when all are whole.

use std::collections::HashMap;
use std::fs;
use std::io::ErrorKind;
use std::path::{Path, PathBuf};

use anyhow::{Context as _, Result, bail, ensure};
use xxhash_rust::xxh3::xxh3_64;

use crate::account::Account;
use crate::document::Document;
use crate::examine::{self, Damaged, Examination, Examined, LISTED, PictureCheck};
use crate::filter::{DocumentDigest, DocumentFilter, FilterCounts, FilterSpec};
use crate::image::{DecodeBudget, PictureKey};
use crate::left_out::LeftOut;
use crate::shard::{
    FolderLock, MANIFEST, Provenance, ShardEntry, ShardManifest, ShardWriter, is_plain_stem, is_shard,
};
use crate::source::BesidePictures;
use crate::source::stored::StoredSource;
use crate::task::{Decision, DecisionReader, DigestWriter};

/// What an import is to do.
#[derive(Clone, Debug)]
pub struct ImportSpec {
    /// The folder of the shards.
    pub folder: PathBuf,
    /// What the shards' names begin with.
    pub stem: String,
    /// Bytes at which a shard is closed.
    pub shard_bytes: u64,
    /// The rules; nothing is removed without.
    pub filter: Option<FilterSpec>,
    /// The share of damaged documents above which nothing is written.
    pub max_skipped_share: f64,
    /// The terms of all documents, in place of what they say.
    pub licence: Option<String>,
    /// Whom to name for all documents, in place of what they say.
    pub attribution: Option<String>,
    /// How documents are looked at.
    pub how: Examination,
}

/// What an import has done.
#[derive(Debug)]
pub struct ImportOutcome {
    /// The new shards, in order.
    pub shards: Vec<ShardEntry>,
    /// Documents that were damaged.
    pub skipped: u64,
    /// The first 1,000 of them.
    pub damaged: Vec<Damaged>,
    /// What is in no document, or in another form, by reason; of the documents that were damaged nothing.
    pub left_out: LeftOut,
    /// What the rules left and removed; none, where there were none.
    pub filter: Option<FilterCounts>,
    /// All documents of the sources.
    pub(crate) there: u64,
    /// Those that were damaged, by reason.
    pub(crate) reasons: LeftOut,
}

impl ImportOutcome {
    /// What became of all documents: written, damaged, or removed by a rule.
    pub fn account(&self) -> Account {
        let read = self.shards.iter().map(|shard| shard.documents).sum();
        let mut left_out = LeftOut::default();
        for (rule, count) in self.filter.iter().flat_map(|counts| &counts.removed_documents) {
            let name = serde_json::to_value(rule).ok();
            let name = name.as_ref().and_then(|name| name.as_str()).unwrap_or_default();
            left_out.add(&format!("removed by the rule {name}"), *count);
        }
        Account { there: self.there, read, skipped: self.reasons.clone(), left_out }
    }
}

/// One of the two passes, for progress.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Pass {
    /// Everything is read and looked at.
    Check,
    /// Shards are written.
    Write,
}

/// Converts all documents of `sources`; `progress` is called with the pass and the documents that are done,
/// and `beside` is given the pictures they have.
///
/// # Errors
/// Settings out of range, another process that writes there, shards of the same name, too many damaged
/// documents, nothing left to write, a full disk. No shard is left under its name then.
pub fn import(
    sources: &[StoredSource],
    spec: &ImportSpec,
    beside: &mut BesidePictures,
    progress: &mut dyn FnMut(Pass, u64),
) -> Result<ImportOutcome> {
    spec.check()?;
    let filter = spec.filter.clone().map(DocumentFilter::new).transpose()?;
    let staging = Staging::new(&spec.folder, &spec.stem)?;
    let cleaning = filter.map_or(Cleaning::Nothing, |filter| Cleaning::Filter(Box::new(filter)));
    let mut passes = Passes::new(sources, spec, cleaning, progress);
    // A pass of its own: how often a picture is used shows at the end only, and the filter needs it.
    let checked = passes.check(beside)?;
    checked.judge(passes.done, spec.max_skipped_share)?;
    let begun = staging.begin();
    let published = begun.and_then(|()| passes.write(&staging.parts, &checked)).and_then(|shards| {
        ensure!(!shards.is_empty(), "no document is left to write{}", checked.why());
        staging.publish(&shards)?;
        Ok(shards)
    });
    let published = published.map_err(|error| full_disk(error, &spec.folder));
    if published.is_err() {
        staging.remove()?;
    }
    let skipped = checked.skipped.iter().map(|s| s.len() as u64).sum();
    let filter = match passes.into_cleaning() {
        Cleaning::Filter(filter) => Some(filter.counts().clone()),
        _ => None,
    };
    let there = sources.iter().map(StoredSource::documents).sum();
    let Checked { damaged, left_out, reasons, .. } = checked;
    Ok(ImportOutcome { shards: published?, skipped, damaged, left_out, filter, there, reasons })
}

/// Calls a full disk so, with the folder: the system's words name neither.
fn full_disk(error: anyhow::Error, folder: &Path) -> anyhow::Error {
    let full = |e: &std::io::Error| matches!(e.kind(), ErrorKind::StorageFull | ErrorKind::QuotaExceeded);
    if error.chain().filter_map(|cause| cause.downcast_ref()).any(full) {
        error.context(format!(
            "--to {}: the disk is full: nothing was written; free some space or choose another folder",
            folder.display()
        ))
    } else {
        error
    }
}

/// What the first pass has found.
#[derive(Default)]
pub(crate) struct Checked {
    /// For each source the damaged documents, ascending.
    skipped: Vec<Vec<u64>>,
    /// The first of them, with reasons.
    pub(crate) damaged: Vec<Damaged>,
    /// Why they are damaged, of all.
    pub(crate) reasons: LeftOut,
    /// What is in no document.
    pub(crate) left_out: LeftOut,
}

impl Checked {
    /// How many documents are damaged.
    pub(crate) fn skipped(&self) -> u64 {
        self.skipped.iter().map(|skipped| skipped.len() as u64).sum()
    }

    /// # Errors
    /// More of the `documents` are damaged than the share that may be.
    fn judge(&self, documents: u64, share: f64) -> Result<()> {
        let skipped = self.skipped();
        ensure!(
            skipped as f64 <= share * documents as f64,
            "{skipped} of {documents} documents are damaged, above the share of {share} that may be skipped \
             (--max-skipped-share){}",
            self.why()
        );
        Ok(())
    }

    fn why(&self) -> String {
        self.damaged
            .first()
            .map(|first| format!("; the first that is damaged is {first}"))
            .unwrap_or_default()
    }
}

/// How documents are cleaned.
pub(crate) enum Cleaning {
    /// Not at all.
    Nothing,
    /// By rules over all documents, which this process has.
    Filter(Box<DocumentFilter>),
    /// In the first round of a task: what the rules need to know is written.
    Digests(DigestWriter),
    /// In the second: by what was decided.
    Decisions(DecisionReader),
}

/// What both passes work with.
pub(crate) struct Passes<'a> {
    sources: &'a [StoredSource],
    spec: &'a ImportSpec,
    cleaning: Cleaning,
    /// Documents that the pass has done.
    done: u64,
    progress: &'a mut dyn FnMut(Pass, u64),
}

impl<'a> Passes<'a> {
    pub(crate) fn new(
        sources: &'a [StoredSource],
        spec: &'a ImportSpec,
        cleaning: Cleaning,
        progress: &'a mut dyn FnMut(Pass, u64),
    ) -> Self {
        Self { sources, spec, cleaning, done: 0, progress }
    }

    pub(crate) fn into_cleaning(self) -> Cleaning {
        self.cleaning
    }

    pub(crate) fn check(&mut self, beside: &mut BesidePictures) -> Result<Checked> {
        let (mut checked, names) = (Checked::default(), beside.names());
        let filtered = self.spec.filter.is_some();
        let how = Examination { large: filtered, ..self.spec.how };
        for source in self.sources {
            let mut skipped = Vec::new();
            // Decoded for its key only where it is decoded anyway.
            let decoding = DecodeBudget::default();
            let keyed = filtered && how.look == PictureCheck::Pixels;
            source.left_out()?.iter().for_each(|(_, left)| checked.left_out.merge(left));
            let document = |Examined { document, left_out, .. }: Examined| {
                let key = |picture| {
                    let _held = decoding.hold(picture);
                    PictureKey::of(picture).ok()
                };
                let keys: Vec<_> = document.pictures().filter(|_| keyed).map(key).collect();
                (names(&document), document, keys, left_out)
            };
            examine::each(source, how, document, |index, result| {
                match result {
                    Ok((names, document, keys, left_out)) => {
                        beside.read(&names);
                        checked.left_out.merge(&left_out);
                        self.observe(&document, keys)?;
                    }
                    Err(found) => {
                        if let Cleaning::Digests(digests) = &mut self.cleaning {
                            digests.push(None)?;
                        }
                        skipped.push(index);
                        checked.reasons.add(found.cause(), 1);
                        if checked.damaged.len() < LISTED {
                            checked.damaged.push(found);
                        }
                    }
                }
                self.done += 1;
                (self.progress)(Pass::Check, self.done);
                Ok(())
            })?;
            checked.skipped.push(skipped);
        }
        Ok(checked)
    }

    fn observe(&mut self, document: &Document, keys: Vec<Option<PictureKey>>) -> Result<()> {
        match (&mut self.cleaning, &self.spec.filter) {
            (Cleaning::Filter(filter), _) => filter.observe(document, keys),
            (Cleaning::Digests(digests), Some(rules)) => {
                digests.push(Some(&rules.digest(document, keys)))?;
            }
            (Cleaning::Digests(digests), None) => {
                let (id, pictures) = (document.id.clone(), Vec::new());
                let digest = DocumentDigest { id, alone: true, speaks: true, text: None, pictures };
                digests.push(Some(&digest))?;
            }
            (Cleaning::Nothing | Cleaning::Decisions(_), _) => {}
        }
        Ok(())
    }

    /// Writes shards into `folder`.
    pub(crate) fn write(&mut self, folder: &Path, checked: &Checked) -> Result<Vec<ShardEntry>> {
        let spec = self.spec;
        let mut writer = ShardWriter::new(folder, &spec.stem, Provenance::default(), spec.shard_bytes)?;
        let mut ids = Ids::default();
        let how = Examination { look: PictureCheck::Headers, large: spec.filter.is_some(), ..spec.how };
        self.done = 0;
        for (number, source) in self.sources.iter().enumerate() {
            let skipped = checked.skipped.get(number).map_or(&[][..], Vec::as_slice);
            let parts = |examined: Examined| (examined.document, examined.origin);
            examine::each(source, how, parts, |index, result| {
                self.done += 1;
                (self.progress)(Pass::Write, self.done);
                if skipped.binary_search(&index).is_ok() {
                    return Ok(());
                }
                let decided = match &mut self.cleaning {
                    Cleaning::Decisions(decisions) => Some(decisions.next()?),
                    _ => None,
                };
                if decided == Some(Decision::Damaged) {
                    return Ok(());
                }
                let (document, provenance) = match result {
                    Ok(read) => read,
                    Err(changed) => bail!("{changed}; it was whole a moment ago"),
                };
                let document = match (&mut self.cleaning, decided) {
                    (_, Some(decision)) => decision.apply(document)?,
                    (Cleaning::Filter(filter), _) => {
                        filter.apply(document).map(|document| ids.with_unique(document))
                    }
                    _ => Some(ids.with_unique(document)),
                };
                let Some(document) = document else { return Ok(()) };
                writer.come_from(spec.provenance(source, provenance))?;
                writer.push(&document)
            })?;
        }
        writer.finish_unlisted()
    }
}

impl ImportSpec {
    /// # Errors
    /// Settings out of range.
    pub(crate) fn check(&self) -> Result<()> {
        let share = self.max_skipped_share;
        ensure!((0.0..=1.0).contains(&share), "max_skipped_share = {share}: give a number from 0 to 1");
        ensure!(self.shard_bytes > 0, "shards of 0 bytes: give at least 1 MiB");
        ensure!(is_plain_stem(&self.stem), "--name {:?}: give letters, digits, `-` and `_`", self.stem);
        self.filter.clone().map(DocumentFilter::new).transpose()?;
        Ok(())
    }

    /// What the document says, or else the name of the source.
    fn provenance(&self, source: &StoredSource, said: Provenance) -> Provenance {
        let name = if said.source.is_empty() { source.name().to_owned() } else { said.source };
        Provenance {
            source: name,
            licence: self.licence.clone().unwrap_or(said.licence),
            attribution: self.attribution.clone().unwrap_or(said.attribution),
        }
    }
}

/// How often each id was seen, by its hash.
#[derive(Default)]
pub(crate) struct Ids(HashMap<u64, u32>);

impl Ids {
    fn with_unique(&mut self, document: Document) -> Document {
        Document { id: self.unique(document.id.clone()), ..document }
    }

    /// The id, with `#2` at its end where it comes the second time.
    pub(crate) fn unique(&mut self, id: String) -> String {
        let mut unique = id.clone();
        while let Some(times) = self.0.get_mut(&xxh3_64(unique.as_bytes())) {
            *times += 1;
            unique = format!("{id}#{times}");
        }
        self.0.insert(xxh3_64(unique.as_bytes()), 1);
        unique
    }
}

/// The folder in which shards are written before they are moved to where they belong. While it is there, an
/// import of this name was not finished.
struct Staging {
    /// Where the shards belong.
    folder: PathBuf,
    /// Where they are written, inside of `folder`: a move is a rename.
    parts: PathBuf,
    /// A plain name: no file of it lies elsewhere.
    stem: String,
    /// Held from the first look at `folder` to the last change of its manifest.
    lock: FolderLock,
}

impl Staging {
    /// # Errors
    /// A folder with finished shards of this stem, or in which another process writes.
    fn new(folder: &Path, stem: &str) -> Result<Self> {
        ensure!(is_plain_stem(stem), "--name {stem:?}: give letters, digits, `-` and `_`");
        ensure!(!folder.is_file(), "--to {}: a file, not a folder", folder.display());
        let lock = FolderLock::take(folder).context("--to")?;
        let parts = folder.join(format!(".{stem}.part"));
        let staging = Self { folder: folder.to_owned(), parts, stem: stem.to_owned(), lock };
        let listed =
            if folder.join(MANIFEST).exists() { ShardManifest::read(folder)?.shards } else { Vec::new() };
        let finished = listed.iter().find(|shard| is_shard(&shard.file, stem));
        let stray = staging.there()?.into_iter().find(|_| !staging.parts.exists());
        if let Some(file) = finished.map(|shard| shard.file.clone()).or(stray) {
            bail!("{} exists: choose another --name or --to, or delete it", folder.join(file).display());
        }
        Ok(staging)
    }

    /// Shards of the stem that are in the folder.
    fn there(&self) -> Result<Vec<String>> {
        if !self.folder.is_dir() {
            return Ok(Vec::new());
        }
        let mut files = Vec::new();
        for entry in fs::read_dir(&self.folder).with_context(|| self.folder.display().to_string())? {
            let name = entry?.file_name().to_string_lossy().into_owned();
            if is_shard(&name, &self.stem) {
                files.push(name);
            }
        }
        files.sort();
        Ok(files)
    }

    /// An empty folder; what an import that was interrupted has left is deleted.
    fn begin(&self) -> Result<()> {
        self.remove()?;
        fs::create_dir_all(&self.parts).with_context(|| self.parts.display().to_string())
    }

    /// Moves the shards to their place and lists them in the manifest there.
    fn publish(&self, shards: &[ShardEntry]) -> Result<()> {
        for shard in shards {
            let to = self.folder.join(&shard.file);
            // On the same file system, as the folder is inside of the target: a rename is whole or not done.
            fs::rename(self.parts.join(&shard.file), &to).with_context(|| to.display().to_string())?;
        }
        ShardManifest::add(&self.folder, shards.to_vec(), &self.lock)?;
        fs::remove_dir_all(&self.parts).with_context(|| self.parts.display().to_string())
    }

    /// Deletes what is not finished: the folder, and shards that were moved but not yet listed.
    fn remove(&self) -> Result<()> {
        if !self.parts.exists() {
            return Ok(());
        }
        for file in self.there()? {
            fs::remove_file(self.folder.join(&file)).with_context(|| file)?;
        }
        fs::remove_dir_all(&self.parts).with_context(|| self.parts.display().to_string())
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn ids_become_unique() {
        let mut ids = Ids::default();
        let unique: Vec<String> =
            ["a", "b", "a", "a", "a#2", "c"].into_iter().map(|id| ids.unique(id.to_owned())).collect();
        assert_eq!(unique, ["a", "b", "a#2", "a#3", "a#2#2", "c"]);
    }
}
