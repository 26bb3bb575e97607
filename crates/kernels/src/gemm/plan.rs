//! How a product is split for caches and threads. No split changes the order in which terms are added.

use super::KC;
use super::kernel::Kernel;
use super::matrix::MatrixMut;
use super::operand::{Block, Operand, blocks};
use super::tile::Tile;
use crate::buffer::{Scratch, Shared};
use crate::cpu;
use std::ops::Range;

/// Panels of A that the second cache holds.
const STRIP: usize = 16;
/// Panels of B that one task packs.
const COLUMNS: usize = 8;
/// Words of an operand that are packed at once, about.
const WHOLE: usize = 1 << 21;
/// Products with fewer terms are left to one thread.
const SERIAL: usize = 1 << 19;
/// The longest side of a product that is split along k.
const SPLIT: usize = 512;

/// The product into a shared matrix.
#[derive(Clone, Copy)]
pub(super) struct Product<'a> {
    pub(super) kernel: &'static Kernel,
    pub(super) a: Operand<'a>,
    pub(super) b: Operand<'a>,
    pub(super) c: Shared<'a, f32>,
    /// Floats from one row of `c` to the next.
    pub(super) stride: usize,
    pub(super) add: bool,
}

/// `c = a b`, or `c += a b` if `add`.
pub(super) fn product(
    kernel: &'static Kernel,
    a: Operand<'_>,
    b: Operand<'_>,
    mut c: MatrixMut<'_>,
    add: bool,
) {
    let (m, n, k, stride) = (a.rows, b.rows, a.k, c.row_stride());
    if m == 0 || n == 0 {
        return;
    }
    if k == 0 {
        if !add {
            c.data().chunks_mut(stride).take(m).for_each(|row| row[..n].fill(0.0));
        }
        return;
    }
    let threads = if m * n * k < SERIAL { 1 } else { rayon::current_num_threads() };
    if k >= 2 * threads.max(2) * KC && m.max(n) <= SPLIT {
        return split(kernel, a, b, c, add);
    }
    let product = Product { kernel, a, b, stride, c: Shared::new(c.data()), add };
    // The shorter operand is packed whole, of a long k some blocks at a time.
    let some = (WHOLE / KC / m.min(n)).max(1) * KC;
    for start in (0..k).step_by(some) {
        let k = start..(start + some).min(k);
        let part =
            Product { a: a.over(kernel, k.clone()), b: b.over(kernel, k), add: add || start > 0, ..product };
        if m >= n { part.by_rows(threads) } else { part.by_columns(threads) }
    }
}

impl Product<'_> {
    /// B is packed whole; each task packs and multiplies some rows of A.
    fn by_rows(&self, threads: usize) {
        let mut scratch = None;
        let b = self.b.packed(self.kernel, &mut scratch);
        let panels = self.a.panels();
        cpu::share(panels, STRIP, threads, |panels| {
            let mut scratch = Scratch::new(self.a.block_size(self.kernel, panels.len()));
            for k in blocks(self.a.k) {
                let a = self.a.block(self.kernel, panels.clone(), k.clone(), &mut scratch);
                let b = b.block(self.kernel, 0..self.b.panels(), k.clone(), &mut []);
                self.tiles(k, (a, self.a.range(panels.clone())), (b, 0..self.b.rows));
            }
        });
    }

    /// A is packed whole; each task packs and multiplies some columns of B.
    fn by_columns(&self, threads: usize) {
        let mut scratch = None;
        let a = self.a.packed(self.kernel, &mut scratch);
        let panels = self.b.panels();
        cpu::share(panels, COLUMNS, threads, |panels| {
            let mut scratch = Scratch::new(self.b.block_size(self.kernel, panels.len()));
            for k in blocks(self.a.k) {
                let b = self.b.block(self.kernel, panels.clone(), k.clone(), &mut scratch);
                for strip in (0..self.a.panels()).step_by(STRIP) {
                    let strip = strip..(strip + STRIP).min(self.a.panels());
                    let a = a.block(self.kernel, strip.clone(), k.clone(), &mut []);
                    self.tiles(k.clone(), (a, self.a.range(strip)), (b, self.b.range(panels.clone())));
                }
            }
        });
    }

    /// Adds one block of k to rows and columns of the product.
    pub(super) fn tiles(
        &self,
        k: Range<usize>,
        (a, rows): (Block<'_>, Range<usize>),
        (b, cols): (Block<'_>, Range<usize>),
    ) {
        let kernel = self.kernel;
        let words = kernel.words(k.len());
        for (q, col) in cols.clone().step_by(kernel.cols).enumerate() {
            let b = &b.words[q * b.stride..][..words * kernel.cols];
            for (p, row) in rows.clone().step_by(kernel.rows).enumerate() {
                let a = &a.words[p * a.stride..][..words * kernel.rows];
                let (height, width) = ((rows.end - row).min(kernel.rows), (cols.end - col).min(kernel.cols));
                let c = self.c.pointer(row * self.stride + col);
                let add = self.add || k.start > 0;
                let tile =
                    Tile { words, a: a.as_ptr(), b: b.as_ptr(), c, stride: self.stride, cols: width, add };
                // SAFETY: the panels hold the words (sliced above); the tile is inside of `c`, whose shape `gemm`
                // checked, and no other task has it.
                unsafe { kernel.tile(height, &tile) }
            }
        }
    }
}

/// Long sums: each task makes one block of k for the whole product, and the blocks are added in their order.
fn split(kernel: &'static Kernel, a: Operand<'_>, b: Operand<'_>, mut c: MatrixMut<'_>, add: bool) {
    let (m, n, stride) = (a.rows, b.rows, c.row_stride());
    let mut partial = Scratch::new(a.k.div_ceil(KC) * m * n);
    let partial = partial.floats();
    cpu::chunks(partial, m * n, |i, block| {
        let k = i * KC..((i + 1) * KC).min(a.k);
        let product = Product { kernel, a, b, stride: n, c: Shared::new(block), add: false };
        let (mut left, mut right) =
            (Scratch::new(a.block_size(kernel, a.panels())), Scratch::new(b.block_size(kernel, COLUMNS)));
        let left = a.block(kernel, 0..a.panels(), k.clone(), &mut left);
        for panels in (0..b.panels()).step_by(COLUMNS) {
            let panels = panels..(panels + COLUMNS).min(b.panels());
            let right = b.block(kernel, panels.clone(), k.clone(), &mut right);
            product.tiles(0..k.len(), (left, 0..m), (right, b.range(panels)));
        }
    });
    let rows = c.data().len().min(m * stride).div_ceil(stride);
    debug_assert_eq!(rows, m);
    cpu::chunks(&mut c.data()[..(m - 1) * stride + n], stride * ROWS_ADDED, |i, rows| {
        add_blocks(partial, (m, n, i * ROWS_ADDED), rows, (stride, add));
    });
}

/// Rows whose blocks one task adds.
const ROWS_ADDED: usize = 16;

cpu::tiered! {
    /// Adds the blocks `[blocks, m, n]` to rows from `first` on.
    fn add_blocks(blocks: &[f32], (m, n, first): (usize, usize, usize), rows: &mut [f32], (stride, add): (usize, bool)) {
        for (i, row) in rows.chunks_mut(stride).enumerate() {
            let mut blocks = blocks.chunks_exact(m * n).map(|block| &block[(first + i) * n..][..n]);
            if !add && let Some(block) = blocks.next() {
                row[..n].copy_from_slice(block);
            }
            for block in blocks {
                for (c, &x) in row[..n].iter_mut().zip(block) {
                    *c += x;
                }
            }
        }
    }
}
