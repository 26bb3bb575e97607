//! Sums, biases and residuals over rows.

use crate::cpu::tiered;
use crate::number::Stored;
use half::bf16;
use rayon::prelude::*;

/// Rows in a piece: fixed, so that no sum depends on the number of threads.
const PIECE: usize = 64;
/// Values in a piece where rows do not matter.
const VALUES: usize = 8192;
/// Partial sums that a row is split into: as many as a short row, of the first pictures' channels, has.
const LANES: usize = 16;

/// Sums the columns of `y` `[n, width]`: the gradient of a bias `[width]`.
pub fn column_sums<Y: Stored>(y: &[Y], width: usize) -> Vec<f32> {
    check(y.len(), width);
    // A sum for each piece of rows, added in their order afterwards: no digit depends on the threads.
    let mut partial = vec![0.0; (y.len() / width).div_ceil(PIECE) * width];
    (partial.par_chunks_mut(width), y.par_chunks(PIECE * width))
        .into_par_iter()
        .for_each(|(sums, y)| column_sums_piece(y, sums));
    add_pieces(&partial, width)
}

/// Checks that values are rows of a width.
fn check(values: usize, width: usize) {
    assert!(width > 0 && values.is_multiple_of(width), "{values} values are not rows of {width}");
}

tiered! {
    fn column_sums_piece<Y: Stored>(y: &[Y], sums: &mut [f32]) {
        for row in y.chunks_exact(sums.len()) {
            for (s, v) in sums.iter_mut().zip(row) {
                *s += v.wide();
            }
        }
    }
}

/// Writes the bias `[d]` to each row of `y` `[n, d]`, for a product to be added to.
pub fn fill_rows<Y: Stored>(y: &mut [Y], bias: &[f32]) {
    check(y.len(), bias.len());
    let bias: Vec<Y> = bias.iter().map(|&b| Y::stored(b)).collect();
    y.par_chunks_mut(PIECE * bias.len()).for_each(|y| {
        for row in y.chunks_exact_mut(bias.len()) {
            row.copy_from_slice(&bias);
        }
    });
}

/// Adds the bias `[d]` to each row of `y` `[n, d]`.
pub fn add_bias(y: &mut [f32], bias: &[f32]) {
    check(y.len(), bias.len());
    y.par_chunks_mut(PIECE * bias.len()).for_each(|y| add_bias_piece(y, bias));
}

tiered! {
    fn add_bias_piece(y: &mut [f32], bias: &[f32]) {
        for row in y.chunks_exact_mut(bias.len()) {
            for (y, &b) in row.iter_mut().zip(bias) {
                *y += b;
            }
        }
    }
}

fn check_lengths<A, B>(y: &[A], x: &[B]) {
    assert_eq!(y.len(), x.len(), "they differ in length");
}

/// Runs `f` on the pieces of two slices of one length, on all threads.
fn in_pieces<A: Send, B: Sync>(y: &mut [A], x: &[B], f: impl Fn(&mut [A], &[B]) + Sync) {
    check_lengths(y, x);
    (y.par_chunks_mut(VALUES), x.par_chunks(VALUES)).into_par_iter().for_each(|(y, x)| f(y, x));
}

/// `y += x`, both `[n]`.
pub fn add(y: &mut [f32], x: &[f32]) {
    in_pieces(y, x, add_piece);
}

/// [`add`] on this thread alone: for one that works beside the pool's, which may all be busy.
pub fn add_alone(y: &mut [f32], x: &[f32]) {
    check_lengths(y, x);
    add_piece(y, x);
}

tiered! {
    fn add_piece(y: &mut [f32], x: &[f32]) {
        for (y, &x) in y.iter_mut().zip(x) {
            *y += x;
        }
    }
}

/// `y *= factor`: `[n]`.
pub fn scale(y: &mut [f32], factor: f32) {
    y.par_chunks_mut(VALUES).for_each(|y| scale_piece(y, factor));
}

