//! Packing: the rows of a view become a panel, word after word along k. It takes 6 to 8% of a training step.
//! Reading the left operand where it lies, without packing, gives the same bits and gains nothing: what
//! packing costs, as many streams of memory as a tile has rows cost too.

use super::matrix::Matrix;
use super::tile::prefetch;
use super::vector::{Element, Vector};
use crate::number::Elements;
use half::bf16;
use std::ops::Range;

/// Panels to pack to.
#[derive(Clone, Copy)]
pub(super) struct PackTarget {
    pub(super) out: *mut u32,
    /// Rows of a panel.
    pub(super) height: usize,
    /// Words from one panel to the next.
    pub(super) stride: usize,
}

/// Packs `view` `[rows, k]` to panels `[words, height]`; rows that lack are zeros. `PAIR` elements make a
/// word, and words up to a multiple of `STEP` are zeros.
///
/// # Safety
/// As for [`Vector`]; `target` holds the panels.
#[inline(always)]
pub(super) unsafe fn pack<V: Vector, const PAIR: usize, const STEP: usize>(
    view: Matrix<'_>,
    target: PackTarget,
) {
    // SAFETY: the caller's promise.
    unsafe {
        match view.data() {
            Elements::Floats(_) => pack_from::<V, f32, PAIR, STEP>(view, target),
            Elements::Halves(_) => pack_from::<V, bf16, PAIR, STEP>(view, target),
        }
    }
}

#[inline(always)]
unsafe fn pack_from<V: Vector, E: Element, const PAIR: usize, const STEP: usize>(
    view: Matrix<'_>,
    target: PackTarget,
) {
    // SAFETY: the caller's promise.
    unsafe {
        if view.rows() == 0 || view.cols() == 0 {
            return;
        }
        let PackTarget { out, height, stride } = target;
        let words = view.cols().div_ceil(PAIR);
        if !words.is_multiple_of(STEP) {
            let lacking = (words.next_multiple_of(STEP) - words) * height;
            for panel in 0..view.rows().div_ceil(height) {
                out.add(panel * stride + words * height).write_bytes(0, lacking);
            }
        }
        if height == 1 {
            // Others write whole vectors, of which the next word overwrites what is too much.
            if view.col_stride() == 1 {
                single::<V, E, PAIR>(view, out);
            } else {
                gather::<V, E, PAIR>(view, height, out);
            }
        } else if view.is_across() {
            across::<V, E, PAIR>(view, target);
        } else {
            for first in (0..view.rows()).step_by(height) {
                let (out, some) =
                    (out.add(first / height * stride), first..(first + height).min(view.rows()));
                if view.col_stride() == 1 {
                    along::<V, E, PAIR>(view.row_range(some), height, out);
                } else {
                    gather::<V, E, PAIR>(view.row_range(some), height, out);
                }
            }
        }
    }
}

/// A single row that lies along k: its words as they are.
#[inline(always)]
unsafe fn single<V: Vector, E: Element, const PAIR: usize>(view: Matrix<'_>, out: *mut u32) {
    let (data, words) = (E::of(view.data()).as_ptr(), view.cols().div_ceil(PAIR));
    for word in (0..words).step_by(V::LANES) {
        // SAFETY: `load_along` reads to the end of the row, at most; the words are inside of the panel.
        unsafe {
            let some: V = E::load_along(data.add(word * PAIR), view.cols() - word * PAIR);
            some.store_masked(out.add(word).cast(), V::mask(words - word));
        }
    }
}

