//! 3x3 convolution with padding 1 over pictures, channels last: a product of the windows' rows with the
//! weight. The windows exist for a few pictures at a time only.

use crate::buffer::Scratch;
use crate::cpu::tiered;
use crate::gemm::{Matrix, MatrixMut, Precision, gemm};
use rayon::prelude::*;
use std::ops::Range;

/// Values of the windows that exist at a time, about: fixed, so that no sum depends on the number of threads.
const CHUNK: usize = 1 << 17;

/// The size of a picture: `[height, width, channels]`.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Grid {
    /// Rows.
    pub height: usize,
    /// Columns.
    pub width: usize,
    /// Channels.
    pub channels: usize,
}

impl Grid {
    /// Values of one picture.
    pub fn values(&self) -> usize {
        self.height * self.width * self.channels
    }

    /// Number of pictures among so many values, which must be whole ones.
    pub(crate) fn pictures(&self, values: usize) -> usize {
        assert!(
            self.values() > 0 && values.is_multiple_of(self.values()),
            "{values} values are not pictures of {self:?}"
        );
        values / self.values()
    }

    /// Values of a row.
    fn row(&self) -> usize {
        self.width * self.channels
    }
}

/// The 3x3 windows of a picture, `stride` apart, the first one centred on the first pixel.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Windows {
    /// Size of a picture.
    pub input: Grid,
    /// Pixels from one window to the next, 1 or more.
    pub stride: usize,
}

impl Windows {
    /// Windows from top to bottom.
    pub fn height(&self) -> usize {
        self.input.height.div_ceil(self.stride)
    }

    /// Windows from left to right.
    pub fn width(&self) -> usize {
        self.input.width.div_ceil(self.stride)
    }

    /// Values of all windows of one picture.
    pub fn values(&self) -> usize {
        self.height() * self.width() * 9 * self.input.channels
    }

    /// Writes the windows of `x` `[n, h, w, c]` to `windows` `[n, height, width, 9 c]` in the order (ky, kx,
    /// c), zeros outside of the picture.
    pub fn unfold(&self, x: &[f32], windows: &mut [f32]) {
        self.check(x.len(), windows.len());
        windows.par_chunks_mut(self.width() * 9 * self.input.channels).enumerate().for_each(
            |(line, windows)| {
                let x = &x[line / self.height() * self.input.values()..][..self.input.values()];
                unfold_line(self, line % self.height(), x, windows);
            },
        );
    }

    /// The gradient of `x`, `dx` `[n, h, w, c]`, from that of the windows: the transpose of [`Self::unfold`].
    pub fn fold(&self, windows: &[f32], dx: &mut [f32]) {
        self.check(dx.len(), windows.len());
        // Gathered by rows of the picture: several windows would write to one pixel.
        dx.par_chunks_mut(self.input.row()).enumerate().for_each(|(row, dx)| {
            let windows = &windows[row / self.input.height * self.values()..][..self.values()];
            fold_row(self, row % self.input.height, windows, dx);
        });
    }

    /// The row of the picture under row `ky` of the windows of line `i`.
    #[inline(always)]
    fn row(&self, i: usize, ky: usize) -> Option<usize> {
        (i * self.stride + ky).checked_sub(1).filter(|&y| y < self.input.height)
    }

    /// The line of windows whose row `ky` is over row `y` of the picture.
    #[inline(always)]
    fn line(&self, y: usize, ky: usize) -> Option<usize> {
        let first = (y + 1).checked_sub(ky).filter(|first| first.is_multiple_of(self.stride))?;
        Some(first / self.stride).filter(|&line| line < self.height())
    }

    /// Where the columns of window `j` lie in the values of a row of the picture and in those of a row of the
    /// window.
    #[inline(always)]
    fn columns(&self, j: usize) -> (Range<usize>, Range<usize>) {
        let (first, c) = (j * self.stride, self.input.channels);
        let (skip, end) = (usize::from(first == 0), (first + 2).min(self.input.width));
        let from = first + skip - 1;
        (from * c..end * c, skip * c..(skip + end - from) * c)
    }

    fn check(&self, input: usize, windows: usize) {
        assert!(self.stride > 0, "windows must be at least 1 pixel apart");
        assert_eq!(
            windows,
            self.input.pictures(input) * self.values(),
            "the windows are not those of the pictures"
        );
    }
}

tiered! {
    /// Writes line `i` of the windows of one picture.
    fn unfold_line(windows: &Windows, i: usize, x: &[f32], line: &mut [f32]) {
        let (run, row) = (3 * windows.input.channels, windows.input.row());
        for (j, window) in line.chunks_exact_mut(3 * run).enumerate() {
            let (from, to) = windows.columns(j);
            for (ky, taps) in window.chunks_exact_mut(run).enumerate() {
                match windows.row(i, ky) {
                    None => taps.fill(0.0),
                    Some(y) => {
                        taps[..to.start].fill(0.0);
                        taps[to.end..].fill(0.0);
                        // Not `copy_from_slice`, whose call costs more than these few values.
                        for (tap, &x) in taps[to.clone()].iter_mut().zip(&x[y * row..][from.clone()]) {
                            *tap = x;
                        }
                    }
                }
            }
        }
    }
}

