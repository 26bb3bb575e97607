//! [`Recaption`]: a captioned set written anew with what a model says of its pictures, in steps of a shard. A
//! process may be killed at any moment; the next one continues after the last whole shard and writes the same
//! bytes.

use std::collections::BTreeMap;
use std::fs;
use std::path::{Path, PathBuf};

use anyhow::{Context as _, Result, bail, ensure};
use serde::{Deserialize, Serialize};

use crate::document::{Document, DocumentKind, Image, Segment, Special};
use crate::fusion::{FusedCaption, fuse};
use crate::loader::SkippedSample;
use crate::shard::{FolderLock, Provenance, ShardEntry, ShardWriter, is_shard};
use crate::source::files::{Files, Opening};
use crate::source::shard::Shard;
use crate::store::{Blob, Paths, Store};
use crate::task::{DONE, TaskSet};
use crate::whole_file;

/// The file that says how far it has come; hidden, as it is no data.
const STATE: &str = ".recaption.json";
/// Shards are `synthetic-000000.tar`, …
const STEM: &str = "synthetic";
/// Documents before the share of those that are skipped is judged.
const JUDGED: u64 = 20;
/// Documents that are listed; all are counted.
const LISTED: usize = 1000;

/// The settings by name. All that decides what is written is in it.
pub type RecaptionSettings = BTreeMap<String, String>;

/// Sums over the captions that were written.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq, Serialize, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct Tally {
    /// Captions written.
    pub captions: u64,
    /// Words of the alt-texts: runs of characters between white space.
    pub words_before: u64,
    /// Words of the captions.
    pub words_after: u64,
    /// Captions with a content word that their alt-text lacks.
    pub gained: u64,
    /// Documents that gave no caption.
    pub skipped: u64,
    /// Descriptions that were refused as too short.
    #[serde(default)]
    pub short: u64,
    /// Descriptions that were refused since they did not end.
    #[serde(default)]
    pub cut: u64,
}

impl Tally {
    /// Documents that were read: each is in one of the counts.
    pub fn read(&self) -> u64 {
        self.captions + self.skipped + self.short + self.cut
    }

    /// Adds what another part has counted.
    fn add(&mut self, other: &Self) {
        let Self { captions, words_before, words_after, gained, skipped, short, cut } = other;
        for (sum, more) in [
            (&mut self.captions, captions),
            (&mut self.words_before, words_before),
            (&mut self.words_after, words_after),
            (&mut self.gained, gained),
            (&mut self.skipped, skipped),
            (&mut self.short, short),
            (&mut self.cut, cut),
        ] {
            *sum += more;
        }
    }
}

/// Why a description becomes no caption.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub enum Refused {
    /// It has fewer words than it must have.
    Short,
    /// It did not end within the tokens that it may have.
    Cut,
}

/// As [`STATE`] holds it: all that the next process needs.
#[derive(Clone, Debug, Default, PartialEq, Eq, Serialize, Deserialize)]
#[serde(deny_unknown_fields)]
struct RecaptionState {
    #[serde(rename = "asked")]
    settings: RecaptionSettings,
    /// The next document of the source.
    next: u64,
    /// All is written, and the manifest too.
    done: bool,
    tally: Tally,
    /// At most [`LISTED`]; `tally` has their number.
    skipped: Vec<SkippedSample>,
    /// The shards that are closed.
    shards: Vec<ShardEntry>,
}

/// Writes captions in the order of their documents.
pub struct Recaption {
    folder: PathBuf,
    /// `None`, when it is done.
    writer: Option<ShardWriter>,
    state: RecaptionState,
    max_skipped_share: f64,
    share_setting: &'static str,
    keep_alt_text: bool,
    may_be_empty: bool,
    // Held while this lives: two processes never write into one folder.
    lock: FolderLock,
}

/// How captions are written.
#[derive(Clone, Debug)]
pub struct RecaptionSpec {
    /// What decides what is written; a folder belongs to one such.
    pub settings: RecaptionSettings,
    /// A shard is closed when it holds this many bytes.
    pub shard_bytes: u64,
    /// The share of skipped documents, of at least 20, above which it stops.
    pub max_skipped_share: f64,
    /// What the person calls that share.
    pub share_setting: &'static str,
    /// Whether a caption has its alt-text before the description.
    pub keep_alt_text: bool,
    /// Whether it may end without a caption, as the share of a task may have none.
    pub may_be_empty: bool,
}

