//! [`Producer`]: the thread that puts rows together, in the order of the mixture.

use std::collections::VecDeque;
use std::sync::atomic::{AtomicBool, Ordering};
use std::sync::mpsc::SyncSender;
use std::sync::{Arc, Mutex, PoisonError};

use anyhow::{Result, bail, ensure};

use super::config::LoaderConfig;
use super::cursor::{Cursor, SkippedSample, SourceCursor};
use super::prefetch::{Failure, Prefetch, catch_panic};
use crate::mixture::MixturePart;
use crate::pack::{Example, PackedRow};
use crate::source::interface::Split;

/// The rows of a batch, the cursor after it, and what was skipped on the way.
pub(super) struct LoadedRows {
    pub(super) rows: Vec<PackedRow>,
    pub(super) cursor: Cursor,
    pub(super) skipped: Vec<SkippedSample>,
}

/// A row and the part of the mixture that it is taken from.
struct SourceRow {
    row: PackedRow,
    part: usize,
    /// For each of its examples the number of the document in the source's order.
    documents: Vec<u64>,
}

/// What the thread that puts rows together holds.
pub(super) struct Producer {
    config: LoaderConfig,
    /// After the last row that was put together.
    cursor: Cursor,
    prefetch: Prefetch,
    /// For each part the examples of its next document that did not fit into its last row.
    held: Vec<VecDeque<Example>>,
    /// Since the last batch that was sent.
    skipped: Vec<SkippedSample>,
    /// Set when the loader is dropped, for a source in which everything is damaged has no row to end with.
    stop: Arc<AtomicBool>,
}

impl Producer {
    /// Starts the threads that prepare documents, at `cursor`.
    pub(super) fn new(config: LoaderConfig, mut cursor: Cursor, stop: Arc<AtomicBool>) -> Result<Self> {
        let start = |part: &MixturePart| cursor.sources.get(&part.name).map_or(0, |source| source.next);
        let starts: Vec<u64> = config.mixture.parts().iter().map(start).collect();
        let prefetch = Prefetch::start(&config, &starts)?;
        // What was counted before the resume is counted once, by rank 0.
        if config.share.rank > 0 {
            cursor.sources.values_mut().for_each(|source| source.undecodable = 0);
        }
        let held = vec![VecDeque::new(); starts.len()];
        Ok(Self { config, cursor, prefetch, held, skipped: Vec::new(), stop })
    }

    /// Sends batch after batch until the receiver is dropped or a batch fails.
    pub(super) fn run(mut self, steps: &SyncSender<Result<LoadedRows>>) {
        loop {
            let step = self.step();
            let failed = step.is_err();
            // Sending fails when the loader was dropped.
            if steps.send(step).is_err() || failed {
                return;
            }
        }
    }

    /// The rows of this rank's next micro-batch. Those of all ranks beside it are packed on the way: of
    /// `ranks` micro-batches that follow one another each rank has one.
    fn step(&mut self) -> Result<LoadedRows> {
        let LoaderConfig { share, rows: per_batch, .. } = self.config;
        // Rows are added one by one as documents come. To normalise a whole batch here held the threads up:
        // 885 pictures a second in place of 1,180.
        let mut own = Vec::new();
        for _ in 0..share.ranks {
            let is_own = share.has(self.cursor.row / per_batch as u64);
            for _ in 0..per_batch {
                let row = self.row(is_own)?;
                own.extend(is_own.then_some(row));
            }
        }
        draw(&mut own, &self.config)?;
        own.iter().try_for_each(|own| self.count_undecodable(own))?;
        let rows = own.into_iter().map(|own| own.row).collect();
        Ok(LoadedRows { rows, cursor: self.cursor.clone(), skipped: std::mem::take(&mut self.skipped) })
    }

    /// Lists what could not be decoded of this rank's rows. It leaves its place in its row empty: the ranks
    /// that did not look at it have packed the same rows.
    fn count_undecodable(&mut self, own: &SourceRow) -> Result<()> {
        let name = &self.config.mixture.parts()[own.part].name;
        for (example, index) in own.row.examples().iter().zip(&own.documents) {
            let Some(reason) = example.damage.clone() else { continue };
            let skipped = SkippedSample { id: format!("{name}/{}/{index}", Split::Train.name()), reason };
            if let Some(at) = self.cursor.sources.get_mut(name) {
                at.undecodable += 1;
                self.config.judge(at, 1, &skipped)?;
            }
            self.skipped.push(skipped);
        }
        Ok(())
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

    /// The next row of all ranks; what is skipped on the way is listed where it is this rank's own.
    fn row(&mut self, is_own: bool) -> Result<SourceRow> {
        let part = self.config.mixture.draw(self.config.seed, self.cursor.row);
        let name = self.config.mixture.parts()[part].name.clone();
        let mut at = self.cursor.sources.get(&name).cloned().unwrap_or_default();
        let mut row = PackedRow::new(self.config.packing.length);
        let (mut documents, mut in_a_row) = (Vec::new(), 0);
        while !self.config.fill.is_done(&row) {
            ensure!(!self.stop.load(Ordering::Relaxed), "the loader was dropped");
            match self.example(part, &at) {
                Ok(example) => {
                    let truncated = u64::from(example.truncated);
                    if let Err(example) = row.push(example) {
                        self.held[part].push_front(example);
                        break;
                    }
                    documents.push(at.next);
                    (at.pieces, at.truncated, in_a_row) = (at.pieces + 1, at.truncated + truncated, 0);
                    if self.held[part].is_empty() {
                        (at.next, at.pieces) = (at.next + 1, 0);
                    }
                }
                Err(Failure::Damaged(reason)) => {
                    let skipped =
                        SkippedSample { id: format!("{name}/{}/{}", Split::Train.name(), at.next), reason };
                    (at.next, at.pieces) = (at.next + 1, 0);
                    (at.skipped, in_a_row) = (at.skipped + 1, in_a_row + 1);
                    self.config.judge(&at, in_a_row, &skipped)?;
                    self.skipped.extend(is_own.then_some(skipped));
                }
                Err(Failure::Panicked(text)) => {
                    bail!("source `{name}` panicked at document {}: {text}", at.next)
                }
            }
        }
        self.cursor.sources.insert(name, at);
        self.cursor.row += 1;
        Ok(SourceRow { row, part, documents })
    }
}

/// Decodes the pictures of rows that were only laid out, on all threads.
///
/// # Errors
/// A bug in a decoder.
fn draw(rows: &mut [SourceRow], config: &LoaderConfig) -> Result<()> {
    // Examples and not rows are the pieces of work: a row of an encoder holds one picture, of a decoder
    // dozens.
    let undrawn = rows.iter_mut().flat_map(|own| own.row.examples_mut()).filter(|e| e.is_undrawn());
    let undrawn: Vec<&mut Example> = undrawn.collect();
    let threads = config.threads.min(undrawn.len());
    let queue = Mutex::new(undrawn.into_iter());
    let next = || queue.lock().unwrap_or_else(PoisonError::into_inner).next();
    let work = || {
        while let Some(example) = next() {
            if let Err(panic) = catch_panic(|| example.draw(&config.packing)) {
                bail!("{} panicked: {panic}", example.id);
            }
        }
        Ok(())
    };
    std::thread::scope(|scope| {
        let workers: Vec<_> = (0..threads).map(|_| scope.spawn(work)).collect();
        workers
            .into_iter()
            .try_for_each(|worker| worker.join().unwrap_or_else(|_| bail!("a worker panicked")))
    })
}
