//! Products with a weight in 8 bits, in the layout of llama.cpp's Q8_0: 32 values along k share a scale in
//! f16, `value = scale * byte`.
//!
//! The left operand is rounded to such blocks as well, as llama.cpp does, with a scale in f32 where that has
//! f16. The sum of a block is an integer and so exact; it is multiplied by both scales, and the blocks are
//! added in their order. So an element has the same bits on every instruction set, for any number of rows,
//! neighbours and threads.

mod products;
mod rows;

use super::matrix::{Matrix, MatrixMut};
use super::plan;
use crate::buffer::{Scratch, Shared};
use crate::cpu;
use crate::number::{Elements, ElementsMut, Stored};
use crate::rows::{narrow, widen};
use half::f16;
use products::products;
use rows::round_rows;
use std::fmt;

/// Values along k that share a scale.
const BLOCK: usize = 32;
/// Values that an instruction multiplies and adds at once.
const GROUP: usize = 4;
/// Columns of a panel.
const COLUMNS: usize = 32;
/// Rows that read a block of the weight together.
const ROWS: usize = 4;
/// Bytes of the panels of one task, about.
const CACHED: usize = 1 << 18;

/// A block of 32 values along k: `value = scale * byte`.
#[derive(Clone, Copy, Debug, PartialEq)]
pub struct Q8Block {
    /// The largest magnitude / 127. Infinite beyond f16; no number where a value is infinite or none.
    pub scale: f16,
    /// The bytes.
    pub values: [i8; BLOCK],
}

impl Q8Block {
    /// Rounds values as llama.cpp's files have them (`quantize_row_q8_0_ref`): halves go away from zero.
    pub fn new(values: &[f32; BLOCK]) -> Self {
        let [scale, inverse] = scale(values);
        Self { scale: f16::from_f32(scale), values: values.map(|x| (x * inverse).round() as i8) }
    }
}

/// The scale of a block and its inverse, both 0 where all values are. The scale is no number where a value is
/// infinite or none.
#[inline(always)]
fn scale(values: &[f32; BLOCK]) -> [f32; 2] {
    scale_of(values.iter().fold(0, |most, x| most.max(x.to_bits() & MAGNITUDE)))
}

/// The same of the bits of the largest magnitude: those of what is no number are larger than all others.
#[inline(always)]
fn scale_of(bits: u32) -> [f32; 2] {
    let largest = f32::from_bits(bits);
    let scale = largest / 127.0 + largest * 0.0;
    [scale, if scale > 0.0 { 1.0 / scale } else { 0.0 }]
}

/// All bits of a float but its sign.
const MAGNITUDE: u32 = 0x7fff_ffff;

/// A right operand `[k, n]` in blocks of Q8_0 along k: a weight that nobody trains, in 1.0625 bytes a value.
pub struct Q8Matrix {
    /// Panel after panel, and in each block after block along k.
    blocks: Vec<ColumnBlocks>,
    k: usize,
    n: usize,
}

/// One block of each column of a panel: seventeen cache lines.
#[derive(Clone, Copy)]
#[repr(C, align(64))]
struct ColumnBlocks {
    /// Each 128 more than it stands for: the machine multiplies bytes without a sign by some with one.
    values: [[[u8; GROUP]; COLUMNS]; BLOCK / GROUP],
    scales: [f16; COLUMNS],
}

impl ColumnBlocks {
    const ZERO: Self =
        Self { values: [[[128; GROUP]; COLUMNS]; BLOCK / GROUP], scales: [f16::from_bits(0); COLUMNS] };

    /// Values from row `first` and column `column` of `b` on; what lacks is zeros.
    fn new(b: Matrix<'_>, first: usize, column: usize) -> Self {
        let mut blocks = Self::ZERO;
        for j in 0..COLUMNS.min(b.cols() - column) {
            let value = |i: usize| if first + i < b.rows() { at(b, first + i, column + j) } else { 0.0 };
            let Q8Block { scale, values } = Q8Block::new(&std::array::from_fn(value));
            blocks.scales[j] = scale;
            for (i, byte) in values.into_iter().enumerate() {
                blocks.values[i / GROUP][j][i % GROUP] = byte.cast_unsigned() ^ 0x80;
            }
        }
        blocks
    }

