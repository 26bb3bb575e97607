//! A few rows, by vectors, with the bits of tiles: as in decoding, where reading B is all the time.

use super::store::{Finished, store};
use super::{PANEL, SIDE, STEP, TileSums};
use crate::gemm::panel::PanelProduct;
use crate::gemm::tile::Tile;
use std::arch::x86_64::*;

/// Rows up to which vectors read memory faster than tiles do: B at 29 GB/s on a thread where tiles read 24
/// (Emerald Rapids; two threads 56 and 40). From 8 rows on tiles are 1.7 to 2 times as fast.
pub(super) const FEW: usize = 1;

/// The product of a panel of at most [`FEW`] rows.
///
/// # Safety
/// As for [`super::product`].
#[target_feature(enable = "avx512f,avx512bw,avx512vl,avx512dq,avx512bf16")]
pub(super) unsafe fn product(panels: &PanelProduct<'_>) {
    for q in 0..panels.across() {
        let tile = panels.tile(0, q);
        let mut sums = TileSums::NEW;
        let to = sums.0.as_mut_ptr().cast::<f32>();
        for row in 0..tile.rows {
            // SAFETY: the panels hold the steps.
            let total = unsafe { total(&tile, row) };
            for (side, total) in total.into_iter().enumerate() {
                // SAFETY: the row is one of the sums.
                unsafe { _mm512_storeu_ps(to.add(row * PANEL + side * SIDE), total) }
            }
        }
        // SAFETY: the sums of all rows are there.
        unsafe { store(&Finished { sums: to, tile }, 0..tile.rows) }
    }
}

/// The sums of a row in the order of `tdpbf16ps`.
///
/// # Safety
/// The panels hold the steps.
#[inline]
#[target_feature(enable = "avx512f,avx512bw,avx512vl,avx512dq,avx512bf16")]
unsafe fn total(tile: &Tile, row: usize) -> [__m512; 2] {
    let mut total = [_mm512_setzero_ps(); 2];
    for step in 0..tile.words / SIDE {
        let (a, b) = (tile.a.wrapping_add(step * STEP + row * SIDE), tile.b.wrapping_add(step * STEP));
        // Of each half of the columns: the sums of even and of odd terms.
        let mut parts = [[_mm512_setzero_ps(); 2]; 2];
        for word in 0..SIDE {
            // SAFETY: the word and its line are in the step.
            let pair = unsafe { *a.add(word) };
            let even = _mm512_set1_epi32((pair & 0xffff).cast_signed());
            let odd = _mm512_set1_epi32((pair & 0xffff_0000).cast_signed());
            for (side, parts) in parts.iter_mut().enumerate() {
                let line = b.wrapping_add(word * PANEL + side * SIDE);
                // SAFETY: as above; a prefetch never faults.
                let line = unsafe {
                    _mm_prefetch::<_MM_HINT_T0>(line.wrapping_add(AHEAD * PANEL).cast());
                    _mm512_loadu_si512(line.cast())
                };
                parts[0] = add_term(parts[0], even, _mm512_and_si512(_mm512_set1_epi32(0xffff), line));
                parts[1] = add_term(parts[1], odd, _mm512_andnot_si512(_mm512_set1_epi32(0xffff), line));
            }
        }
        for (total, parts) in total.iter_mut().zip(parts) {
            *total = normal(_mm512_add_ps(*total, normal(_mm512_add_ps(parts[0], parts[1]))));
        }
    }
    total
}

/// Words along k that are asked for ahead.
const AHEAD: usize = 32;

/// Adds one term to each sum. `vdpbf16ps` takes denormals for zeros as tiles do, and does one term if the
/// other of a pair is zero on both sides.
#[inline]
#[target_feature(enable = "avx512f,avx512bf16")]
fn add_term(sums: __m512, a: __m512i, b: __m512i) -> __m512 {
    // SAFETY: vectors of 512 bits are exchanged.
    let (a, b) =
        unsafe { (std::mem::transmute::<__m512i, __m512bh>(a), std::mem::transmute::<__m512i, __m512bh>(b)) };
    _mm512_dpbf16_ps(sums, a, b)
}

/// What tiles make of a sum: a denormal is a zero with its sign.
#[inline]
#[target_feature(enable = "avx512f,avx512dq")]
fn normal(x: __m512) -> __m512 {
    let tiny = _mm512_cmp_ps_mask::<_CMP_LT_OQ>(_mm512_abs_ps(x), _mm512_set1_ps(f32::MIN_POSITIVE));
    _mm512_mask_and_ps(x, tiny, x, _mm512_set1_ps(-0.0))
}