/// Rows lie along k: squares of words are transposed in registers.
#[inline(always)]
unsafe fn along<V: Vector, E: Element, const PAIR: usize>(view: Matrix<'_>, height: usize, out: *mut u32) {
    let (data, words) = (E::of(view.data()).as_ptr(), view.cols().div_ceil(PAIR));
    for top in (0..height).step_by(V::LANES) {
        let rows = view.rows().saturating_sub(top);
        // SAFETY: `load_along` reads to the end of a row of the view, at most; lanes and words are inside of
        // the panel.
        unsafe {
            let lanes = V::mask(height - top);
            for word in (0..words).step_by(V::LANES) {
                let mut square = [V::zero(); 16];
                for (i, row) in square.iter_mut().enumerate().take(V::LANES) {
                    if i < rows {
                        let from = data.add((top + i) * view.row_stride() + word * PAIR);
                        *row = E::load_along(from, view.cols() - word * PAIR);
                    }
                }
                V::transpose(&mut square);
                for (i, row) in square.iter().enumerate().take(V::LANES.min(words - word)) {
                    let to = out.add((word + i) * height + top);
                    // In a panel that one vector spans, the next word overwrites what is too much.
                    let lanes = if top == 0 && word + i + 1 < words { V::mask(V::LANES) } else { lanes };
                    row.store_masked(to.cast(), lanes);
                }
            }
        }
    }
}

/// Rows lie side by side: they are copied, some words of all panels at a time, so that memory is read in its
/// order and written in whole cache lines: panels are a power of two apart, and single words of many would
/// share a set of the cache.
#[inline(always)]
unsafe fn across<V: Vector, E: Element, const PAIR: usize>(view: Matrix<'_>, target: PackTarget) {
    let PackTarget { out, height, stride } = target;
    let words = view.cols().div_ceil(PAIR);
    for some in (0..words).step_by(TOGETHER) {
        let some = some..(some + TOGETHER).min(words);
        for first in (0..view.rows()).step_by(height) {
            let panel = out.wrapping_add(first / height * stride);
            // SAFETY: the words are the view's; the panel is in `out`.
            unsafe { copy::<V, E, PAIR>(view, first..first + height, some.clone(), panel) }
        }
    }
}

/// Copies some words of the panel of `rows`, of which the view may lack the last.
#[inline(always)]
unsafe fn copy<V: Vector, E: Element, const PAIR: usize>(
    view: Matrix<'_>,
    rows: Range<usize>,
    words: Range<usize>,
    panel: *mut u32,
) {
    let (data, last) = (E::of(view.data()).as_ptr(), view.cols().div_ceil(PAIR) - 1);
    for word in words {
        for top in (0..rows.len()).step_by(V::LANES) {
            // SAFETY: both rows are in the view; masks keep to its rows and to the panel's.
            unsafe {
                let from = data.add(word * PAIR * view.col_stride()).wrapping_add(rows.start + top);
                for ahead in 0..PAIR {
                    prefetch(from.wrapping_add((AHEAD + ahead) * view.col_stride()).cast());
                }
                let next = if PAIR == 2 && word * PAIR + 1 < view.cols() {
                    from.wrapping_add(view.col_stride())
                } else {
                    std::ptr::null()
                };
                let row: V = E::load_rows(from, next, V::mask(view.rows().saturating_sub(rows.start + top)));
                // The next word overwrites what is too much.
                let lanes = if word < last { V::LANES } else { rows.len() - top };
                row.store_masked(panel.add(word * rows.len() + top).cast(), V::mask(lanes));
            }
        }
    }
}

/// Words of a panel that are copied at a time.
const TOGETHER: usize = 8;

/// Rows that are asked for before they are copied: 2, 4, 8 and 48 make no difference that stands out of the
/// noise.
const AHEAD: usize = 24;

/// Any strides: one element at a time.
#[inline(always)]
unsafe fn gather<V: Vector, E: Element, const PAIR: usize>(view: Matrix<'_>, height: usize, out: *mut u32) {
    let data = E::of(view.data());
    for row in 0..height {
        for word in 0..view.cols().div_ceil(PAIR) {
            let element = |k: usize| {
                let there = row < view.rows() && k < view.cols();
                if there { data[row * view.row_stride() + k * view.col_stride()] } else { E::stored(0.0) }
            };
            let pair = [element(word * PAIR), element(word * PAIR + 1)];
            // SAFETY: both elements of the pair are there; the word is in the panel.
            unsafe {
                let packed: V = E::load_along(pair.as_ptr(), PAIR);
                packed.store_masked(out.add(word * height + row).cast(), V::mask(1));
            }
        }
    }
}
