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
        let pictures = (x.par_chunks(self.input.values()), y.par_chunks_mut(self.out_values()));
        pictures.into_par_iter().for_each(|(x, y)| {
            for (cell, share, window) in self.windows() {
                let y = &mut y[cell];
                y.fill(0.0);
                for place in window {
                    for (y, &x) in y.iter_mut().zip(&x[place]) {
                        *y += x;
                    }
                }
                for y in y {
                    *y *= share;
                }
            }
        });
    }

    /// The gradient of `x`, `dx` `[n, h, w, c]`, from that of the output, `dy` `[n, height, width, c]`.
    pub fn backward(&self, dy: &[f32], dx: &mut [f32]) {
        self.check(dx.len(), dy.len());
        let pictures = (dx.par_chunks_mut(self.input.values()), dy.par_chunks(self.out_values()));
        pictures.into_par_iter().for_each(|(dx, dy)| {
            // Windows overlap where the sides do not divide: a pixel adds up the shares of all of its cells.
            dx.fill(0.0);
            for (cell, share, window) in self.windows() {
                for place in window {
                    for (dx, &dy) in dx[place].iter_mut().zip(&dy[cell.clone()]) {
                        *dx += dy * share;
                    }
                }
            }
        });
    }

    /// For each output cell its values in a picture, the share of one input cell, and the values of those.
    fn windows(&self) -> impl Iterator<Item = (Range<usize>, f32, impl Iterator<Item = Range<usize>>)> {
        let Self { input: Grid { height, width, channels }, height: out_height, width: out_width } = *self;
        let values = move |cell: usize| cell * channels..(cell + 1) * channels;
        (0..out_height * out_width).map(move |cell| {
            let rows = window(cell / out_width, height, out_height);
            let columns = window(cell % out_width, width, out_width);
            let share = 1.0 / (rows.len() * columns.len()) as f32;
            let places = rows.flat_map(move |y| columns.clone().map(move |x| values(y * width + x)));
            (values(cell), share, places)
        })
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
