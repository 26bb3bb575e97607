//! Sums that wait in memory go to the product.

use super::{LINE, PANEL, SIDE};
use crate::gemm::tile::{Tile, TileOutput};
use std::arch::x86_64::*;
use std::ops::Range;

/// Sums that are to be stored, [`PANEL`] in a row, and where they go.
#[derive(Clone, Copy)]
pub(super) struct Finished {
    pub(super) sums: *const f32,
    pub(super) tile: Tile,
}

/// Stores some rows of sums, or adds them.
///
/// # Safety
/// `sums` holds the tile's rows and columns, those in whole tiles of the machine, at the start of a cache
/// line; the tile lies in a matrix.
#[inline]
#[target_feature(enable = "avx512f,avx512bw,avx512vl,avx512dq,avx512bf16")]
pub(super) unsafe fn store(finished: &Finished, rows: Range<usize>) {
    let Finished { sums, tile } = finished;
    let mask = !0_u32 >> (PANEL - tile.cols);
    for i in rows {
        // SAFETY: the sums are there: of a narrow tile only the first half of a row.
        let sums = unsafe {
            let row = sums.add(i * PANEL);
            let narrow = tile.cols <= SIDE;
            [_mm512_load_ps(row), if narrow { _mm512_setzero_ps() } else { _mm512_load_ps(row.add(SIDE)) }]
        };
        // SAFETY: masks keep to the matrix.
        unsafe {
            match tile.c {
                TileOutput::Floats(c) => store_floats(sums, c.wrapping_add(i * tile.stride), mask, tile.add),
                TileOutput::Halves(c) => {
                    store_halves(sums, c.wrapping_add(i * tile.stride).cast(), mask, tile.add);
                }
            }
        }
    }
}

/// A row of floats.
///
/// # Safety
/// The elements of the mask lie in a matrix.
#[inline]
#[target_feature(enable = "avx512f,avx512bw,avx512vl,avx512dq,avx512bf16")]
unsafe fn store_floats([mut left, mut right]: [__m512; 2], c: *mut f32, mask: u32, add: bool) {
    let (left_mask, right_mask) = (mask as u16, (mask >> SIDE) as u16);
    let c_right = c.wrapping_add(SIDE);
    // SAFETY: the caller's promise.
    unsafe {
        if add {
            left = _mm512_add_ps(_mm512_maskz_loadu_ps(left_mask, c), left);
            right = _mm512_add_ps(_mm512_maskz_loadu_ps(right_mask, c_right), right);
        }
        _mm512_mask_storeu_ps(c, left_mask, left);
        _mm512_mask_storeu_ps(c_right, right_mask, right);
    }
}

/// A row of bfloat16, rounded here.
///
/// # Safety
/// The elements of the mask lie in a matrix.
#[inline]
#[target_feature(enable = "avx512f,avx512bw,avx512vl,avx512dq,avx512bf16")]
unsafe fn store_halves([mut left, mut right]: [__m512; 2], c: *mut i16, mask: u32, add: bool) {
    // SAFETY: the caller's promise, and vectors of 512 bits are exchanged.
    unsafe {
        if add {
            let before = _mm512_maskz_loadu_epi16(mask, c);
            let before = [_mm512_castsi512_si256(before), _mm512_extracti64x4_epi64::<1>(before)];
            let [before_left, before_right] = before
                .map(|halves| _mm512_castsi512_ps(_mm512_slli_epi32::<16>(_mm512_cvtepu16_epi32(halves))));
            left = _mm512_add_ps(before_left, left);
            right = _mm512_add_ps(before_right, right);
        }
        let halves = std::mem::transmute::<__m512bh, __m512i>(_mm512_cvtne2ps_pbh(right, left));
        _mm512_mask_storeu_epi16(c, mask, halves);
    }
}

/// Asks for a row of a tile that will be stored; any address will do.
#[inline(always)]
pub(super) fn prefetch_row(tile: &Tile, i: usize) {
    // SAFETY: SSE is always there, and a prefetch never faults.
    unsafe {
        match tile.c {
            TileOutput::Floats(c) => {
                let c = c.wrapping_add(i * tile.stride);
                _mm_prefetch::<_MM_HINT_T1>(c.cast());
                _mm_prefetch::<_MM_HINT_T1>(c.wrapping_add(LINE).cast());
            }
            TileOutput::Halves(c) => _mm_prefetch::<_MM_HINT_T1>(c.wrapping_add(i * tile.stride).cast()),
        }
    }
}
