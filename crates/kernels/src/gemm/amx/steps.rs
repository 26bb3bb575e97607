//! Some steps of the product of two panels, with what is done beside them.

use super::registers::TileRegisters;
use super::store::{Finished, prefetch_row, store};
use super::{LINE, PANEL, SIDE, STEP};
use crate::gemm::tile::Tile;
use std::arch::x86_64::{_MM_HINT_T1, _mm_prefetch};
use std::ops::Range;

/// Some steps of the product of two panels.
pub(super) struct PanelSteps {
    /// The panels, from the first step on.
    pub(super) a: *const u32,
    pub(super) b: *const u32,
    /// At least one.
    pub(super) steps: usize,
    /// What comes next of the operand that streams through the first cache, and lines of it to ask for in a
    /// step; any address will do.
    pub(super) ahead: *const u32,
    pub(super) lines: usize,
    /// Whether these are the first steps; otherwise the sums of those before are added.
    pub(super) starts: bool,
    /// [`PANEL`] rows of as many.
    pub(super) sums: *mut f32,
    /// The product's rows and columns.
    pub(super) tile: Tile,
    /// Whether these are the last steps: `tile` is stored after them.
    pub(super) finishes: bool,
}

/// Bytes from one row of [`PanelSteps::sums`] to the next.
const SUMS_STRIDE: usize = 4 * PANEL;
/// Bytes from one row of a tile of A to the next, and from one of B.
const A_STRIDE: usize = 4 * SIDE;
const B_STRIDE: usize = 4 * PANEL;

impl PanelSteps {
    /// The product of the tile's rows and columns: by one tile of the machine, or two in either direction. A
    /// or B stays in the first cache. Stores `last` meanwhile.
    ///
    /// # Safety
    /// The panels hold the steps, and `sums` has room for the sums, which are there unless these steps are
    /// the first; `last` is as for [`store`], of other sums unless they are overwritten after these steps.
    #[inline]
    #[target_feature(enable = "avx512f,avx512bw,avx512vl,avx512dq,avx512bf16")]
    pub(super) unsafe fn multiply<T: TileRegisters, const A_STAYS: bool>(
        &self,
        tiles: &mut T,
        last: Option<Finished>,
    ) {
        // SAFETY: the caller's promise.
        unsafe {
            match (self.tile.rows > SIDE, self.tile.cols > SIDE) {
                (true, true) => self.steps::<T, A_STAYS, true, true>(tiles, last),
                (true, false) => self.steps::<T, A_STAYS, true, false>(tiles, last),
                (false, true) => self.steps::<T, A_STAYS, false, true>(tiles, last),
                (false, false) => self.steps::<T, A_STAYS, false, false>(tiles, last),
            }
        }
    }

    /// Tiles 0 to 3 are the sums, 4 and 5 rows of A, 6 and 7 columns of B.
    ///
    /// # Safety
    /// As for [`Self::multiply`].
    #[target_feature(enable = "avx512f,avx512bw,avx512vl,avx512dq,avx512bf16")]
    unsafe fn steps<T: TileRegisters, const A_STAYS: bool, const TALL: bool, const WIDE: bool>(
        &self,
        tiles: &mut T,
        last: Option<Finished>,
    ) {
        let mut stored = Spread::over(last.map_or(0, |last| last.tile.rows), self.steps);
        let mut asked = Spread::over(if self.finishes { self.tile.rows } else { 0 }, self.steps);
        // SAFETY: the caller's promise.
        unsafe {
            self.begin::<T, TALL, WIDE>(tiles);
            for step in 0..self.steps {
                self.step::<T, A_STAYS, TALL, WIDE>(tiles, step);
                for line in step * self.lines..(step + 1) * self.lines {
                    _mm_prefetch::<_MM_HINT_T1>(self.ahead.wrapping_add(line * LINE).cast());
                }
                asked.take().for_each(|i| prefetch_row(&self.tile, i));
                if let Some(last) = &last {
                    store(last, stored.take());
                }
            }
            self.end::<T, TALL, WIDE>(tiles);
        }
    }

