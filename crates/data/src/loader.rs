//! [`Loader`]: batches in an exact order, prepared ahead by threads, resumed from a [`Cursor`].
//!
//! Row `r` comes from the source that the mixture draws for `(seed, r)` and takes that source's next documents until
//! one does not fit, which then begins the source's next row. A text longer than a row goes on in the source's next
//! rows. So the order is a pure function of (mixture, packing, seed, cursor): threads change only the time.

use std::collections::{BTreeMap, VecDeque};
use std::sync::Arc;
use std::sync::atomic::{AtomicBool, Ordering};
use std::sync::mpsc::{Receiver, SyncSender, sync_channel};
use std::thread::{Builder, JoinHandle};

use anyhow::{Context as _, Result, bail, ensure};
use serde::{Deserialize, Serialize};

use crate::batch::Batch;
use crate::mixture::Mixture;
use crate::pack::{Example, Packing, Row};
use crate::prefetch::{DOCUMENTS_PER_ROW, Failure, Prefetch};
use crate::source::Split;

/// Batches that are held ready.
pub(crate) const BATCHES_AHEAD: usize = 2;
/// Documents of a source before its share of damaged ones is judged.
const JUDGED: u64 = 20;
/// Damaged documents of a source one after the other that stop the run, whatever their share.
const IN_A_ROW: usize = 1000;
/// Damaged documents that are listed; all are counted.
const LISTED: usize = 1000;

/// What a loader is made of.
#[derive(Clone)]
pub struct LoaderConfig {
    /// The sources and their weights.
    pub mixture: Mixture,
    /// How documents become rows.
    pub packing: Packing,
    /// Rows in a batch.
    pub rows: usize,
    /// How many examples a row takes.
    pub fill: Fill,
    /// Seed of the mixture's draws and of the views of pictures.
    pub seed: u64,
    /// Threads that prepare documents; they do not change the order.
    pub threads: usize,
    /// The share of damaged documents, of at least 20, above which a source stops the run.
    pub max_skipped_share: f64,
}

/// How many examples a row takes.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub enum Fill {
    /// As many as fit, as language models are trained.
    #[default]
    Packed,
    /// One, so that a batch has as many as rows, as image encoders are trained.
    Single,
}

impl Fill {
    fn is_done(self, row: &Row) -> bool {
        match self {
            Self::Packed => row.is_full(),
            Self::Single => !row.examples().is_empty(),
        }
    }

    /// What a document of so many tokens takes of the two rows that are prepared ahead, in tokens. Alone in its row, it
    /// counts as a short one: else threads would wait for the batch that is made of many rows.
    pub(crate) fn cost(self, tokens: usize, length: usize) -> usize {
        match self {
            Self::Packed => tokens.max(length / DOCUMENTS_PER_ROW),
            Self::Single => length.div_ceil(DOCUMENTS_PER_ROW),
        }
    }
}

/// Where a run is in its data. A source that leaves the mixture and comes back goes on where it was.
#[derive(Clone, Debug, Default, PartialEq, Eq, Serialize, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct Cursor {
    /// The next row.
    pub row: u64,
    /// The place in each source, by the name of the part.
    pub sources: BTreeMap<String, SourceCursor>,
}

/// Where a run is in one source.
#[derive(Clone, Debug, Default, PartialEq, Eq, Serialize, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct SourceCursor {
    /// The next index; so also the number of documents that were taken.
    pub next: u64,
    /// How many pieces of the document at `next` were taken: above 0 inside a text that is longer than a row.
    #[serde(default, skip_serializing_if = "is_zero")]
    pub pieces: u64,
    /// How many of them were damaged and skipped.
    pub skipped: u64,
    /// How many were longer than a row and cut; texts without pictures never are.
    pub truncated: u64,
}

fn is_zero(number: &u64) -> bool {
    *number == 0
}

impl Cursor {
    /// Damaged documents that were skipped.
    pub fn skipped(&self) -> u64 {
        self.sources.values().map(|s| s.skipped).sum()
    }

