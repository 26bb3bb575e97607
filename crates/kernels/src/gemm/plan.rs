//! How a product is split for caches and threads. No split changes the order in which terms are added.

use super::kernel::Kernel;
use super::matrix::{MatrixMut, SumRows};
use super::operand::{Operands, PanelOperand, blocks};
use super::panel::{PanelBlock, PanelProduct, ProductOutput};
use crate::buffer::{Scratch, Shared};
use crate::cpu;
use crate::number::ElementsMut;
use crate::rows::{narrow, widen};
use std::ops::Range;

/// Panels of A that the second cache holds, and words of them. Strips of 8 panels are slower (Zen 3, Zen 4).
const STRIP: usize = 16;
const STRIP_WORDS: usize = 1 << 18;
/// Panels of B that one task packs; with 16 a training step takes as long.
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
    pub(super) a: PanelOperand<'a>,
    pub(super) b: PanelOperand<'a>,
    pub(super) c: ProductOutput<'a>,
    /// Elements from one row of `c` to the next.
    pub(super) stride: usize,
    pub(super) add: bool,
}

/// `c = a b`, or `c += a b` if `add`.
pub(super) fn product(operands: Operands<'_>, c: MatrixMut<'_>, add: bool) {
    let Operands { kernel, a, b } = operands;
    let (m, n, k, stride) = (a.rows, b.rows, a.k, c.row_stride());
    if m == 0 || n == 0 {
        return;
    }
    match c.into_data() {
        ElementsMut::Floats(c) => sums(operands, SumRows { values: c, cols: n, stride }, add),
        ElementsMut::Halves(c) if k <= kernel.terms() && k > 0 => {
            Product { kernel, a, b, c: ProductOutput::Halves(Shared::new(c)), stride, add }.on_threads();
        }
        // Sums of several blocks are f32 until they are whole.
        ElementsMut::Halves(c) => {
            let mut whole = Scratch::new(m * n);
            let whole = whole.floats();
            if add {
                widen(whole, c);
            }
            sums(operands, SumRows::dense(whole, n), add);
            narrow(c, whole);
        }
    }
}

/// The product in f32, of at least one row and column.
fn sums(operands: Operands<'_>, c: SumRows<'_>, add: bool) {
    let Operands { kernel, a, b } = operands;
    let (m, n, k, terms) = (a.rows, b.rows, a.k, kernel.terms());
    if k == 0 {
        if !add {
            c.values.chunks_mut(c.stride).take(m).for_each(|row| row[..n].fill(0.0));
        }
        return;
    }
    if k >= 2 * threads(m * n * k).max(2) * terms && m.max(n) <= SPLIT {
        return split(operands, c, add);
    }
    let stride = c.stride;
    let product = Product { kernel, a, b, c: ProductOutput::Floats(Shared::new(c.values)), stride, add };
    // The shorter operand is packed whole, of a long k some blocks at a time.
    let some = (WHOLE / kernel.block / m.min(n)).max(1) * terms;
    for start in (0..k).step_by(some) {
        let k = start..(start + some).min(k);
        let (a, b) = (a.over(kernel, k.clone()), b.over(kernel, k));
        Product { a, b, add: add || start > 0, ..product }.on_threads();
    }
}

/// Panels of A over k that the second cache holds.
fn strip(kernel: &Kernel, k: usize) -> usize {
    (STRIP_WORDS / (kernel.rows * kernel.words(k.min(kernel.terms())))).clamp(1, STRIP)
}

/// Panels of a part, as panels of the whole.
fn shifted(panels: &Range<usize>, part: &Range<usize>) -> Range<usize> {
    part.start + panels.start..part.start + panels.end
}

/// Threads for a product of so many terms.
pub(super) fn threads(terms: usize) -> usize {
    if terms < SERIAL { 1 } else { rayon::current_num_threads() }
}

