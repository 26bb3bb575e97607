//! Products of blocks inside of one task, of operands packed to the thread's scratch.

use super::kernel::{Kernel, OperandSide};
use super::matrix::{Matrix, SumRows};
use super::operand::{OperandData, PanelOperand, blocks};
use super::panel::ProductOutput;
use super::plan::Product;
use crate::buffer::{Scratch, Shared};
use std::ops::Range;

/// A packed operand in scratch.
pub(crate) struct Panels {
    kernel: &'static Kernel,
    /// For each of the [`blocks`] of k, panel after panel; rows that lack are zeros.
    words: Scratch,
    /// Rows of a left operand, columns of a right one.
    rows: usize,
    k: usize,
    side: OperandSide,
}

impl Panels {
    /// A left operand `[m, k]`.
    pub(crate) fn left(kernel: &'static Kernel, view: Matrix<'_>) -> Self {
        Self::new(kernel, view, OperandSide::Left)
    }

    /// A right operand `[k, n]`.
    pub(crate) fn right(kernel: &'static Kernel, view: Matrix<'_>) -> Self {
        Self::new(kernel, view.transposed(), OperandSide::Right)
    }

    fn new(kernel: &'static Kernel, view: Matrix<'_>, side: OperandSide) -> Self {
        let operand = PanelOperand::view(kernel, view, side);
        let mut words = Scratch::new(operand.size(kernel));
        let mut rest = &mut words[..];
        for k in blocks(kernel, view.cols()) {
            let piece = operand.panels() * operand.height * kernel.words(k.len());
            operand.block(kernel, 0..operand.panels(), k, rest);
            rest = &mut rest[piece..];
        }
        Self { kernel, words, rows: view.rows(), k: view.cols(), side }
    }

    fn operand(&self) -> PanelOperand<'_> {
        PanelOperand {
            rows: self.rows,
            k: self.k,
            side: self.side,
            height: self.kernel.height(self.side),
            data: OperandData::Panels(&self.words),
        }
    }

    /// `c = a b`, or `c += a b` if `add`: some rows of this operand (from a multiple of the kernel's rows on)
    /// times the first columns of `b`, as many as `c` has. Of `b`'s k, as much is used as this one has.
    pub(crate) fn multiply(&self, rows: Range<usize>, b: &Self, c: SumRows<'_>, add: bool) {
        let SumRows { values: c, cols, stride } = c;
        if rows.is_empty() || cols == 0 {
            return;
        }
        assert!(
            rows.start.is_multiple_of(self.kernel.rows) && rows.end <= self.rows,
            "rows {rows:?} of {}",
            self.rows
        );
        assert!(
            self.k <= b.k && cols <= b.rows && cols <= stride && (rows.len() - 1) * stride + cols <= c.len()
        );
        let (kernel, a, b) = (self.kernel, self.operand(), b.operand());
        let product = Product { kernel, a, b, c: ProductOutput::Floats(Shared::new(c)), stride, add };
        for k in blocks(kernel, self.k) {
            let left =
                a.block(kernel, rows.start / a.height..rows.end.div_ceil(a.height), k.clone(), &mut []);
            // `b` is packed in blocks of its own k; of the last one perhaps only the first words are used.
            let whole = k.start..(k.start + kernel.terms()).min(b.k);
            let right = b.block(kernel, 0..cols.div_ceil(b.height), whole, &mut []);
            product.tiles(k, (left, 0..rows.len()), (right, 0..cols));
        }
    }
}