impl Recaption {
    /// Begins in `folder`, which is made, or continues there.
    ///
    /// # Errors
    /// A folder that can't be written, in which another process writes, or that was begun with other
    /// settings; shards that are damaged.
    pub fn open(folder: &Path, spec: RecaptionSpec) -> Result<Self> {
        let RecaptionSpec { settings, shard_bytes, max_skipped_share, may_be_empty, .. } = spec;
        let RecaptionSpec { share_setting, keep_alt_text, .. } = spec;
        ensure!(
            (0.0..1.0).contains(&max_skipped_share),
            "{share_setting} {max_skipped_share}: give a number from 0 up to, not including, 1"
        );
        let lock = FolderLock::take(folder)?;
        let (state, writer) = match read_state(folder)? {
            Some(state) => {
                check_settings(folder, &state.settings, &settings)?;
                let go_on = || ShardWriter::resume(folder, STEM, shard_bytes, state.shards.clone());
                let writer = if state.done { None } else { Some(go_on()?) };
                (state, writer)
            }
            None => {
                let writer = ShardWriter::new(folder, STEM, Provenance::default(), shard_bytes)?;
                (RecaptionState { settings, ..RecaptionState::default() }, Some(writer))
            }
        };
        let folder = folder.to_owned();
        let begun = Self {
            folder,
            writer,
            state,
            max_skipped_share,
            share_setting,
            keep_alt_text,
            may_be_empty,
            lock,
        };
        // Before the first shard, so that one that was not noted is known as ours.
        begun.save()?;
        Ok(begun)
    }

    /// The next document of the source.
    pub fn next(&self) -> u64 {
        self.state.next
    }

    /// Whether all is written.
    pub fn is_done(&self) -> bool {
        self.state.done
    }

    /// The sums so far.
    pub fn tally(&self) -> &Tally {
        &self.state.tally
    }

    /// The first 1,000 documents that were skipped.
    pub fn skipped(&self) -> &[SkippedSample] {
        &self.state.skipped
    }

    /// Writes the next document, a captioned one of `origin`, with its text and the model's `description` in
    /// one caption.
    ///
    /// # Errors
    /// As [`caption`]; a disk that is full.
    pub fn write(&mut self, document: &Document, origin: Provenance, description: &str) -> Result<()> {
        let (image, alt_text) = caption(document)?;
        let writer = self.writer.as_mut().context("all captions are written")?;
        writer.come_from(origin)?;
        self.note()?;
        let fused =
            if self.keep_alt_text { fuse(&alt_text, description) } else { alone(&alt_text, description) };
        let tally = &mut self.state.tally;
        let words = |text: &str| text.split_whitespace().count() as u64;
        tally.captions += 1;
        tally.words_before += words(&alt_text);
        tally.words_after += words(&fused.text);
        tally.gained += u64::from(fused.gained);
        let segments = vec![
            Segment::Image(image.clone()),
            Segment::text(fused.text),
            Segment::Token { token: Special::End, learn: true },
        ];
        let synthetic = Document { id: document.id.clone(), kind: DocumentKind::Synthetic, segments };
        let writer = self.writer.as_mut().context("all captions are written")?;
        writer.push_with(&synthetic, Some(alt_text))?;
        writer.close_full()?;
        self.state.next += 1;
        self.note()
    }

    /// Saves how far it has come, where a shard was closed and none is open.
    fn note(&mut self) -> Result<()> {
        let closed = self.writer.as_ref().map_or(&[][..], ShardWriter::closed);
        if closed.len() > self.state.shards.len() {
            self.state.shards = closed.to_vec();
            self.save()?;
        }
        Ok(())
    }

    /// Leaves the next document out.
    ///
    /// # Errors
    /// More than the set share of the documents.
    pub fn skip(&mut self, skipped: SkippedSample) -> Result<()> {
        let RecaptionState { next, tally, .. } = &mut self.state;
        (*next, tally.skipped) = (*next + 1, tally.skipped + 1);
        ensure!(
            *next < JUDGED || tally.skipped as f64 <= self.max_skipped_share * *next as f64,
            "{} of the first {next} documents can't be used, above {} {}; \
             the last is {}: {}",
            tally.skipped,
            self.share_setting,
            self.max_skipped_share,
            skipped.id,
            skipped.reason
        );
        if self.state.skipped.len() < LISTED {
            self.state.skipped.push(skipped);
        }
        Ok(())
    }

    /// Leaves the next document out, whose description is refused. A stage that refuses all has no caption,
    /// and [`Self::finish`] says so.
    pub fn refuse(&mut self, why: Refused) {
        let RecaptionState { next, tally, .. } = &mut self.state;
        *next += 1;
        match why {
            Refused::Short => tally.short += 1,
            Refused::Cut => tally.cut += 1,
        }
    }

    /// Closes the last shard and writes the manifest: all is written.
    ///
    /// # Errors
    /// A disk that is full; no caption at all.
    pub fn finish(&mut self) -> Result<()> {
        if let Some(writer) = self.writer.take() {
            let empty = self.state.tally.captions == 0 && !self.may_be_empty;
            let Tally { short, cut, .. } = self.state.tally;
            ensure!(
                !empty || short + cut == 0,
                "no caption is left: {short} descriptions were too short (min_words), and {cut} did not \
                 end (max_tokens): change these, or train the model that writes for longer"
            );
            ensure!(!empty, "no document with a picture and a caption");
            let listed = writer.finish_under(&self.lock)?.shards;
            self.state.shards = listed.into_iter().filter(|shard| is_shard(&shard.file, STEM)).collect();
            self.state.done = true;
            self.save()?;
        }
        Ok(())
    }

