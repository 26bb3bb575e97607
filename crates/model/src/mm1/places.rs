//! Where the spans and the image tokens of a row may be.

use anyhow::{Result, ensure};

use super::Input;
use crate::ops::Sight;

/// The places of a picture's image tokens among those of a row, or of all rows.
#[derive(Clone, Copy)]
pub(super) struct ImageSlot {
    pub(super) start: usize,
    pub(super) tokens: usize,
}

/// Image tokens stay in their row and do not overlap.
pub(super) fn check_slots(mut slots: Vec<ImageSlot>, (rows, length): (usize, usize)) -> Result<()> {
    for &ImageSlot { start, tokens } in &slots {
        ensure!(
            start < rows * length && start % length + tokens <= length,
            "a picture's {tokens} image tokens from position {} of row {} on leave its {length} positions",
            start % length.max(1),
            start / length.max(1)
        );
    }
    // Neighbours in order are enough: who overlaps a later picture overlaps the next one.
    slots.sort_unstable_by_key(|slot| slot.start);
    for pair in slots.windows(2) {
        let [ImageSlot { start, tokens }, next] = [pair[0], pair[1]];
        ensure!(
            start + tokens <= next.start,
            "pictures at flat positions {start} and {} overlap: the first takes {tokens} image tokens",
            next.start
        );
    }
    Ok(())
}

/// Spans lie in their rows and do not overlap, and prefixes are theirs.
pub(super) fn check_spans(input: &Input<'_>) -> Result<()> {
    if let Sight::Prefix(prefixes) = &input.layout.sight {
        let (given, spans) = (prefixes.len(), input.layout.spans.len());
        ensure!(given == spans, "{given} prefixes for {spans} spans");
    }
    let mut spans: Vec<_> = input.layout.spans.iter().map(|s| (s.row, s.start, s.len)).collect();
    spans.sort_unstable();
    for &(row, start, len) in &spans {
        ensure!(
            row < input.rows && start + len <= input.length,
            "span of {len} positions from {start} in row {row} leaves {} rows of {} positions",
            input.rows,
            input.length
        );
    }
    for pair in spans.windows(2) {
        let ((row, start, len), (next_row, next, _)) = (pair[0], pair[1]);
        ensure!(
            row != next_row || start + len <= next,
            "spans at {start} (length {len}) and {next} of row {row} overlap"
        );
    }
    Ok(())
}
