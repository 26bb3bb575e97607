//! Operands of a product: views, or panels packed before.

use super::kernel::{Kernel, OperandSide};
use super::pack::PackTarget;
use super::panel::PanelBlock;
use super::{Matrix, Precision};
use crate::buffer::{Scratch, Shared, Words};
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
        Self::by(Kernel::of(precision), precision, b)
    }

    /// Packs a matrix for one kernel.
    pub(super) fn by(kernel: &'static Kernel, precision: Precision, b: Matrix<'_>) -> Self {
        let operand = PanelOperand::view(kernel, b.transposed(), OperandSide::Right);
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
        let kernel = match b {
            Right::View(_) => Kernel::of(precision),
            Right::Packed(b) => b.kernel,
        };
        Self::by(kernel, precision, a, b)
    }

    /// Those of one kernel, by which `b` was packed if it is.
    pub(super) fn by(kernel: &'static Kernel, precision: Precision, a: Matrix<'a>, b: Right<'a>) -> Self {
        let kernel = kernel.for_rows(a.rows());
        let b = match b {
            Right::View(b) => PanelOperand::view(kernel, b.transposed(), OperandSide::Right),
            Right::Packed(b) => {
                assert_eq!(b.precision, precision, "an operand is packed in another precision");
                let data = OperandData::Panels(&b.words);
                PanelOperand { rows: b.n, k: b.k, side: OperandSide::Right, height: kernel.cols, data }
            }
        };
        Self { kernel, a: PanelOperand::view(kernel, a, OperandSide::Left), b }
    }
}

/// Rows of A or columns of B, `[rows, k]`, in panels of `height`.
#[derive(Clone, Copy)]
pub(super) struct PanelOperand<'a> {
    pub(super) rows: usize,
    pub(super) k: usize,
    pub(super) side: OperandSide,
    pub(super) height: usize,
    pub(super) data: OperandData<'a>,
}

#[derive(Clone, Copy)]
pub(super) enum OperandData<'a> {
    View(Matrix<'a>),
    /// For each of the [`blocks`] of k, panel after panel.
    Panels(&'a [u32]),
}

impl<'a> PanelOperand<'a> {
    /// The rows of a view.
    pub(super) fn view(kernel: &Kernel, view: Matrix<'a>, side: OperandSide) -> Self {
        let height = kernel.height(side);
        Self { rows: view.rows(), k: view.cols(), side, height, data: OperandData::View(view) }
    }

    pub(super) fn panels(&self) -> usize {
        self.rows.div_ceil(self.height)
    }

    /// Whether its rows lie side by side in memory.
    pub(super) fn is_across(&self) -> bool {
        matches!(self.data, OperandData::View(view) if view.is_across())
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

    /// Panels that are packed whole, one part after another, so that no more than [`PART_WORDS`] lie in
    /// memory; all if they are packed already.
    pub(super) fn parts(&self, kernel: &Kernel) -> impl Iterator<Item = Range<usize>> + use<> {
        let (panels, words) = (self.panels(), self.height * kernel.words(self.k));
        let some = match self.data {
            OperandData::Panels(_) => panels,
            OperandData::View(_) => PART_WORDS / words,
        };
        let some = some.max(1);
        (0..panels).step_by(some).map(move |first| first..(first + some).min(panels))
    }

    /// One of the [`Self::parts`].
    pub(super) fn part(&self, panels: Range<usize>) -> Self {
        match self.data {
            OperandData::Panels(_) => *self,
            OperandData::View(view) => {
                let rows = self.range(panels);
                Self { rows: rows.len(), data: OperandData::View(view.row_range(rows)), ..*self }
            }
        }
    }

    /// Packs a view whole, in parallel.
    fn pack(&self, kernel: &Kernel, words: &mut [u32]) {
        let OperandData::View(view) = self.data else { unreachable!("panels are packed once") };
        let (pieces, out) = (self.pieces(kernel, view), Shared::new(words));
        cpu::rows(pieces.len(), 1, |several| {
            for PackedPiece { block, panels, k } in &pieces[several] {
                let part = view.col_range(k.clone()).row_range(self.range(panels.clone()));
                let stride = self.height * kernel.words((self.k - block).min(kernel.terms()));
                let start = self.panels() * self.height * kernel.words(*block)
                    + panels.start * stride
                    + self.height * kernel.words(k.start - block);
                let end = start + (panels.len() - 1) * stride + self.height * kernel.words(k.len());
                assert!(end <= out.len(), "a piece ends at {end} of {}", out.len());
                // SAFETY: the piece lies in `out` (checked), and pieces share no word.
                unsafe {
                    let target = PackTarget { out: out.pointer(start), height: self.height, stride };
                    kernel.pack_to(part, self.side, target);
                }
            }
        });
    }

    /// What is packed at a time. Where a kernel multiplies faster than memory is read and rows lie side by
    /// side, it is some terms of all rows, so that memory is read in its order.
    fn pieces(&self, kernel: &Kernel, view: Matrix<'_>) -> Vec<PackedPiece> {
        let mut pieces = Vec::new();
        for k in blocks(kernel, self.k) {
            let (rows, terms) = if kernel.fast && view.is_across() {
                let terms = PACK_WORDS / 2 * kernel.pair / (self.panels() * self.height);
                (self.panels(), terms.max(1).next_multiple_of(PIECE_TERMS))
            } else {
                ((PACK_WORDS / (self.height * kernel.words(k.len()))).max(1), k.len())
            };
            for first in (0..self.panels()).step_by(rows) {
                let panels = first..(first + rows).min(self.panels());
                pieces.extend(k.clone().step_by(terms).map(|start| PackedPiece {
                    block: k.start,
                    panels: panels.clone(),
                    k: start..(start + terms).min(k.end),
                }));
            }
        }
        pieces
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
                kernel.pack(view.col_range(k).row_range(self.range(panels)), self.side, words);
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

/// Panels and terms that one task packs.
struct PackedPiece {
    /// Where their block of k starts.
    block: usize,
    panels: Range<usize>,
    k: Range<usize>,
}

/// Words of an operand that is packed whole: 16 MiB, more than a gradient of the 34M decoder needs (13 MB).
const PART_WORDS: usize = 1 << 22;
/// Words that are packed in one piece, about.
const PACK_WORDS: usize = 1 << 16;
/// Where a piece is not all terms of a block, it is a multiple of so many: of the steps of all kernels.
const PIECE_TERMS: usize = 32;

/// Blocks of k.
pub(super) fn blocks(kernel: &Kernel, k: usize) -> impl Iterator<Item = Range<usize>> + use<> {
    let terms = kernel.terms();
    (0..k).step_by(terms).map(move |start| start..(start + terms).min(k))
}
