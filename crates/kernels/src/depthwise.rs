//! Depthwise 3x3 convolution: stride 1, padding 1, channels last, each channel on its own.

use crate::conv::Grid;
use crate::cpu::tiered;
use crate::number::Stored;
use crate::rows::add_pieces;
use rayon::prelude::*;
use std::ops::Range;

/// Pictures whose sums make one partial sum: fixed, so that no sum depends on the number of threads.
const PIECE: usize = 4;

/// `y[i, j, k] = sum of x[i + ky - 1, j + kx - 1, k] * weight[ky, kx, k]`
/// for `x` and `y` `[n, h, w, c]` and `weight` `[9, c]`.
pub fn forward(grid: Grid, x: &[f32], weight: &[f32], y: &mut [f32]) {
    check(grid, x, weight.len(), y.len());
    (x.par_chunks(grid.values()), y.par_chunks_mut(grid.values()))
        .into_par_iter()
        .for_each(|(x, y)| picture_piece(grid, x, weight, y));
}

/// The gradient of the input of [`forward`]: the same with the weight turned by half a turn.
pub fn input_grad(grid: Grid, dy: &[f32], weight: &[f32], dx: &mut [f32]) {
    let turned: Vec<f32> = weight.chunks_exact(grid.channels).rev().flatten().copied().collect();
    forward(grid, dy, &turned, dx);
}

/// The gradient of the weight of [`forward`], `[9, c]`.
pub fn weight_grad<X: Stored>(grid: Grid, x: &[X], dy: &[f32]) -> Vec<f32> {
    let size = 9 * grid.channels;
    check(grid, x, size, dy.len());
    let mut partial = vec![0.0; grid.pictures(x.len()).div_ceil(PIECE) * size];
    let piece = PIECE * grid.values();
    (x.par_chunks(piece), dy.par_chunks(piece), partial.par_chunks_mut(size)).into_par_iter().for_each(
        |(x, dy, dw)| {
            for (x, dy) in x.chunks_exact(grid.values()).zip(dy.chunks_exact(grid.values())) {
                weight_grad_piece(grid, x, dy, dw);
            }
        },
    );
    add_pieces(&partial, size)
}

tiered! {
    fn picture_piece(grid: Grid, x: &[f32], weight: &[f32], y: &mut [f32]) {
        y.fill(0.0);
        taps(grid, |tap, from, to| {
            for ((y, &x), &w) in y[to].iter_mut().zip(&x[from]).zip(&weight[tap]) {
                *y += x * w;
            }
        });
    }
}

tiered! {
    fn weight_grad_piece<X: Stored>(grid: Grid, x: &[X], dy: &[f32], dw: &mut [f32]) {
        taps(grid, |tap, from, to| {
            for ((w, x), &dy) in dw[tap].iter_mut().zip(&x[from]).zip(&dy[to]) {
                *w += x.wide() * dy;
            }
        });
    }
}

/// Calls `each` for every output pixel and every pixel of its window: the values of the tap in the weight, of
/// the input pixel and of the output pixel.
#[inline(always)]
fn taps(grid: Grid, mut each: impl FnMut(Range<usize>, Range<usize>, Range<usize>)) {
    let Grid { height, width, channels } = grid;
    let values = |cell: usize| cell * channels..(cell + 1) * channels;
    let near = |at: usize, side: usize| at.saturating_sub(1)..(at + 2).min(side);
    for i in 0..height {
        for j in 0..width {
            for y in near(i, height) {
                for x in near(j, width) {
                    let tap = (y + 1 - i) * 3 + x + 1 - j;
                    each(values(tap), values(y * width + x), values(i * width + j));
                }
            }
        }
    }
}

fn check<X>(grid: Grid, x: &[X], weight: usize, y: usize) {
    grid.pictures(x.len());
    assert_eq!(x.len(), y, "input and output differ in length");
    assert_eq!(weight, 9 * grid.channels, "the weight must be [9, channels]");
}
