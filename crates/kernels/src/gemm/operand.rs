//! Operands of a product: views, or panels packed before.

use super::kernel::Kernel;
use super::{Matrix, Precision};
use crate::buffer::{Scratch, Words};
use crate::cpu;
use std::fmt;
use std::ops::Range;

/// The right operand `[k, n]`, packed once for many products: a weight that nobody trains, for example. In
/// bfloat16 it takes half of the memory where the instruction set has products of it.
pub struct PackedB {
    /// Whose panels these are: another instruction set lays them out in another way.
    kernel: &'static Kernel,
    precision: Precision,
    /// For each of the [`blocks`] of k, panel after panel; columns that lack are zeros.
    words: Words,
    k: usize,
    n: usize,
}

impl PackedB {
    /// Packs a matrix for products in `precision`.
    pub fn new(precision: Precision, b: Matrix<'_>) -> Self {
        let kernel = Kernel::of(precision);
        let operand = PanelOperand::view(b.transposed(), kernel.cols);
        let mut words = Words::zeros(operand.size(kernel));
        operand.pack(kernel, &mut words);
        Self { kernel, precision, words, k: b.rows(), n: b.cols() }
    }

    /// Rows k and columns n of the matrix.
    pub fn dims(&self) -> [usize; 2] {
        [self.k, self.n]
    }

    /// The precision of its products.
    pub fn precision(&self) -> Precision {
        self.precision
    }
}

impl fmt::Debug for PackedB {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "PackedB([{}, {}], {:?})", self.k, self.n, self.precision)
    }
}

/// The right operand of a product.
#[derive(Clone, Copy)]
pub enum Right<'a> {
    /// A view `[k, n]`.
    View(Matrix<'a>),
    /// Packed before.
    Packed(&'a PackedB),
}

impl<'a> From<Matrix<'a>> for Right<'a> {
    fn from(view: Matrix<'a>) -> Self {
        Self::View(view)
    }
}

impl<'a> From<&'a PackedB> for Right<'a> {
    fn from(packed: &'a PackedB) -> Self {
        Self::Packed(packed)
    }
}

/// Both operands of a product, laid out for one kernel.
#[derive(Clone, Copy)]
pub(super) struct Operands<'a> {
    pub(super) kernel: &'static Kernel,
    pub(super) a: PanelOperand<'a>,
    pub(super) b: PanelOperand<'a>,
}

impl<'a> Operands<'a> {
    /// The kernel is that of the packed operand, which must agree with the precision.
    pub(super) fn new(precision: Precision, a: Matrix<'a>, b: Right<'a>) -> Self {
        let (kernel, b) = match b {
            Right::View(b) => {
                let kernel = Kernel::of(precision);
                (kernel, PanelOperand::view(b.transposed(), kernel.cols))
            }
            Right::Packed(b) => {
                assert_eq!(b.precision, precision, "an operand is packed in another precision");
                let data = OperandData::Panels(&b.words);
                (b.kernel, PanelOperand { rows: b.n, k: b.k, height: b.kernel.cols, data })
            }
        };
        Self { kernel, a: PanelOperand::view(a, kernel.rows), b }
    }
}

/// Rows of A or columns of B, `[rows, k]`, in panels of `height`.
#[derive(Clone, Copy)]
pub(super) struct PanelOperand<'a> {
    pub(super) rows: usize,
    pub(super) k: usize,
    pub(super) height: usize,
    pub(super) data: OperandData<'a>,
}

#[derive(Clone, Copy)]
pub(super) enum OperandData<'a> {
    View(Matrix<'a>),
    /// For each of the [`blocks`] of k, panel after panel.
    Panels(&'a [u32]),
}

/// Some panels over some length of k.
#[derive(Clone, Copy)]
pub(super) struct PanelBlock<'a> {
    pub(super) words: &'a [u32],
    /// Words from one panel to the next.
    pub(super) stride: usize,
}

impl<'a> PanelOperand<'a> {
    /// The rows of a view.
    pub(super) fn view(view: Matrix<'a>, height: usize) -> Self {
        Self { rows: view.rows(), k: view.cols(), height, data: OperandData::View(view) }
    }

