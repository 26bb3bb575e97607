//! One head of one sequence: queries `[t, width]` against keys and values `[p, width]`.

use super::softmax::{self, Sight};
use crate::buffer::{RowsMut, Scratch};
use crate::gemm::{Kernel, Matrix, Panels};
use crate::math::Stored;

/// Rows of scores begin at a multiple of so many floats.
const ALIGN: usize = 32;

/// Keys and values, packed for [`attend`].
pub(super) struct Memory {
    keys: Panels,
    values: Panels,
}

impl Memory {
    /// Of keys (turned by their positions) and values `[p, width]`.
    pub(super) fn new(kernel: &'static Kernel, keys: Matrix<'_>, values: Matrix<'_>) -> Self {
        Self { keys: Panels::right(kernel, keys.transposed()), values: Panels::right(kernel, values) }
    }
}

/// Writes `softmax(q K^T) V` to `out`, and the logarithms of the softmax's sums to `lse` `[t]`. The queries are turned
/// and scaled; the first one's sight is given. Scores are kept for one strip of rows only.
pub(super) fn attend<T: Stored>(
    kernel: &'static Kernel,
    q: Matrix<'_>,
    memory: &Memory,
    sight: Sight,
    (out, lse): (&mut RowsMut<'_, T>, &mut [f32]),
) {
    let (t, width) = (q.rows(), q.cols());
    if t == 0 {
        return;
    }
    let q = Panels::left(kernel, q);
    let mut scores = Scratch::new(kernel.rows * sight.keys(t - 1).next_multiple_of(ALIGN));
    let (mut sums, mut rows) = (Scratch::new(kernel.rows), Scratch::new(kernel.rows * width));
    for first in (0..t).step_by(kernel.rows) {
        let (strip, sight) = ((t - first).min(kernel.rows), sight.from(first));
        let keys = sight.keys(strip - 1);
        let stride = keys.next_multiple_of(ALIGN);
        let (scores, sums) = (&mut scores.floats()[..strip * stride], &mut sums.floats()[..strip]);
        let rows = &mut rows.floats()[..strip * width];
        q.multiply(first..first + strip, (&memory.keys, keys), (scores, stride), false);
        softmax::exponentiate(scores, stride, sight, (sums, &mut lse[first..first + strip]));
        let scores = Panels::left(kernel, Matrix::strided(scores, [strip, keys], [stride, 1]));
        scores.multiply(0..strip, (&memory.values, width), (rows, width), false);
        softmax::scale_rows(rows, sums, (out, first));
    }
}

/// Keys and values, packed for [`differentiate`].
pub(super) struct Source {
    keys: Panels,
    values: Panels,
    /// The keys once more, as the right operand of the queries' gradient.
    slopes: Panels,
}

impl Source {
    /// Of keys (turned by their positions) and values `[p, width]`.
    pub(super) fn new(kernel: &'static Kernel, keys: Matrix<'_>, values: Matrix<'_>) -> Self {
        Self {
            keys: Panels::right(kernel, keys.transposed()),
            values: Panels::right(kernel, values.transposed()),
            slopes: Panels::right(kernel, keys),
        }
    }
}

/// What is known of the queries, `[t, width]` each: turned and scaled queries, gradient of the output; `[t]` each:
/// logarithm of the softmax's sum, `sum dO O`.
pub(super) struct Queries<'a> {
    pub(super) q: Matrix<'a>,
    pub(super) d_out: Matrix<'a>,
    pub(super) lse: &'a [f32],
    pub(super) drop: &'a [f32],
}

/// Gradients `[t, width]` of the turned and scaled queries, and `[p, width]` of the turned keys and the values, to which
/// they are added.
pub(super) struct Slopes<'a> {
    pub(super) q: &'a mut [f32],
    pub(super) k: &'a mut [f32],
    pub(super) v: &'a mut [f32],
}

/// Keys up to which the scores of a large block stay in the second cache.
const SHORT: usize = 768;

/// Backpropagates through [`attend`], with scores and their gradients for one block of rows at a time.
pub(super) fn differentiate(
    kernel: &'static Kernel,
    queries: &Queries<'_>,
    source: &Source,
    sight: Sight,
    slopes: &mut Slopes<'_>,
) {
    let (t, width) = (queries.q.rows(), queries.q.cols());
    if t == 0 {
        return;
    }
    let keys = sight.keys(t - 1);
    let most = if keys <= SHORT { 8 } else { 4 } * kernel.rows;
    let (q, d_out) = (Panels::left(kernel, queries.q), Panels::left(kernel, queries.d_out));
    let size = most.min(t) * keys.next_multiple_of(ALIGN);
    let (mut scores, mut grads) = (Scratch::new(size), Scratch::new(size));
    for first in (0..t).step_by(most) {
        let block = first..(first + most).min(t);
        let (rows, sight) = (block.len(), sight.from(first));
        let keys = sight.keys(rows - 1);
        let stride = keys.next_multiple_of(ALIGN);
        let (scores, grads) = (&mut scores.floats()[..rows * stride], &mut grads.floats()[..rows * stride]);
        for top in (0..rows).step_by(kernel.rows) {
            let end = (top + kernel.rows).min(rows);
            let (strip, keys) = (first + top..first + end, sight.keys(end - 1));
            q.multiply(strip.clone(), (&source.keys, keys), (&mut scores[top * stride..], stride), false);
            d_out.multiply(strip, (&source.values, keys), (&mut grads[top * stride..], stride), false);
        }
        let known = (&queries.lse[block.clone()], &queries.drop[block.clone()]);
        softmax::differentiate((scores, grads), stride, sight, known);
        for top in (0..rows).step_by(kernel.rows) {
            let end = (top + kernel.rows).min(rows);
            let strip =
                Matrix::strided(&grads[top * stride..], [end - top, sight.keys(end - 1)], [stride, 1]);
            let to = &mut slopes.q[(first + top) * width..];
            Panels::left(kernel, strip).multiply(0..end - top, (&source.slopes, width), (to, width), false);
        }
        let across =
            |scores| Panels::left(kernel, Matrix::strided(scores, [rows, keys], [stride, 1]).transposed());
        let along = |rows: Matrix<'_>| Panels::right(kernel, rows.row_range(block.clone()));
        across(scores).multiply(0..keys, (&along(queries.d_out), width), (slopes.v, width), true);
        across(grads).multiply(0..keys, (&along(queries.q), width), (slopes.k, width), true);
    }
}
