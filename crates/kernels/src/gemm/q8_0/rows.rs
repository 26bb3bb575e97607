//! Rows of the left operand, rounded to blocks.

use super::{BLOCK, GROUP, MAGNITUDE, at, scale, scale_of};
use crate::buffer::Scratch;
use crate::cpu;
use crate::gemm::matrix::Matrix;
use crate::number::Elements;

/// One block of a row of the left operand.
#[derive(Clone, Copy)]
pub(super) struct RowBlock {
    pub(super) values: [[i8; GROUP]; BLOCK / GROUP],
    pub(super) scale: f32,
    /// What takes back the 128 that is added to each byte of the weight.
    pub(super) shift: i32,
}

impl RowBlock {
    const ZERO: Self = Self { values: [[0; GROUP]; BLOCK / GROUP], scale: 0.0, shift: 0 };
}

/// The blocks of all rows, row after row.
pub(super) fn round_rows(a: Matrix<'_>) -> Vec<RowBlock> {
    let (k, depth) = (a.cols(), a.cols().div_ceil(BLOCK));
    let mut rows = vec![RowBlock::ZERO; a.rows() * depth];
    cpu::chunks(&mut rows, depth.max(1), |row, blocks| {
        let row = a.row_range(row..row + 1);
        match row.data() {
            Elements::Floats(values) if row.col_stride() == 1 => round_row(&values[..k], blocks),
            _ => {
                let mut gathered = Scratch::new(k);
                for (j, value) in gathered.floats().iter_mut().enumerate() {
                    *value = at(row, 0, j);
                }
                round_row(gathered.floats(), blocks);
            }
        }
    });
    rows
}

/// Rounds a row `[k]` to its blocks.
fn round_row(row: &[f32], blocks: &mut [RowBlock]) {
    let (whole, rest) = row.as_chunks();
    let (of_whole, of_rest) = blocks.split_at_mut(whole.len());
    #[cfg(target_arch = "x86_64")]
    if cpu::isa() >= cpu::Isa::Avx512 {
        // SAFETY: the machine has the instructions.
        unsafe { round_avx512(whole, of_whole) }
    } else {
        round(whole, of_whole);
    }
    #[cfg(not(target_arch = "x86_64"))]
    round(whole, of_whole);
    if !rest.is_empty() {
        let mut last = [0.0; BLOCK];
        last[..rest.len()].copy_from_slice(rest);
        round(&[last], of_rest);
    }
}

cpu::tiered! {
    /// Rounds blocks of a row, halves to the even byte, as llama.cpp's products do with AVX2.
    fn round(row: &[[f32; BLOCK]], blocks: &mut [RowBlock]) {
        for (values, block) in row.iter().zip(blocks) {
            let [scale, inverse] = scale(values);
            // Beside so large a number a float has no fraction, and its last byte is the integer that was
            // added: `round_ties_even` is a call where the instruction set has none.
            let bytes = values.map(|x| (x * inverse + WHOLE).to_bits() as i8);
            let sum: i32 = bytes.iter().map(|&byte| i32::from(byte)).sum();
            block.values.copy_from_slice(bytes.as_chunks::<GROUP>().0);
            block.scale = scale;
            block.shift = -128 * sum;
        }
    }
}

/// 1.5 times 2 to the 23rd.
const WHOLE: f32 = 12_582_912.0;

/// The same in vectors: what the compiler makes of sums across a block took 6% of a prompt's time.
///
/// # Safety
/// The machine has AVX-512 F.
#[cfg(target_arch = "x86_64")]
#[target_feature(enable = "avx512f")]
unsafe fn round_avx512(row: &[[f32; BLOCK]], blocks: &mut [RowBlock]) {
    use std::arch::x86_64::*;
    let magnitude = |x| _mm512_and_si512(_mm512_castps_si512(x), _mm512_set1_epi32(MAGNITUDE as i32));
    for (values, block) in row.iter().zip(blocks) {
        // SAFETY: sixteen floats each.
        let (a, b) = unsafe { (_mm512_loadu_ps(values.as_ptr()), _mm512_loadu_ps(values[16..].as_ptr())) };
        let largest = _mm512_reduce_max_epu32(_mm512_max_epu32(magnitude(a), magnitude(b)));
        let [scale, inverse] = scale_of(largest);
        let inverse = _mm512_set1_ps(inverse);
        let (a, b) =
            (_mm512_cvtps_epi32(_mm512_mul_ps(a, inverse)), _mm512_cvtps_epi32(_mm512_mul_ps(b, inverse)));
        let bytes = block.values.as_flattened_mut();
        // SAFETY: sixteen bytes each.
        unsafe {
            _mm_storeu_si128(bytes.as_mut_ptr().cast(), _mm512_cvtepi32_epi8(a));
            _mm_storeu_si128(bytes[16..].as_mut_ptr().cast(), _mm512_cvtepi32_epi8(b));
        }
        block.scale = scale;
        // What is no number may be any integer.
        block.shift = (-128i32).wrapping_mul(_mm512_reduce_add_epi32(_mm512_add_epi32(a, b)));
    }
}
