//! Products of rounded rows with the columns of a panel.

use super::rows::RowBlock;
use super::{COLUMNS, ColumnBlocks};
use crate::cpu;

/// The products of rows `[sums, depth]` with the columns of a panel.
pub(super) fn products(rows: &[RowBlock], panel: &[ColumnBlocks], sums: &mut [[f32; COLUMNS]]) {
    if panel.is_empty() {
        return;
    }
    let mut of_row = rows.chunks_exact(panel.len());
    #[cfg(target_arch = "x86_64")]
    if cpu::isa() >= cpu::Isa::Avx512 && is_x86_feature_detected!("avx512vnni") {
        let mut next = || of_row.next().unwrap_or(&[]);
        // SAFETY: the machine has the instructions.
        return unsafe {
            match sums {
                [a] => vnni([next()], panel, [a]),
                [a, b] => vnni([next(), next()], panel, [a, b]),
                [a, b, c] => vnni([next(), next(), next()], panel, [a, b, c]),
                [a, b, c, d] => vnni([next(), next(), next(), next()], panel, [a, b, c, d]),
                _ => unreachable!("rows are read by fours"),
            }
        };
    }
    for (sums, row) in sums.iter_mut().zip(&mut of_row) {
        row_products(row, panel, sums);
    }
}

cpu::tiered! {
    /// The products of one row, in plain Rust.
    fn row_products(row: &[RowBlock], panel: &[ColumnBlocks], sums: &mut [f32; COLUMNS]) {
        for (a, b) in row.iter().zip(panel) {
            let mut whole = [a.shift; COLUMNS];
            for (a, columns) in a.values.iter().zip(&b.values) {
                let [a0, a1, a2, a3] = a.map(i32::from);
                for (whole, b) in whole.iter_mut().zip(columns) {
                    let [b0, b1, b2, b3] = b.map(i32::from);
                    *whole += a0 * b0 + a1 * b1 + a2 * b2 + a3 * b3;
                }
            }
            for ((sum, whole), scale) in sums.iter_mut().zip(whole).zip(b.scales) {
                *sum += whole as f32 * (a.scale * scale.to_f32());
            }
        }
    }
}

/// The products of some rows, which read each block of the panel together.
///
/// # Safety
/// The machine has AVX-512 F, BW, VL and VNNI.
#[cfg(target_arch = "x86_64")]
#[target_feature(enable = "avx512f,avx512bw,avx512vl,avx512vnni")]
unsafe fn vnni<const M: usize>(
    rows: [&[RowBlock]; M],
    panel: &[ColumnBlocks],
    sums: [&mut [f32; COLUMNS]; M],
) {
    use std::arch::x86_64::*;
    const LANES: usize = 16;
    let rows = rows.map(|row| &row[..panel.len()]);
    // Indices in place of iterators over vectors: those are calls that know nothing of the instruction set.
    let mut totals = [[_mm512_setzero_ps(); 2]; M];
    for (i, block) in panel.iter().enumerate() {
        let mut whole = [[_mm512_setzero_si512(); 2]; M];
        for r in 0..M {
            whole[r] = [_mm512_set1_epi32(rows[r][i].shift); 2];
        }
        for (group, columns) in block.values.iter().enumerate() {
            // SAFETY: the columns are 128 bytes.
            let (low, high) = unsafe {
                let start = columns.as_ptr().cast::<u8>();
                (_mm512_loadu_si512(start.cast()), _mm512_loadu_si512(start.add(64).cast()))
            };
            for r in 0..M {
                let a = i32::from_le_bytes(rows[r][i].values[group].map(i8::cast_unsigned));
                let a = _mm512_set1_epi32(a);
                whole[r][0] = _mm512_dpbusd_epi32(whole[r][0], low, a);
                whole[r][1] = _mm512_dpbusd_epi32(whole[r][1], high, a);
            }
        }
        // SAFETY: the scales are 64 bytes.
        let (low, high) = unsafe {
            let start = block.scales.as_ptr().cast::<u8>();
            (_mm256_loadu_si256(start.cast()), _mm256_loadu_si256(start.add(32).cast()))
        };
        let scales = [_mm512_cvtph_ps(low), _mm512_cvtph_ps(high)];
        for r in 0..M {
            let a = _mm512_set1_ps(rows[r][i].scale);
            for j in 0..2 {
                let product = _mm512_mul_ps(_mm512_cvtepi32_ps(whole[r][j]), _mm512_mul_ps(a, scales[j]));
                totals[r][j] = _mm512_add_ps(totals[r][j], product);
            }
        }
    }
    for (sums, totals) in sums.into_iter().zip(&totals) {
        for (sums, total) in sums.chunks_exact_mut(LANES).zip(totals) {
            // SAFETY: sixteen floats.
            unsafe { _mm512_storeu_ps(sums.as_mut_ptr(), *total) }
        }
    }
}