    /// Replaces the file as a whole: after a crash the old one or the new one is there.
    fn save(&self) -> Result<()> {
        let path = self.folder.join(STATE);
        // Flushed: the state never speaks of what is not on disk.
        whole_file::replace(&path, &serde_json::to_vec_pretty(&self.state)?)
            .with_context(|| path.display().to_string())
    }
}

/// What a task has captioned.
#[derive(Serialize, Deserialize)]
pub struct CaptionedShare {
    /// Its sums.
    pub tally: Tally,
    /// The first documents that were skipped.
    pub skipped: Vec<SkippedSample>,
    /// The shards in its folder.
    pub shards: Vec<ShardEntry>,
}

impl CaptionedShare {
    /// What was written; all of it, once it is done.
    pub fn of(writing: &Recaption) -> Self {
        let RecaptionState { tally, skipped, shards, .. } = writing.state.clone();
        Self { tally, skipped, shards }
    }

    /// Joins what tasks have captioned: the shards get their place, and are listed.
    ///
    /// # Errors
    /// Tasks that are missing, a disk that is full, no caption at all.
    pub fn join(set: &TaskSet) -> Result<Self> {
        let mut all = Self { tally: Tally::default(), skipped: Vec::new(), shards: Vec::new() };
        let mut of_tasks = Vec::new();
        for task in set.all::<Self>(DONE)? {
            all.tally.add(&task.tally);
            let room = LISTED.saturating_sub(all.skipped.len());
            all.skipped.extend(task.skipped.into_iter().take(room));
            of_tasks.push(task.shards);
        }
        ensure!(all.tally.captions > 0, "no document with a picture and a caption");
        all.shards = set.publish(STEM, &of_tasks)?;
        Ok(all)
    }
}

/// The sums of the captions in `folder`, once all are written; `None` before.
///
/// # Errors
/// A file that is damaged.
pub fn finished(folder: &Path) -> Result<Option<Tally>> {
    Ok(read_state(folder)?.filter(|state| state.done).map(|state| state.tally))
}

/// The captions in `folder` as the source `name`, in the order of `seed`, once all are written; `None`
/// before.
///
/// # Errors
/// A shard that is missing or has another size than was written.
pub fn open_written(folder: &Path, name: &str, seed: u64, store: &Store) -> Result<Option<Files>> {
    let Some(state) = read_state(folder)?.filter(|state| state.done) else { return Ok(None) };
    let open = |shard: &ShardEntry| {
        let file = Blob::open(&folder.join(&shard.file), shard.file.clone())?;
        ensure!(file.size == shard.bytes, "{}: {} bytes of {}", file.address, file.size, shard.bytes);
        Ok(file)
    };
    let files = state.shards.iter().map(open).collect::<Result<Vec<_>>>()?;
    let paths = Paths::Many(Vec::new());
    let opening = Opening { name, seed, paths: &paths, test_share: 0.0, store };
    Files::open_found(Box::new(Shard), &opening, files).map(Some)
}

/// The description in the place of the alt-text.
fn alone(alt_text: &str, description: &str) -> FusedCaption {
    let FusedCaption { gained, .. } = fuse(alt_text, description);
    FusedCaption { text: description.split_whitespace().collect::<Vec<_>>().join(" "), gained }
}

/// The picture and the text of a captioned document.
///
/// # Errors
/// A document of another kind, or without one picture and a text.
pub fn caption(document: &Document) -> Result<(&Image, String)> {
    let text = document.texts().collect::<String>();
    let mut pictures = document.pictures();
    match (document.kind, pictures.next(), pictures.next()) {
        (DocumentKind::Captioned | DocumentKind::Synthetic, Some(image), None) if !text.trim().is_empty() => {
            Ok((image, text.trim().to_owned()))
        }
        (kind, first, second) => bail!(
            "not a picture with a caption: {kind:?} with {} pictures and {} words",
            [first, second].iter().flatten().count(),
            text.split_whitespace().count()
        ),
    }
}

fn read_state(folder: &Path) -> Result<Option<RecaptionState>> {
    let path = folder.join(STATE);
    if !path.exists() {
        return Ok(None);
    }
    let read = || anyhow::Ok(serde_json::from_slice(&fs::read(&path)?)?);
    read().map(Some).with_context(|| format!("{}: damaged; take another folder", path.display()))
}

/// The first setting that differs from what the folder was begun with.
fn check_settings(folder: &Path, old: &RecaptionSettings, new: &RecaptionSettings) -> Result<()> {
    for name in old.keys().chain(new.keys()) {
        let [was, is] = [old, new].map(|settings| settings.get(name).map_or("absent", String::as_str));
        ensure!(
            was == is,
            "{}: begun with other settings ({name}: {was}, now {is}); take another folder, or these settings",
            folder.display()
        );
    }
    Ok(())
}