    /// Documents that were longer than a row and cut.
    pub fn truncated(&self) -> u64 {
        self.sources.values().map(|s| s.truncated).sum()
    }
}

/// A damaged document.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub struct Skipped {
    /// `source/train/index`.
    pub id: String,
    /// What is wrong with it, and with which file.
    pub reason: String,
}

/// The rows of a batch, the cursor after it, and what was skipped on the way.
type Step = (Vec<Row>, Cursor, Vec<Skipped>);

/// Yields the batches of a run. Dropping it ends its threads.
pub struct Loader {
    packing: Packing,
    steps: Option<Receiver<Result<Step>>>,
    stop: Arc<AtomicBool>,
    producer: Option<JoinHandle<()>>,
    skipped: Vec<Skipped>,
}

impl Loader {
    /// Starts the threads at `cursor`; `Cursor::default()` is the beginning.
    ///
    /// # Errors
    /// A setting out of its range, a source without training documents.
    pub fn start(config: LoaderConfig, cursor: Cursor) -> Result<Self> {
        config.check()?;
        let start = |p: &crate::mixture::Part| cursor.sources.get(&p.name).map_or(0, |s| s.next);
        let starts: Vec<u64> = config.mixture.parts().iter().map(start).collect();
        let prefetch = Prefetch::start(&config, &starts)?;
        let packing = config.packing.clone();
        let (send, steps) = sync_channel(BATCHES_AHEAD);
        let stop = Arc::new(AtomicBool::new(false));
        let producer = Producer {
            held: vec![VecDeque::new(); starts.len()],
            config,
            cursor,
            prefetch,
            skipped: Vec::new(),
            stop: Arc::clone(&stop),
        };
        let producer = Builder::new().name("data-rows".to_owned()).spawn(move || producer.run(&send))?;
        Ok(Self { packing, steps: Some(steps), stop, producer: Some(producer), skipped: Vec::new() })
    }

    /// The next batch and the cursor after it; waits where it is not ready.
    ///
    /// # Errors
    /// Too many damaged documents, or a bug in a source. The loader is over then.
    #[expect(
        clippy::should_implement_trait,
        reason = "it has no end, so an Option around each batch says nothing"
    )]
    pub fn next(&mut self) -> Result<(Batch, Cursor)> {
        let step = self.steps.as_ref().and_then(|steps| steps.recv().ok());
        let (rows, cursor, skipped) = step.context("the loader has stopped after an error")??;
        let room = LISTED - self.skipped.len();
        self.skipped.extend(skipped.into_iter().take(room));
        Ok((Batch::of(rows, &self.packing), cursor))
    }

    /// The first 1,000 damaged documents among the batches that this loader has yielded; their whole number is in the
    /// cursor.
    pub fn skipped(&self) -> &[Skipped] {
        &self.skipped
    }
}

impl Drop for Loader {
    fn drop(&mut self) {
        self.stop.store(true, Ordering::Relaxed);
        self.steps = None;
        if let Some(producer) = self.producer.take() {
            // Its panic, if any, has closed the channel, which `next` reports.
            let _ = producer.join();
        }
    }
}

impl LoaderConfig {
    fn check(&self) -> Result<()> {
        let Packing { image_tokens, length, image, views, .. } = &self.packing;
        image.check()?;
        views.check()?;
        ensure!(self.rows >= 1, "rows = {}: a batch has at least 1", self.rows);
        ensure!(self.threads >= 1, "threads = {}: give at least 1", self.threads);
        ensure!(*length >= 2, "length = {length}: a row has at least 2 tokens");
        ensure!(*image_tokens >= 1, "image_tokens = {image_tokens}: give at least 1");
        ensure!(
            image_tokens < length,
            "length = {length}: a row must hold more than the {image_tokens} tokens of a picture"
        );
        let share = self.max_skipped_share;
        ensure!(
            (0.0..1.0).contains(&share),
            "max_skipped_share = {share}: give a number from 0 up to, not including, 1"
        );
        for part in self.mixture.parts().iter().filter(|p| p.weight > 0.0) {
            let empty = part.source.len(Split::Train) == Some(0);
            ensure!(!empty, "source `{}` has no training documents", part.name);
        }
        Ok(())
    }
}

