//! Cross-entropy of rows of scores, and its gradient in the same pass: no softmax is kept beside it.

use cubecl::client::Client;
use cubecl::prelude::*;

use crate::rows::{UNITS, cubes_of_rows, most_and_exp_sum};

/// Scores `[rows, width]` with a target and a weight of each row.
#[derive(Clone, Copy, Debug)]
pub struct ScoredRows {
    /// Number of rows.
    pub rows: usize,
    /// Scores in a row.
    pub width: usize,
}

/// Writes `-weight log softmax(scores)[target]` of each row to `losses` `[rows]`, and the gradient of their
/// sum by the scores to `dscores`. `targets` are u32. A row of weight 0 gives exact zeros.
///
/// # Panics
/// If there are 2^32 scores or more.
pub fn forward(
    client: &Client,
    of: ScoredRows,
    [scores, targets, weights]: [BufferArg; 3],
    [losses, dscores]: [BufferArg; 2],
) {
    assert!(of.rows * of.width < 1 << 32, "{} rows of {} scores are too many", of.rows, of.width);
    let (rows, width) = (of.rows as u32, of.width as u32);
    let (cubes, units) = (cubes_of_rows(of.rows), CubeDim::new_1d(UNITS));
    loss_rows::launch(client, cubes, units, scores, targets, weights, losses, dscores, rows, width, UNITS);
}

#[cube(launch)]
fn loss_rows(
    scores: &[f32],
    targets: &[u32],
    weights: &[f32],
    losses: &mut [f32],
    dscores: &mut [f32],
    rows: u32,
    width: u32,
    #[comptime] units: u32,
) {
    let mut scratch = Shared::<[f32]>::new_slice(units as usize);
    // A cube too many does the last row once more.
    let row = min(CUBE_POS as u32, rows - 1);
    let first = (row * width) as usize;
    let target = targets[row as usize];
    let weight = weights[row as usize];
    let (most, sum) = most_and_exp_sum(scores, first, first + width as usize, &mut scratch);
    if UNIT_POS == 0 {
        losses[row as usize] = weight * (sum.ln() + most - scores[first + target as usize]);
    }
    let share = weight / sum;
    let mut i = UNIT_POS;
    while i < width {
        let at = first + i as usize;
        let mut slope = (scores[at] - most).exp() * share;
        if i == target {
            slope -= weight;
        }
        dscores[at] = slope;
        i += units;
    }
}
