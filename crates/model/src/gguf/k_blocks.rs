//! Blocks of 256 numbers ("K-quants") to floats, as `dequantize_row_q*_K` of ggml-quants.c.
//!
//! `d` and `m` are f16, at the end of Q2_K (d, m), Q3_K (d) and Q6_K (d), at the beginning of Q4_K and Q5_K
//! (d, m), and an f32 at the beginning of Q8_K. `s` and `t` are the scale and the smallest value of a part.
//!
//! | type | block | number |
//! |---|---|---|
//! | Q2_K | 16 bytes of s and t, 64 of 2 bits | d s q - m t |
//! | Q3_K | 32 of third bits, 64 of 2 bits, 12 of s | d (s - 32) (q - 4) |
//! | Q4_K | 12 of s and t, 128 of 4 bits | d s q - m t |
//! | Q5_K | 12 of s and t, 32 of fifth bits, 128 of 4 bits | d s q - m t |
//! | Q6_K | 128 of 4 bits, 64 of 2 bits, 16 of s | d s (q - 32) |
//! | Q8_K | 256 of i8, 16 sums as i16 | d q |

use super::blocks::f16_at;

/// 2 bits of number `i`: 32 bytes have 128 numbers, each 32 of them in the next higher bits.
fn two_bits(bytes: &[u8], i: usize) -> u8 {
    bytes[i / 128 * 32 + i % 32] >> (i % 128 / 32 * 2) & 3
}

fn fill(values: &mut [f32], number: impl Fn(usize) -> f32) {
    values.iter_mut().enumerate().for_each(|(i, value)| *value = number(i));
}

pub(super) fn q2(block: &[u8], values: &mut [f32]) {
    let (scales, qs) = (&block[..16], &block[16..80]);
    let (d, m) = (f16_at(block, 80), f16_at(block, 82));
    for (part, (values, scale)) in values.chunks_exact_mut(16).zip(scales).enumerate() {
        let (s, t) = (d * f32::from(scale & 15), m * f32::from(scale >> 4));
        fill(values, |i| s * f32::from(two_bits(qs, 16 * part + i)) - t);
    }
}

pub(super) fn q3(block: &[u8], values: &mut [f32]) {
    let (third, qs, scales, d) = (&block[..32], &block[32..96], &block[96..108], f16_at(block, 108));
    for (part, values) in values.chunks_exact_mut(16).enumerate() {
        // 16 scales of 6 bits: 4 of each in the first 8 bytes, the upper 2 in the last 4.
        let low = scales[part % 8] >> (part / 8 * 4) & 15;
        let high = scales[8 + part % 4] >> (part / 4 * 2) & 3;
        let s = d * f32::from((low | high << 4).cast_signed() - 32);
        fill(values, |i| {
            let i = 16 * part + i;
            let below = if third[i % 32] >> (i / 32) & 1 == 1 { 0 } else { 4 };
            s * f32::from(two_bits(qs, i).cast_signed() - below)
        });
    }
}

/// Scale and smallest value of part `part` of 8, of 6 bits each: the first four as they are, of the others
/// the lower 4 bits in the last four bytes and the upper 2 above those of the first.
fn six_bits(scales: &[u8], part: usize) -> (f32, f32) {
    let (s, t) = if part < 4 {
        (scales[part] & 63, scales[part + 4] & 63)
    } else {
        let low = scales[part + 4];
        (low & 15 | scales[part - 4] >> 2 & 0x30, low >> 4 | scales[part] >> 2 & 0x30)
    };
    (f32::from(s), f32::from(t))
}

/// 4 bits of number `i` of part `part`: 32 bytes have two parts.
fn four_bits(bytes: &[u8], part: usize, i: usize) -> u8 {
    bytes[part / 2 * 32 + i] >> (part % 2 * 4) & 15
}

pub(super) fn q4(block: &[u8], values: &mut [f32]) {
    let (d, m, scales, qs) = (f16_at(block, 0), f16_at(block, 2), &block[4..16], &block[16..144]);
    for (part, values) in values.chunks_exact_mut(32).enumerate() {
        let (s, t) = six_bits(scales, part);
        let (s, t) = (d * s, m * t);
        fill(values, |i| s * f32::from(four_bits(qs, part, i)) - t);
    }
}

pub(super) fn q5(block: &[u8], values: &mut [f32]) {
    let (d, m, scales) = (f16_at(block, 0), f16_at(block, 2), &block[4..16]);
    let (fifth, qs) = (&block[16..48], &block[48..176]);
    for (part, values) in values.chunks_exact_mut(32).enumerate() {
        let (s, t) = six_bits(scales, part);
        let (s, t) = (d * s, m * t);
        fill(values, |i| s * f32::from(four_bits(qs, part, i) | (fifth[i] >> part & 1) << 4) - t);
    }
}

pub(super) fn q6(block: &[u8], values: &mut [f32]) {
    let (low, high, scales, d) = (&block[..128], &block[128..192], &block[192..208], f16_at(block, 208));
    for (part, (values, scale)) in values.chunks_exact_mut(16).zip(scales).enumerate() {
        let s = d * f32::from(scale.cast_signed());
        fill(values, |i| {
            let i = 16 * part + i;
            // 64 bytes have 128 numbers: first all lower halves, then all upper ones.
            let low = low[i / 128 * 64 + i % 64] >> (i % 128 / 64 * 4) & 15;
            s * f32::from((low | two_bits(high, i) << 4).cast_signed() - 32)
        });
    }
}

pub(super) fn q8(block: &[u8], values: &mut [f32]) {
    let d = f32::from_le_bytes([block[0], block[1], block[2], block[3]]);
    values.iter_mut().zip(&block[4..260]).for_each(|(value, q)| *value = f32::from(q.cast_signed()) * d);
}