impl Product<'_> {
    fn on_threads(&self) {
        let (m, n) = (self.a.rows, self.b.rows);
        let threads = threads(m * n * self.a.k);
        // The longer side is shared out, so that each thread packs its own part of it.
        if self.kernel.fast && (m < n || self.a.is_across()) {
            self.by_strips(threads);
        } else if m >= n {
            self.by_rows(threads);
        } else {
            self.by_columns(threads);
        }
    }

    /// Where memory bounds: both operands are packed whole, in the order of memory, of a very long side some
    /// panels at a time.
    fn by_strips(&self, threads: usize) {
        for rows in self.a.parts(self.kernel) {
            for cols in self.b.parts(self.kernel) {
                self.strips(rows.clone(), cols, threads);
            }
        }
    }

    /// The product of some panels: each task multiplies some rows of A, which the second cache holds, and
    /// some columns of B. Rows that lie along k and are needed once are packed by their task.
    fn strips(&self, rows: Range<usize>, cols: Range<usize>, threads: usize) {
        let (kernel, strip) = (self.kernel, strip(self.kernel, self.a.k));
        let (mut left, mut right) = (None, None);
        let (a, b) = (self.a.part(rows.clone()), self.b.part(cols.clone()).packed(kernel, &mut right));
        let (down, across) = (rows.len(), cols.len());
        let strips = down.div_ceil(strip);
        let once = strips >= 4 * threads && !a.is_across();
        let a = if once { a } else { a.packed(kernel, &mut left) };
        let some = if once { across } else { (strips * across).div_ceil(4 * threads).clamp(1, across) };
        let parts = across.div_ceil(some);
        cpu::share(strips * parts, 1, threads, |tasks| {
            for task in tasks {
                let (first, part) = (task / parts * strip, task % parts * some);
                let (p, q) = (first..(first + strip).min(down), part..(part + some).min(across));
                let mut scratch = Scratch::new(a.block_size(kernel, p.len()));
                let (to_rows, to_cols) = (self.a.range(shifted(&p, &rows)), self.b.range(shifted(&q, &cols)));
                for k in blocks(kernel, self.a.k) {
                    let a = a.block(kernel, p.clone(), k.clone(), &mut scratch);
                    let b = b.block(kernel, q.clone(), k.clone(), &mut []);
                    self.tiles(k, (a, to_rows.clone()), (b, to_cols.clone()));
                }
            }
        });
    }

    /// B is packed whole; each task packs and multiplies some rows of A. Pieces shrink towards the end: equal
    /// ones left one of two threads idle for a twelfth of a product (a step of the 34M decoder took 1.03
    /// times as long).
    fn by_rows(&self, threads: usize) {
        let mut scratch = None;
        let b = self.b.packed(self.kernel, &mut scratch);
        let panels = self.a.panels();
        cpu::share(panels, strip(self.kernel, self.a.k), threads, |panels| {
            let mut scratch = Scratch::new(self.a.block_size(self.kernel, panels.len()));
            for k in blocks(self.kernel, self.a.k) {
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
            for k in blocks(self.kernel, self.a.k) {
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
        (a, rows): (PanelBlock<'_>, Range<usize>),
        (b, cols): (PanelBlock<'_>, Range<usize>),
    ) {
        let (kernel, words) = (self.kernel, self.kernel.words(k.len()));
        let panels = PanelProduct {
            words,
            a,
            rows,
            height: kernel.rows,
            b,
            cols,
            width: kernel.cols,
            c: self.c,
            stride: self.stride,
            add: self.add || k.start > 0,
        };
        // SAFETY: the panels were packed by this kernel, and `PanelProduct::tile` checks that they hold the
        // words; rows and columns are inside of `c`, whose shape `gemm` checked, and no other task has them.
        unsafe { kernel.product(&panels) }
    }
}

/// Long sums: each task makes one block of k for the whole product, and the blocks are added in their order.
fn split(operands: Operands<'_>, c: SumRows<'_>, add: bool) {
    let Operands { kernel, a, b } = operands;
    let (m, n, terms) = (a.rows, b.rows, kernel.terms());
    let mut partial = Scratch::new(a.k.div_ceil(terms) * m * n);
    let partial = partial.floats();
    cpu::chunks(partial, m * n, |i, block| {
        let k = i * terms..((i + 1) * terms).min(a.k);
        let product =
            Product { kernel, a, b, c: ProductOutput::Floats(Shared::new(block)), stride: n, add: false };
        let (mut left, mut right) =
            (Scratch::new(a.block_size(kernel, a.panels())), Scratch::new(b.block_size(kernel, COLUMNS)));
        let left = a.block(kernel, 0..a.panels(), k.clone(), &mut left);
        for panels in (0..b.panels()).step_by(COLUMNS) {
            let panels = panels..(panels + COLUMNS).min(b.panels());
            let right = b.block(kernel, panels.clone(), k.clone(), &mut right);
            product.tiles(0..k.len(), (left, 0..m), (right, b.range(panels)));
        }
    });
    let (partial, stride) = (PartialSums { values: partial, rows: m, cols: n }, c.stride);
    cpu::chunks(&mut c.values[..(m - 1) * stride + n], stride * ROWS_ADDED, |i, values| {
        add_blocks(partial, i * ROWS_ADDED, SumRows { values, cols: n, stride }, add);
    });
}

/// Rows whose blocks one task adds.
const ROWS_ADDED: usize = 16;

/// The products of the blocks of k, one after another: `[blocks, rows, cols]`.
#[derive(Clone, Copy)]
struct PartialSums<'a> {
    values: &'a [f32],
    rows: usize,
    cols: usize,
}

cpu::tiered! {
    /// Adds the blocks to rows of the product from `first` on.
    fn add_blocks(partial: PartialSums<'_>, first: usize, c: SumRows<'_>, add: bool) {
        let n = partial.cols;
        for (i, row) in c.values.chunks_mut(c.stride).enumerate() {
            let blocks = partial.values.chunks_exact(partial.rows * n);
            let mut blocks = blocks.map(|block| &block[(first + i) * n..][..n]);
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