    /// The block of one column.
    fn column(&self, j: usize) -> Q8Block {
        let byte = |i: usize| (self.values[i / GROUP][j][i % GROUP] ^ 0x80).cast_signed();
        Q8Block { scale: self.scales[j], values: std::array::from_fn(byte) }
    }
}

fn at(matrix: Matrix<'_>, row: usize, column: usize) -> f32 {
    let index = row * matrix.row_stride() + column * matrix.col_stride();
    match matrix.data() {
        Elements::Floats(data) => data[index],
        Elements::Halves(data) => data[index].wide(),
    }
}

impl Q8Matrix {
    /// Rounds a matrix. One that was rounded so before comes out as it was.
    pub fn new(b: Matrix<'_>) -> Self {
        let ([k, n], depth) = ([b.rows(), b.cols()], b.rows().div_ceil(BLOCK));
        let mut blocks = vec![ColumnBlocks::ZERO; n.div_ceil(COLUMNS) * depth];
        cpu::chunks(&mut blocks, depth.max(1), |panel, blocks| {
            for (i, block) in blocks.iter_mut().enumerate() {
                *block = ColumnBlocks::new(b, i * BLOCK, panel * COLUMNS);
            }
        });
        Self { blocks, k, n }
    }

    /// The blocks of column `j` along k.
    ///
    /// # Panics
    /// If there is no such column.
    pub fn column(&self, j: usize) -> impl Iterator<Item = Q8Block> + '_ {
        assert!(j < self.n, "column {j} of {}", self.n);
        let depth = self.k.div_ceil(BLOCK);
        self.blocks[j / COLUMNS * depth..][..depth].iter().map(move |block| block.column(j % COLUMNS))
    }

    /// Rows k and columns n of the matrix.
    pub fn dims(&self) -> [usize; 2] {
        [self.k, self.n]
    }

    /// `c = a b`, or `c += a b` if `accumulate`: `[m, k] x [k, n] -> [m, n]`.
    ///
    /// # Panics
    /// If the shapes do not fit.
    pub fn multiply(&self, a: Matrix<'_>, c: MatrixMut<'_>, accumulate: bool) {
        let ([k, n], m, stride) = (self.dims(), a.rows(), c.row_stride());
        assert!(
            a.cols() == k && c.rows() == m && c.cols() == n,
            "[{m}, {}] x [{k}, {n}] is not [{}, {}]",
            a.cols(),
            c.rows(),
            c.cols()
        );
        match c.into_data() {
            ElementsMut::Floats(c) => self.sums(a, (c, stride), accumulate),
            // Matrices of halves are dense.
            ElementsMut::Halves(c) => {
                let mut whole = Scratch::new(m * n);
                let whole = whole.floats();
                if accumulate {
                    widen(whole, c);
                }
                self.sums(a, (whole, n), accumulate);
                narrow(c, whole);
            }
        }
    }

    /// The product in f32, its rows `stride` apart.
    fn sums(&self, a: Matrix<'_>, (c, stride): (&mut [f32], usize), add: bool) {
        let (m, depth, panels) = (a.rows(), self.k.div_ceil(BLOCK), self.n.div_ceil(COLUMNS));
        let (rows, out) = (round_rows(a), Shared::new(c));
        let together = (CACHED / (depth.max(1) * size_of::<ColumnBlocks>())).max(1);
        cpu::share(panels, together, plan::threads(m * self.n * self.k), |some| {
            // The panels stay in the second cache while all rows meet them.
            for first in (0..m).step_by(ROWS) {
                let count = (m - first).min(ROWS);
                for panel in some.clone() {
                    let blocks = &self.blocks[panel * depth..][..depth];
                    let columns = panel * COLUMNS..((panel + 1) * COLUMNS).min(self.n);
                    let mut sums = [[0.0; COLUMNS]; ROWS];
                    products(&rows[first * depth..][..count * depth], blocks, &mut sums[..count]);
                    for (row, sums) in (first..).zip(&sums[..count]) {
                        let start = row * stride;
                        // SAFETY: rows do not overlap, and each task has columns of its own.
                        let out = unsafe { out.part(start + columns.start..start + columns.end) };
                        for (out, sum) in out.iter_mut().zip(sums) {
                            *out = if add { *out + sum } else { *sum };
                        }
                    }
                }
            }
        });
    }
}

impl fmt::Debug for Q8Matrix {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "Q8Matrix([{}, {}])", self.k, self.n)
    }
}