    /// Zeros, or the sums so far.
    ///
    /// # Safety
    /// As for [`Self::multiply`].
    #[inline(always)]
    unsafe fn begin<T: TileRegisters, const TALL: bool, const WIDE: bool>(&self, tiles: &mut T) {
        if self.starts {
            tiles.zero::<0>();
            tiles.zero::<1>();
            tiles.zero::<2>();
            tiles.zero::<3>();
            return;
        }
        let sums = self.sums.cast_const().cast::<u32>();
        // SAFETY: the sums are there.
        unsafe {
            tiles.load::<0>(sums, SUMS_STRIDE);
            if WIDE {
                tiles.load::<1>(sums.wrapping_add(SIDE), SUMS_STRIDE);
            }
            if TALL {
                tiles.load::<2>(sums.wrapping_add(SIDE * PANEL), SUMS_STRIDE);
            }
            if TALL && WIDE {
                tiles.load::<3>(sums.wrapping_add(SIDE * PANEL + SIDE), SUMS_STRIDE);
            }
        }
    }

    /// One step: each tile is loaded once.
    ///
    /// # Safety
    /// As for [`Self::multiply`].
    #[inline(always)]
    unsafe fn step<T: TileRegisters, const A_STAYS: bool, const TALL: bool, const WIDE: bool>(
        &self,
        tiles: &mut T,
        step: usize,
    ) {
        let (a, b) = (self.a.wrapping_add(step * STEP), self.b.wrapping_add(step * STEP));
        // SAFETY: the panels hold the step: of A two tiles of sixteen rows, of B sixteen rows of two.
        unsafe {
            load::<T, 4>(tiles, A_STAYS, a, A_STRIDE);
            load::<T, 6>(tiles, !A_STAYS, b, B_STRIDE);
            tiles.multiply::<0, 4, 6>();
            if WIDE {
                load::<T, 7>(tiles, !A_STAYS, b.wrapping_add(SIDE), B_STRIDE);
                tiles.multiply::<1, 4, 7>();
            }
            if TALL {
                load::<T, 5>(tiles, A_STAYS, a.wrapping_add(SIDE * SIDE), A_STRIDE);
                tiles.multiply::<2, 5, 6>();
            }
            if TALL && WIDE {
                tiles.multiply::<3, 5, 7>();
            }
        }
    }

    /// Writes the sums.
    ///
    /// # Safety
    /// As for [`Self::multiply`].
    #[inline(always)]
    unsafe fn end<T: TileRegisters, const TALL: bool, const WIDE: bool>(&self, tiles: &T) {
        // SAFETY: there is room for them.
        unsafe {
            tiles.store::<0>(self.sums, SUMS_STRIDE);
            if WIDE {
                tiles.store::<1>(self.sums.wrapping_add(SIDE), SUMS_STRIDE);
            }
            if TALL {
                tiles.store::<2>(self.sums.wrapping_add(SIDE * PANEL), SUMS_STRIDE);
            }
            if TALL && WIDE {
                tiles.store::<3>(self.sums.wrapping_add(SIDE * PANEL + SIDE), SUMS_STRIDE);
            }
        }
    }
}

/// Loads a tile: into the first cache if it stays there, or past it.
///
/// # Safety
/// As for [`TileRegisters::load`].
#[inline(always)]
unsafe fn load<T: TileRegisters, const TILE: usize>(
    tiles: &mut T,
    stays: bool,
    from: *const u32,
    stride: usize,
) {
    // SAFETY: the caller's promise.
    unsafe {
        if stays { tiles.load::<TILE>(from, stride) } else { tiles.load_streamed::<TILE>(from, stride) }
    }
}

/// Rows of one tile that are treated beside the steps of another, as many beside each.
struct Spread {
    next: usize,
    some: usize,
    end: usize,
}

impl Spread {
    fn over(end: usize, steps: usize) -> Self {
        Self { next: 0, some: end.div_ceil(steps), end }
    }

    /// The rows of the next step.
    #[inline(always)]
    fn take(&mut self) -> Range<usize> {
        let first = self.next;
        self.next = (first + self.some).min(self.end);
        first..self.next
    }
}
