//! Adaptive average pooling over pictures, channels last.

use crate::conv::Grid;
use rayon::prelude::*;
use std::ops::Range;

/// Pools pictures of one grid to another: output cell `i` of `o` along a side of `s` averages the cells
/// `floor(i * s / o) .. ceil((i + 1) * s / o)`, so windows may overlap (as PyTorch's `AdaptiveAvgPool2d`).
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct AdaptivePool {
    /// Grid and channels of the input.
    pub input: Grid,
    /// Rows of the output.
    pub height: usize,
    /// Columns of the output.
    pub width: usize,
}

impl AdaptivePool {
    /// Averages `x` `[n, h, w, c]` to `y` `[n, height, width, c]`.
    pub fn forward(&self, x: &[f32], y: &mut [f32]) {
        self.check(x.len(), y.len());
        (x.par_chunks(self.input.values()), y.par_chunks_mut(self.out_values())).into_par_iter().for_each(
            |(x, y)| {
                y.fill(0.0);
                self.windows(|cell, at, share| {
                    for (y, &x) in y[cell].iter_mut().zip(&x[at]) {
                        *y += x * share;
                    }
                });
            },
        );
    }

    /// The gradient of `x`, `dx` `[n, h, w, c]`, from that of the output, `dy` `[n, height, width, c]`.
    pub fn backward(&self, dy: &[f32], dx: &mut [f32]) {
        self.check(dx.len(), dy.len());
        (dx.par_chunks_mut(self.input.values()), dy.par_chunks(self.out_values())).into_par_iter().for_each(
            |(dx, dy)| {
                dx.fill(0.0);
                self.windows(|cell, at, share| {
                    for (dx, &dy) in dx[at].iter_mut().zip(&dy[cell]) {
                        *dx += dy * share;
                    }
                });
            },
        );
    }

    /// Calls `each` for every pair of an output cell and an input cell in its window, with the values' ranges in their
    /// pictures and the input's share.
    fn windows(&self, mut each: impl FnMut(Range<usize>, Range<usize>, f32)) {
        let Grid { height, width, channels } = self.input;
        let values = |cell: usize| cell * channels..(cell + 1) * channels;
        for i in 0..self.height {
            let rows = window(i, height, self.height);
            for j in 0..self.width {
                let columns = window(j, width, self.width);
                let share = 1.0 / (rows.len() * columns.len()) as f32;
                for row in rows.clone() {
                    for column in columns.clone() {
                        each(values(i * self.width + j), values(row * width + column), share);
                    }
                }
            }
        }
    }

    fn out_values(&self) -> usize {
        self.height * self.width * self.input.channels
    }

    fn check(&self, input: usize, output: usize) {
        let pictures = self.input.pictures(input);
        assert!(self.height > 0 && self.width > 0, "the output has no cell");
        assert_eq!(output, pictures * self.out_values(), "the output has another number of pictures");
    }
}

/// The cells that output cell `i` of `cells` averages along a side of `side`.
fn window(i: usize, side: usize, cells: usize) -> Range<usize> {
    i * side / cells..((i + 1) * side).div_ceil(cells)
}