tiered! {
    /// Writes row `y` of the gradient of one picture.
    fn fold_row(windows: &Windows, y: usize, d_windows: &[f32], dx: &mut [f32]) {
        let run = 3 * windows.input.channels;
        let line = windows.width() * 3 * run;
        dx.fill(0.0);
        for ky in 0..3 {
            let Some(i) = windows.line(y, ky) else { continue };
            for (j, window) in d_windows[i * line..][..line].chunks_exact(3 * run).enumerate() {
                let (to, from) = windows.columns(j);
                for (dx, &g) in dx[to].iter_mut().zip(&window[ky * run..][from]) {
                    *dx += g;
                }
            }
        }
    }
}

/// A convolution.
#[derive(Clone, Copy, Debug)]
pub struct Conv<'a> {
    /// Where the windows lie.
    pub windows: Windows,
    /// `[9 c, o]` in the order (ky, kx, c).
    pub weight: &'a [f32],
    /// Of the products.
    pub precision: Precision,
}

impl Conv<'_> {
    /// Writes the convolution of `x` `[n, h, w, c]` to `y` `[n, height, width, o]`, or adds it to what is
    /// there.
    pub fn forward(&self, x: &[f32], y: &mut [f32], add: bool) {
        let (input, output) = self.chunk(x.len(), y.len());
        (x.par_chunks(input), y.par_chunks_mut(output)).into_par_iter().for_each(|(x, y)| {
            let mut windows = self.unfold(x);
            let y = MatrixMut::new(y, self.rows(x.len()), self.outputs());
            gemm(self.precision, self.window_rows(windows.floats()), self.weight(), y, add);
        });
    }

    /// The gradient of the input, `dx` `[n, h, w, c]`, from that of the output, `dy` `[n, height, width, o]`.
    pub fn input_grad(&self, dy: &[f32], dx: &mut [f32]) {
        let (input, output) = self.chunk(dx.len(), dy.len());
        (dx.par_chunks_mut(input), dy.par_chunks(output)).into_par_iter().for_each(|(dx, dy)| {
            let rows = self.rows(dx.len());
            let mut windows = Scratch::new(rows * self.taps());
            let d_windows = MatrixMut::new(windows.floats(), rows, self.taps());
            let dy = Matrix::new(dy, rows, self.outputs());
            gemm(self.precision, dy, self.weight().transposed(), d_windows, false);
            self.windows.fold(windows.floats(), dx);
        });
    }

    /// The gradient of the weight, `[9 c, o]`, from the input `x` and that of the output, `dy`.
    pub fn weight_grad(&self, x: &[f32], dy: &[f32]) -> Vec<f32> {
        let (input, output) = self.chunk(x.len(), dy.len());
        let mut dw = vec![0.0; self.weight.len()];
        // One chunk after another, in a fixed order: threads work inside of each product.
        for (x, dy) in x.chunks(input).zip(dy.chunks(output)) {
            let mut windows = self.unfold(x);
            let dy = Matrix::new(dy, self.rows(x.len()), self.outputs());
            let dw = MatrixMut::new(&mut dw, self.taps(), self.outputs());
            gemm(self.precision, self.window_rows(windows.floats()).transposed(), dy, dw, true);
        }
        dw
    }

    fn unfold(&self, x: &[f32]) -> Scratch {
        let mut windows = Scratch::new(self.rows(x.len()) * self.taps());
        self.windows.unfold(x, windows.floats());
        windows
    }

    fn window_rows<'a>(&self, windows: &'a [f32]) -> Matrix<'a> {
        Matrix::new(windows, windows.len() / self.taps(), self.taps())
    }

    fn weight(&self) -> Matrix<'_> {
        Matrix::new(self.weight, self.taps(), self.outputs())
    }

    fn taps(&self) -> usize {
        9 * self.windows.input.channels
    }

    fn outputs(&self) -> usize {
        self.weight.len() / self.taps()
    }

    /// Windows in so many values of the input.
    fn rows(&self, input: usize) -> usize {
        input / self.windows.input.values() * self.windows.height() * self.windows.width()
    }

    /// Values of the input and of the output that make a chunk, after a check of the lengths.
    fn chunk(&self, input: usize, output: usize) -> (usize, usize) {
        assert!(self.weight.len().is_multiple_of(self.taps()), "the weight must have 9 * channels rows");
        let pictures = self.windows.input.pictures(input);
        let places = self.windows.height() * self.windows.width();
        assert_eq!(output, pictures * places * self.outputs(), "the output has another number of pictures");
        let chunk = (CHUNK / self.windows.values()).max(1);
        (chunk * self.windows.input.values(), (chunk * places * self.outputs()).max(1))
    }
}
