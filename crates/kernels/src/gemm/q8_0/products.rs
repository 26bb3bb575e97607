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
    {
        let mut next = || of_row.next().unwrap_or(&[]);
        // A function over the number of rows, for as many as there are.
        macro_rules! of_rows {
            ($products:ident) => {
                match sums {
                    [a] => $products([next()], panel, [a]),
                    [a, b] => $products([next(), next()], panel, [a, b]),
                    [a, b, c] => $products([next(), next(), next()], panel, [a, b, c]),
                    [a, b, c, d] => $products([next(), next(), next(), next()], panel, [a, b, c, d]),
                    _ => unreachable!("rows are read by fours"),
                }
            };
        }
        if cpu::isa() >= cpu::Isa::Avx512 && is_x86_feature_detected!("avx512vnni") {
            // SAFETY: the machine has the instructions.
            return unsafe { of_rows!(vnni) };
        }
        if cpu::isa() >= cpu::Isa::Avx2 && is_x86_feature_detected!("f16c") {
            // SAFETY: the machine has the instructions.
            return unsafe { of_rows!(avx2) };
        }
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

/// The same, where bytes are multiplied in pairs whose sums have 16 bits.
///
/// A sum of two products of a byte without a sign would not fit into them. So the sign of each byte of the
/// row goes to the weight's, as in llama.cpp's products: both are 127 at most, and 2 * 127 * 127 fits.
///
/// # Safety
/// The machine has AVX2 and F16C.
#[cfg(target_arch = "x86_64")]
#[target_feature(enable = "avx2,fma,f16c")]
unsafe fn avx2<const M: usize>(
    rows: [&[RowBlock]; M],
    panel: &[ColumnBlocks],
    mut sums: [&mut [f32; COLUMNS]; M],
) {
    use std::arch::x86_64::*;
    /// Columns of a vector of sums.
    const LANES: usize = 8;
    /// Vectors of sums of a row: with more than half of a panel's columns four rows need more registers than
    /// there are.
    const VECTORS: usize = 2;
    let rows = rows.map(|row| &row[..panel.len()]);
    let (ones, sign) = (_mm256_set1_epi16(1), _mm256_set1_epi8(i8::MIN));
    for first in (0..COLUMNS).step_by(VECTORS * LANES) {
        let mut totals = [[_mm256_setzero_ps(); VECTORS]; M];
        for (i, block) in panel.iter().enumerate() {
            let mut whole = [[_mm256_setzero_si256(); VECTORS]; M];
            for (group, columns) in block.values.iter().enumerate() {
                let mut b = [_mm256_setzero_si256(); VECTORS];
                for (j, b) in b.iter_mut().enumerate() {
                    // SAFETY: eight columns of four bytes.
                    let bytes = unsafe { _mm256_loadu_si256(columns[first + LANES * j..].as_ptr().cast()) };
                    *b = _mm256_xor_si256(bytes, sign);
                }
                for r in 0..M {
                    let a = i32::from_le_bytes(rows[r][i].values[group].map(i8::cast_unsigned));
                    let a = _mm256_set1_epi32(a);
                    let magnitude = _mm256_abs_epi8(a);
                    for j in 0..VECTORS {
                        let pairs = _mm256_maddubs_epi16(magnitude, _mm256_sign_epi8(b[j], a));
                        whole[r][j] = _mm256_add_epi32(whole[r][j], _mm256_madd_epi16(pairs, ones));
                    }
                }
            }
            for j in 0..VECTORS {
                // SAFETY: eight scales.
                let scales = unsafe {
                    let start = block.scales[first + j * LANES..].as_ptr();
                    _mm256_cvtph_ps(_mm_loadu_si128(start.cast()))
                };
                for r in 0..M {
                    let scale = _mm256_mul_ps(_mm256_set1_ps(rows[r][i].scale), scales);
                    let product = _mm256_mul_ps(_mm256_cvtepi32_ps(whole[r][j]), scale);
                    totals[r][j] = _mm256_add_ps(totals[r][j], product);
                }
            }
        }
        for (sums, totals) in sums.iter_mut().zip(&totals) {
            for (sums, total) in sums[first..].chunks_exact_mut(LANES).zip(totals) {
                // SAFETY: eight floats.
                unsafe { _mm256_storeu_ps(sums.as_mut_ptr(), *total) }
            }
        }
    }
}
