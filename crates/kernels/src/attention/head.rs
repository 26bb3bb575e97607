//! One head of one sequence: queries `[t, width]` against keys and values `[p, width]`.

use super::softmax::{self, RowStatistics, VisibleKeys};
use crate::buffer::{RowsMut, Scratch};
use crate::gemm::{Kernel, Matrix, Panels, SumRows};
use crate::number::Stored;

/// Rows of scores begin at a multiple of so many floats.
const ALIGN: usize = 32;

/// Keys and values, packed for [`attend`].
pub(super) struct ForwardPanels {
    keys: Panels,
    values: Panels,
}

impl ForwardPanels {
    /// Of keys (turned by their positions) and values `[p, width]`.
    pub(super) fn new(kernel: &'static Kernel, keys: Matrix<'_>, values: Matrix<'_>) -> Self {
        Self { keys: Panels::right(kernel, keys.transposed()), values: Panels::right(kernel, values) }
    }
}

/// Where [`attend`] writes.
pub(super) struct HeadOutput<'a, 'b, T> {
    /// Rows `[t, width]`.
    pub(super) out: &'a mut RowsMut<'b, T>,
    /// `[t]`
    pub(super) lse: &'a mut [f32],
}

/// Writes `softmax(q K^T) V` to `out`, and the logarithms of the softmax's sums to `lse` `[t]`. The queries
/// are turned and scaled; how far the first one sees is given. Scores are kept for one strip of rows only.
pub(super) fn attend<T: Stored>(
    kernel: &'static Kernel,
    q: Matrix<'_>,
    panels: &ForwardPanels,
    visible: VisibleKeys,
    HeadOutput { out, lse }: HeadOutput<'_, '_, T>,
) {
    let (t, width) = (q.rows(), q.cols());
    if t == 0 {
        return;
    }
    let q = Panels::left(kernel, q);
    // Scores of a strip as high as a tile: they stay in the first caches until they meet the values.
    let mut scores = Scratch::new(kernel.rows * visible.keys(t - 1).next_multiple_of(ALIGN));
    let (mut sums, mut rows) = (Scratch::new(kernel.rows), Scratch::new(kernel.rows * width));
    for first in (0..t).step_by(kernel.rows) {
        let (strip, visible) = ((t - first).min(kernel.rows), visible.from(first));
        let keys = visible.keys(strip - 1);
        let stride = keys.next_multiple_of(ALIGN);
        let (scores, sums) = (&mut scores.floats()[..strip * stride], &mut sums.floats()[..strip]);
        let rows = &mut rows.floats()[..strip * width];
        q.multiply(first..first + strip, &panels.keys, SumRows { values: scores, cols: keys, stride }, false);
        softmax::exponentiate(scores, stride, visible, (sums, &mut lse[first..first + strip]));
        // Probabilities are packed again, now as a left operand; the division by their sum waits for the
        // output.
        let scores = Panels::left(kernel, Matrix::strided(scores, [strip, keys], [stride, 1]));
        scores.multiply(0..strip, &panels.values, SumRows::dense(rows, width), false);
        softmax::scale_rows(rows, sums, (out, first));
    }
}

/// Keys and values, packed for [`differentiate`].
pub(super) struct BackwardPanels {
    keys: Panels,
    values: Panels,
    /// The keys once more, as the right operand of the product that makes the queries' gradient.
    keys_by_row: Panels,
}

impl BackwardPanels {
    /// Of keys (turned by their positions) and values `[p, width]`.
    pub(super) fn new(kernel: &'static Kernel, keys: Matrix<'_>, values: Matrix<'_>) -> Self {
        Self {
            keys: Panels::right(kernel, keys.transposed()),
            values: Panels::right(kernel, values.transposed()),
            keys_by_row: Panels::right(kernel, keys),
        }
    }
}

/// What is known of the queries, `[t, width]` each: turned and scaled queries, gradient of the output; `[t]`
/// each: logarithm of the softmax's sum, `sum dO O`.
pub(super) struct Queries<'a> {
    pub(super) q: Matrix<'a>,
    pub(super) d_out: Matrix<'a>,
    pub(super) lse: &'a [f32],
    pub(super) delta: &'a [f32],
}

/// Gradients `[t, width]` of the turned and scaled queries, and `[p, width]` of the turned keys and the
/// values, to which they are added.
pub(super) struct HeadGradients<'a> {
    pub(super) q: &'a mut [f32],
    pub(super) k: &'a mut [f32],
    pub(super) v: &'a mut [f32],
}

/// Keys up to which the scores of a large block of queries stay in the second cache.
const SHORT: usize = 768;

/// Backpropagates through [`attend`], with scores and their gradients for one block of rows at a time.
pub(super) fn differentiate(
    kernel: &'static Kernel,
    queries: &Queries<'_>,
    panels: &BackwardPanels,
    visible: VisibleKeys,
    gradients: &mut HeadGradients<'_>,
) {
    let (t, width) = (queries.q.rows(), queries.q.cols());
    if t == 0 {
        return;
    }
    let keys = visible.keys(t - 1);
    // Higher blocks than a tile: keys' and values' gradients are added to memory once a block.
    let most = if keys <= SHORT { 8 } else { 4 } * kernel.rows;
    let (q, d_out) = (Panels::left(kernel, queries.q), Panels::left(kernel, queries.d_out));
    let size = most.min(t) * keys.next_multiple_of(ALIGN);
    let (mut scores, mut grads) = (Scratch::new(size), Scratch::new(size));
    for first in (0..t).step_by(most) {
        let block = first..(first + most).min(t);
        let (rows, visible) = (block.len(), visible.from(first));
        let keys = visible.keys(rows - 1);
        let stride = keys.next_multiple_of(ALIGN);
        let (scores, grads) = (&mut scores.floats()[..rows * stride], &mut grads.floats()[..rows * stride]);
        for top in (0..rows).step_by(kernel.rows) {
            let end = (top + kernel.rows).min(rows);
            let (strip, keys) = (first + top..first + end, visible.keys(end - 1));
            let rows_of = |values| SumRows { values, cols: keys, stride };
            q.multiply(strip.clone(), &panels.keys, rows_of(&mut scores[top * stride..]), false);
            d_out.multiply(strip, &panels.values, rows_of(&mut grads[top * stride..]), false);
        }
        let known = RowStatistics { lse: &queries.lse[block.clone()], delta: &queries.delta[block.clone()] };
        softmax::differentiate(scores, grads, stride, visible, known);
        for top in (0..rows).step_by(kernel.rows) {
            let end = (top + kernel.rows).min(rows);
            let strip =
                Matrix::strided(&grads[top * stride..], [end - top, visible.keys(end - 1)], [stride, 1]);
            let to = &mut gradients.q[(first + top) * width..];
            let to = SumRows::dense(to, width);
            Panels::left(kernel, strip).multiply(0..end - top, &panels.keys_by_row, to, false);
        }
        // Sums over the block's rows: the transposed scores are the left operands.
        let across =
            |scores| Panels::left(kernel, Matrix::strided(scores, [rows, keys], [stride, 1]).transposed());
        let along = |rows: Matrix<'_>| Panels::right(kernel, rows.row_range(block.clone()));
        let sums = SumRows::dense(gradients.v, width);
        across(scores).multiply(0..keys, &along(queries.d_out), sums, true);
        let sums = SumRows::dense(gradients.k, width);
        across(grads).multiply(0..keys, &along(queries.q), sums, true);
    }
}