tiered! {
    fn scale_piece(y: &mut [f32], factor: f32) {
        for y in y {
            *y *= factor;
        }
    }
}

/// Writes zeros to `y` `[n]`, on all threads.
pub fn clear(y: &mut [f32]) {
    y.par_chunks_mut(VALUES).for_each(|y| y.fill(0.0));
}

/// `y = x`, both `[n]`, on all threads.
pub fn copy(y: &mut [f32], x: &[f32]) {
    in_pieces(y, x, <[f32]>::copy_from_slice);
}

/// `y = x`, both `[n]`, rounded to bfloat16.
pub fn narrow(y: &mut [bf16], x: &[f32]) {
    in_pieces(y, x, narrow_piece);
}

/// [`narrow`] on this thread alone.
pub fn narrow_alone(y: &mut [bf16], x: &[f32]) {
    check_lengths(y, x);
    narrow_piece(y, x);
}

tiered! {
    fn narrow_piece(y: &mut [bf16], x: &[f32]) {
        for (y, &x) in y.iter_mut().zip(x) {
            *y = bf16::stored(x);
        }
    }
}

/// `y = x`, both `[n]`, back from bfloat16.
pub fn widen(y: &mut [f32], x: &[bf16]) {
    in_pieces(y, x, widen_piece);
}

/// [`widen`] on this thread alone.
pub fn widen_alone(y: &mut [f32], x: &[bf16]) {
    check_lengths(y, x);
    widen_piece(y, x);
}

tiered! {
    fn widen_piece(y: &mut [f32], x: &[bf16]) {
        for (y, &x) in y.iter_mut().zip(x) {
            *y = x.wide();
        }
    }
}

/// Adds up pieces of `d` values `[pieces, d]`, in their order.
pub(crate) fn add_pieces(partial: &[f32], d: usize) -> Vec<f32> {
    let mut total = vec![0.0; d];
    for piece in partial.chunks_exact(d.max(1)) {
        for (t, &p) in total.iter_mut().zip(piece) {
            *t += p;
        }
    }
    total
}

/// Sum of `f` over a row, in f64 and in a fixed order that suits vector registers.
#[inline(always)]
pub(crate) fn sum(row: &[f32], f: impl Fn(f32) -> f32) -> f32 {
    let mut lanes = [0.0; LANES];
    let (chunks, rest) = row.as_chunks::<LANES>();
    for chunk in chunks {
        for (lane, &v) in lanes.iter_mut().zip(chunk) {
            *lane += f64::from(f(v));
        }
    }
    for (lane, &v) in lanes.iter_mut().zip(rest) {
        *lane += f64::from(f(v));
    }
    fold(lanes)
}

/// Sum of `f` over the pairs of two rows of one length, as [`sum`].
#[inline(always)]
pub(crate) fn dot<B: Copy>(a: &[f32], b: &[B], f: impl Fn(f32, B) -> f32) -> f32 {
    let mut lanes = [0.0; LANES];
    let ((a_chunks, a_rest), (b_chunks, b_rest)) = (a.as_chunks::<LANES>(), b.as_chunks::<LANES>());
    for (a, b) in a_chunks.iter().zip(b_chunks) {
        for ((lane, &a), &b) in lanes.iter_mut().zip(a).zip(b) {
            *lane += f64::from(f(a, b));
        }
    }
    for ((lane, &a), &b) in lanes.iter_mut().zip(a_rest).zip(b_rest) {
        *lane += f64::from(f(a, b));
    }
    fold(lanes)
}

/// Adds the upper half of the lanes to the lower until one is left.
#[inline(always)]
fn fold(mut lanes: [f64; LANES]) -> f32 {
    let mut half = LANES / 2;
    while half > 0 {
        for i in 0..half {
            lanes[i] += lanes[i + half];
        }
        half /= 2;
    }
    lanes[0] as f32
}
