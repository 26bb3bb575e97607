//! Packed panels over one block of k, and the product that a kernel makes of them.

use super::tile::{Tile, TileOutput};
use crate::buffer::Shared;
use half::bf16;
use std::ops::Range;

/// The product of some panels of A and of B over one block of k: what a kernel computes in one call.
pub(super) struct PanelProduct<'a> {
    /// Words along k.
    pub(super) words: usize,
    pub(super) a: PanelBlock<'a>,
    /// Rows of the product, from the first row of `a`'s first panel on.
    pub(super) rows: Range<usize>,
    /// Rows of a panel of A.
    pub(super) height: usize,
    pub(super) b: PanelBlock<'a>,
    /// Columns of the product, from the first column of `b`'s first panel on.
    pub(super) cols: Range<usize>,
    /// Columns of a panel of B.
    pub(super) width: usize,
    pub(super) c: ProductOutput<'a>,
    /// Elements from one row of `c` to the next.
    pub(super) stride: usize,
    pub(super) add: bool,
}

impl PanelProduct<'_> {
    /// Panels of A.
    pub(super) fn down(&self) -> usize {
        self.rows.len().div_ceil(self.height)
    }

    /// Panels of B.
    pub(super) fn across(&self) -> usize {
        self.cols.len().div_ceil(self.width)
    }

    /// The tile of panel `p` of A and panel `q` of B.
    ///
    /// # Panics
    /// If the panels do not hold the words.
    #[inline]
    pub(super) fn tile(&self, p: usize, q: usize) -> Tile {
        let (row, col) = (self.rows.start + p * self.height, self.cols.start + q * self.width);
        Tile {
            words: self.words,
            a: self.a.words[p * self.a.stride..][..self.words * self.height].as_ptr(),
            b: self.b.words[q * self.b.stride..][..self.words * self.width].as_ptr(),
            c: self.c.at(row * self.stride + col),
            stride: self.stride,
            rows: (self.rows.end - row).min(self.height),
            cols: (self.cols.end - col).min(self.width),
            add: self.add,
        }
    }
}

/// Some panels over some length of k.
#[derive(Clone, Copy)]
pub(super) struct PanelBlock<'a> {
    pub(super) words: &'a [u32],
    /// Words from one panel to the next.
    pub(super) stride: usize,
}

/// Where the elements of a product go.
#[derive(Clone, Copy)]
pub(super) enum ProductOutput<'a> {
    Floats(Shared<'a, f32>),
    Halves(Shared<'a, bf16>),
}

impl ProductOutput<'_> {
    fn at(&self, index: usize) -> TileOutput {
        match self {
            Self::Floats(c) => TileOutput::Floats(c.pointer(index)),
            Self::Halves(c) => TileOutput::Halves(c.pointer(index)),
        }
    }
}
