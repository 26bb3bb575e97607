//! [`LoaderConfig`]: what a loader is made of, and the limits it keeps to.

use anyhow::{Result, ensure};

use super::cursor::{SkippedSample, SourceCursor};
use crate::batch::BatchContent;
use crate::mixture::Mixture;
use crate::pack::{Packing, RowFill};
use crate::source::interface::Split;

/// Rows of each source that are held ready.
// The threads sleep once every source has them, which bounds memory by the number of sources.
pub(super) const ROWS_AHEAD: usize = 2;
/// A short or damaged document counts as this part of a row, so that the number of documents is bounded too.
pub(super) const DOCUMENTS_PER_ROW: usize = 16;
/// Batches that are held ready.
pub(super) const BATCHES_AHEAD: usize = 2;
/// Documents of a source before its share of damaged ones is judged.
// Fewer would let one damaged document among the first few stop a run.
const JUDGED: u64 = 20;
/// Damaged documents of a source one after the other that stop the run, whatever their share.
const IN_A_ROW: usize = 1000;

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
    pub fill: RowFill,
    /// What the batches teach.
    pub content: BatchContent,
    /// Which micro-batches of the run are given.
    pub share: RankShare,
    /// Seed of the mixture's draws and of the views of pictures.
    pub seed: u64,
    /// Threads that prepare documents; they do not change the order.
    pub threads: usize,
    /// The share of damaged documents, of at least 20, above which a source stops the run.
    pub max_skipped_share: f64,
}

/// The share of a run's micro-batches that one rank trains on. Micro-batch `i`, counted over the whole run
/// and all ranks, belongs to rank `i mod ranks`. So `ranks` ranks that take `a` micro-batches a step see
/// together what one rank sees that takes `ranks * a`, row for row.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct RankShare {
    /// Which rank this is, from 0.
    pub rank: u32,
    /// How many there are.
    pub ranks: u32,
}

impl Default for RankShare {
    /// All of it.
    fn default() -> Self {
        Self { rank: 0, ranks: 1 }
    }
}

impl RankShare {
    /// Whether micro-batch `number` is this rank's.
    pub(super) fn has(self, number: u64) -> bool {
        number % u64::from(self.ranks) == u64::from(self.rank)
    }

    /// Whether there is no other rank.
    pub(super) fn is_whole(self) -> bool {
        self.ranks == 1
    }
}

/// What a document of `tokens` tokens takes of the two rows that are prepared ahead, in tokens. Alone in its
/// row, it counts as a short one: else threads would wait for the batch that is made of many rows.
pub(super) fn prefetch_cost(fill: RowFill, tokens: usize, length: usize) -> usize {
    match fill {
        RowFill::Packed => tokens.max(length / DOCUMENTS_PER_ROW),
        RowFill::Single => length.div_ceil(DOCUMENTS_PER_ROW),
    }
}

impl LoaderConfig {
    /// Checks the numbers and the sources.
    ///
    /// # Errors
    /// One line that names the field.
    pub(super) fn check(&self) -> Result<()> {
        let Packing { image_tokens, length, image, views, tokenizer, .. } = &self.packing;
        image.check()?;
        views.check()?;
        ensure!(self.rows >= 1, "rows = {}: a batch has at least 1", self.rows);
        let RankShare { rank, ranks } = self.share;
        ensure!(rank < ranks, "rank {rank} of {ranks}: ranks count from 0 and there is at least one");
        ensure!(self.threads >= 1, "threads = {}: give at least 1", self.threads);
        ensure!(*length >= 2, "length = {length}: a row has at least 2 tokens");
        ensure!(*image_tokens >= 1, "image_tokens = {image_tokens}: give at least 1");
        let most = self.packing.pictures().most_positions(tokenizer);
        ensure!(
            most < *length,
            "length = {length}: a row must hold more than the {most} tokens of a picture"
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

    /// Stops where a source has too many damaged documents.
    pub(super) fn judge(&self, at: &SourceCursor, in_a_row: usize, last: &SkippedSample) -> Result<()> {
        let (next, skipped) = (at.next, at.skipped + at.undecodable);
        let too_many = next >= JUDGED && skipped as f64 > self.max_skipped_share * next as f64;
        ensure!(
            !too_many && in_a_row < IN_A_ROW,
            "{skipped} of the first {next} documents are damaged, above max_skipped_share = {}; \
             the last is {}: {}",
            self.max_skipped_share,
            last.id,
            last.reason
        );
        Ok(())
    }
}