/// The thread that puts rows together.
struct Producer {
    config: LoaderConfig,
    cursor: Cursor,
    prefetch: Prefetch,
    /// For each part the examples of its next document that did not fit into its last row.
    held: Vec<VecDeque<Example>>,
    skipped: Vec<Skipped>,
    stop: Arc<AtomicBool>,
}

impl Producer {
    fn run(mut self, steps: &SyncSender<Result<Step>>) {
        loop {
            let step = self.step();
            let failed = step.is_err();
            // Sending fails when the loader was dropped.
            if steps.send(step).is_err() || failed {
                return;
            }
        }
    }

    fn step(&mut self) -> Result<Step> {
        let rows = (0..self.config.rows).map(|_| self.row()).collect::<Result<_>>()?;
        Ok((rows, self.cursor.clone(), std::mem::take(&mut self.skipped)))
    }

    /// The next example of a part. The others of its document are held.
    fn example(&mut self, part: usize, at: &SourceCursor) -> Result<Example, Failure> {
        if let Some(example) = self.held[part].pop_front() {
            return Ok(example);
        }
        let mut examples = VecDeque::from(self.prefetch.take(part, at.next)?);
        // After a resume inside a long text.
        let taken = usize::try_from(at.pieces).unwrap_or(usize::MAX);
        examples.drain(..taken.min(examples.len()));
        let first = examples.pop_front();
        self.held[part] = examples;
        first.ok_or_else(|| {
            Failure::Damaged(format!("the text is shorter than {taken} pieces: it has changed"))
        })
    }

    fn row(&mut self) -> Result<Row> {
        let part = self.config.mixture.draw(self.config.seed, self.cursor.row);
        let name = self.config.mixture.parts()[part].name.clone();
        let mut at = self.cursor.sources.get(&name).cloned().unwrap_or_default();
        let mut row = Row::new(self.config.packing.length);
        let mut in_a_row = 0;
        while !self.config.fill.is_done(&row) {
            ensure!(!self.stop.load(Ordering::Relaxed), "the loader was dropped");
            match self.example(part, &at) {
                Ok(example) => {
                    let truncated = u64::from(example.truncated);
                    if let Err(example) = row.push(example) {
                        self.held[part].push_front(example);
                        break;
                    }
                    (at.pieces, at.truncated, in_a_row) = (at.pieces + 1, at.truncated + truncated, 0);
                    if self.held[part].is_empty() {
                        (at.next, at.pieces) = (at.next + 1, 0);
                    }
                }
                Err(Failure::Damaged(reason)) => {
                    let skipped =
                        Skipped { id: format!("{name}/{}/{}", Split::Train.name(), at.next), reason };
                    (at.next, at.pieces) = (at.next + 1, 0);
                    (at.skipped, in_a_row) = (at.skipped + 1, in_a_row + 1);
                    self.config.judge(&at, in_a_row, &skipped)?;
                    self.skipped.push(skipped);
                }
                Err(Failure::Panicked(text)) => {
                    bail!("source `{name}` panicked at document {}: {text}", at.next)
                }
            }
        }
        self.cursor.sources.insert(name, at);
        self.cursor.row += 1;
        Ok(row)
    }
}

impl LoaderConfig {
    /// Stops where a source has too many damaged documents.
    fn judge(&self, at: &SourceCursor, in_a_row: usize, last: &Skipped) -> Result<()> {
        let SourceCursor { next, skipped, .. } = *at;
        let too_many = next >= JUDGED && skipped as f64 > self.max_skipped_share * next as f64;
        ensure!(
            !too_many && in_a_row < IN_A_ROW,
            "{skipped} of the first {next} documents are damaged, above max_skipped_share = {}; the last is {}: {}",
            self.max_skipped_share,
            last.id,
            last.reason
        );
        Ok(())
    }
}