    pub(super) fn panels(&self) -> usize {
        self.rows.div_ceil(self.height)
    }

    /// Words of all panels.
    pub(super) fn size(&self, kernel: &Kernel) -> usize {
        self.panels() * self.height * kernel.words(self.k)
    }

    /// The same rows over some [`blocks`] of k.
    pub(super) fn over(&self, kernel: &Kernel, k: Range<usize>) -> Self {
        let data = match self.data {
            OperandData::View(view) => OperandData::View(view.col_range(k.clone())),
            OperandData::Panels(words) => {
                let before = self.panels() * self.height * kernel.words(k.start);
                OperandData::Panels(&words[before..])
            }
        };
        Self { k: k.len(), data, ..*self }
    }

    /// Rows of panels.
    pub(super) fn range(&self, panels: Range<usize>) -> Range<usize> {
        panels.start * self.height..(panels.end * self.height).min(self.rows)
    }

    /// Packs a view whole, in parallel.
    fn pack(&self, kernel: &Kernel, mut words: &mut [u32]) {
        let OperandData::View(view) = self.data else { unreachable!("panels are packed once") };
        // Pieces for threads are cut before: each owns its part of the panels.
        let mut pieces = Vec::new();
        for k in blocks(kernel, self.k) {
            let some = (PACK_WORDS / (self.height * kernel.words(k.len()))).max(1);
            for first in (0..self.panels()).step_by(some) {
                let panels = first..(first + some).min(self.panels());
                let piece;
                (piece, words) = words.split_at_mut(panels.len() * self.height * kernel.words(k.len()));
                pieces.push((view.col_range(k.clone()).row_range(self.range(panels)), piece));
            }
        }
        cpu::chunks(&mut pieces, 1, |_, pieces| {
            for (view, piece) in pieces {
                kernel.pack(*view, self.height, piece);
            }
        });
    }

    /// The operand as panels: packed to `scratch` if it is a view.
    pub(super) fn packed<'s>(self, kernel: &Kernel, scratch: &'s mut Option<Scratch>) -> PanelOperand<'s>
    where
        'a: 's,
    {
        match self.data {
            OperandData::Panels(_) => self,
            OperandData::View(_) => {
                let words = scratch.insert(Scratch::new(self.size(kernel)));
                self.pack(kernel, words);
                PanelOperand { data: OperandData::Panels(words), ..self }
            }
        }
    }

    /// Panels over one of the [`blocks`] of k: packed to `scratch` if it is a view.
    pub(super) fn block<'s>(
        &self,
        kernel: &Kernel,
        panels: Range<usize>,
        k: Range<usize>,
        scratch: &'s mut [u32],
    ) -> PanelBlock<'s>
    where
        'a: 's,
    {
        let stride = self.height * kernel.words(k.len());
        let words = match self.data {
            OperandData::Panels(words) => {
                let before = self.panels() * self.height * kernel.words(k.start);
                &words[before + panels.start * stride..][..panels.len() * stride]
            }
            OperandData::View(view) => {
                let words = &mut scratch[..panels.len() * stride];
                kernel.pack(view.col_range(k).row_range(self.range(panels)), self.height, words);
                words
            }
        };
        PanelBlock { words, stride }
    }

    /// Words that [`Self::block`] needs in `scratch` for so many panels.
    pub(super) fn block_size(&self, kernel: &Kernel, panels: usize) -> usize {
        match self.data {
            OperandData::Panels(_) => 0,
            OperandData::View(_) => panels * self.height * kernel.words(self.k.min(kernel.terms())),
        }
    }
}

/// Words that are packed in one piece, about.
const PACK_WORDS: usize = 1 << 16;

/// Blocks of k.
pub(super) fn blocks(kernel: &Kernel, k: usize) -> impl Iterator<Item = Range<usize>> + use<> {
    let terms = kernel.terms();
    (0..k).step_by(terms).map(move |start| start..(start + terms).min(k))
}
