//! Packing for tiles. A panel of A is made of steps, a step of two tiles, a tile of sixteen rows with 32
//! terms each. One of B is laid out word after word as for vectors: its tiles are every second line.

use super::{PANEL, SIDE, STEP, TERMS};
use crate::gemm::matrix::Matrix;
use crate::gemm::pack::{self, PackTarget};
use crate::gemm::vector::{Element, Vector};
use crate::gemm::x86::Avx512Bf16;
use crate::number::Elements;
use half::bf16;
use std::arch::x86_64::{
    _mm512_castps_si512, _mm512_castsi512_ps, _mm512_unpackhi_epi16, _mm512_unpacklo_epi16,
};
use std::ops::Range;

/// Packs columns of B.
///
/// # Safety
/// As for [`pack::pack`].
#[target_feature(enable = "avx512f,avx512bw,avx512vl,avx512dq,avx512bf16")]
pub(in crate::gemm) unsafe fn pack_right(view: Matrix<'_>, target: PackTarget) {
    // SAFETY: the caller's promise.
    unsafe { pack::pack::<Avx512Bf16, 2, SIDE>(view, target) }
}

/// Packs rows of A. In a panel of at most 16 rows nobody reads the second tiles, and nothing is written
/// there.
///
/// # Safety
/// As for [`pack::pack`].
#[target_feature(enable = "avx512f,avx512bw,avx512vl,avx512dq,avx512bf16")]
pub(in crate::gemm) unsafe fn pack_left(view: Matrix<'_>, target: PackTarget) {
    // SAFETY: the caller's promise.
    unsafe {
        match view.data() {
            Elements::Floats(_) => pack_left_from::<f32>(view, target),
            Elements::Halves(_) => pack_left_from::<bf16>(view, target),
        }
    }
}

#[inline(always)]
unsafe fn pack_left_from<E: Element>(view: Matrix<'_>, target: PackTarget) {
    let steps = view.cols().div_ceil(TERMS);
    // Where the words of a row in a step go.
    let at = |row: usize, step: usize| {
        let panel = row / PANEL * target.stride;
        target.out.wrapping_add(panel + step * STEP + row % PANEL * SIDE).cast::<f32>()
    };
    // SAFETY: rows and terms are the view's; the tiles are in the panels.
    unsafe {
        let all = Avx512Bf16::mask(SIDE);
        if view.is_across() {
            // A step of all panels at a time, so that memory is read in its order.
            for step in 0..steps {
                for row in (0..view.rows()).step_by(PANEL) {
                    let some = (view.rows() - row).min(PANEL);
                    let [left, right] = turned::<E>(view, row..row + some, step);
                    // The order of `turned`.
                    for i in (0..SIDE).filter(|i| i / 4 * 8 < some.next_multiple_of(SIDE)) {
                        let row = row + i / 4 * 8 + i % 4;
                        left[i].store_masked(at(row, step), all);
                        right[i].store_masked(at(row + 4, step), all);
                    }
                }
            }
        } else {
            for row in 0..view.rows().next_multiple_of(SIDE) {
                for step in 0..steps {
                    terms::<E>(view, row, step).store_masked(at(row, step), all);
                }
            }
        }
    }
}

/// The terms of a step of a row; zeros where there are none.
#[inline(always)]
unsafe fn terms<E: Element>(view: Matrix<'_>, row: usize, step: usize) -> Avx512Bf16 {
    let (data, start) = (E::of(view.data()), step * TERMS);
    let some = (view.cols() - start).min(TERMS);
    // SAFETY: the elements are of a row that the view has.
    unsafe {
        if row >= view.rows() {
            Avx512Bf16::zero()
        } else if view.col_stride() == 1 {
            E::load_along(data.as_ptr().add(row * view.row_stride() + start), some)
        } else {
            let element = |k| data[row * view.row_stride() + (start + k) * view.col_stride()];
            let elements: [E; TERMS] =
                std::array::from_fn(|k| if k < some { element(k) } else { E::stored(0.0) });
            E::load_along(elements.as_ptr(), TERMS)
        }
    }
}

/// The terms of a step of up to 32 rows that lie side by side, zeros for those that lack: of rows 0 to 3, 8
/// to 11 and so on, and of the other ones.
#[inline(always)]
unsafe fn turned<E: Element>(view: Matrix<'_>, rows: Range<usize>, step: usize) -> [[Avx512Bf16; SIDE]; 2] {
    let data = E::of(view.data()).as_ptr();
    // SAFETY: the elements are the view's.
    unsafe {
        let zero = Avx512Bf16::zero();
        let term = |k: usize| {
            if k < view.cols() {
                E::load_along(data.add(k * view.col_stride() + rows.start), rows.len())
            } else {
                zero
            }
        };
        let mut words = [[zero; SIDE]; 2];
        let [left, right] = &mut words;
        for (k, (left, right)) in (step * TERMS..).step_by(2).zip(left.iter_mut().zip(right)) {
            [*left, *right] = interleaved(term(k), term(k + 1));
        }
        words.iter_mut().for_each(|words| Avx512Bf16::transpose(words));
        words
    }
}

/// Pairs of elements of two terms: of rows 0 to 3, 8 to 11 and so on, and of the other ones.
///
/// # Safety
/// As for [`Vector`].
#[inline(always)]
unsafe fn interleaved(term: Avx512Bf16, next: Avx512Bf16) -> [Avx512Bf16; 2] {
    // SAFETY: the caller's promise.
    unsafe {
        let (term, next) = (_mm512_castps_si512(term.0), _mm512_castps_si512(next.0));
        [_mm512_unpacklo_epi16(term, next), _mm512_unpackhi_epi16(term, next)]
            .map(|pairs| Avx512Bf16(_mm512_castsi512_ps(pairs)))
    }
}
