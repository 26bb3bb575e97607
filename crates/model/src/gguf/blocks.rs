//! Blocks of 32 numbers to floats. Each formula is that of `dequantize_row_*` in ggml-quants.c, in f32 and in
//! its order, so that every bit is the same.
//!
//! `d` and `m` are f16. Of 4 bits, byte `i` has number `i` below and number `i + 16` above; a fifth bit of
//! number `i` is bit `i` of a u32.
//!
//! | type | block | number |
//! |---|---|---|
//! | Q4_0 | d, 16 bytes | d (q - 8) |
//! | Q4_1 | d, m, 16 bytes | d q + m |
//! | Q5_0 | d, u32, 16 bytes | d (q - 16) |
//! | Q5_1 | d, m, u32, 16 bytes | d q + m |
//! | Q8_0 | d, 32 of i8 | d q |

use half::f16;

/// The f16 at a byte.
pub(super) fn f16_at(block: &[u8], at: usize) -> f32 {
    f16::from_le_bytes([block[at], block[at + 1]]).to_f32()
}

/// The two numbers of 4 bits of byte `i` to both halves of the block.
fn nibbles(qs: &[u8], values: &mut [f32], number: impl Fn(usize, u8) -> f32) {
    let (low, high) = values.split_at_mut(16);
    for (i, (byte, (low, high))) in qs.iter().zip(low.iter_mut().zip(high)).enumerate() {
        *low = number(i, byte & 15);
        *high = number(i + 16, byte >> 4);
    }
}

pub(super) fn q4_0(block: &[u8], values: &mut [f32]) {
    let d = f16_at(block, 0);
    nibbles(&block[2..], values, |_, q| d * f32::from(q.cast_signed() - 8));
}

pub(super) fn q4_1(block: &[u8], values: &mut [f32]) {
    let (d, m) = (f16_at(block, 0), f16_at(block, 2));
    nibbles(&block[4..], values, |_, q| d * f32::from(q) + m);
}

/// The fifth bits of a block, in their place.
fn fifth_bits(block: &[u8], at: usize) -> impl Fn(usize) -> u8 {
    let bits = u32::from_le_bytes([block[at], block[at + 1], block[at + 2], block[at + 3]]);
    move |i| if bits >> i & 1 == 1 { 16 } else { 0 }
}

pub(super) fn q5_0(block: &[u8], values: &mut [f32]) {
    let (d, fifth) = (f16_at(block, 0), fifth_bits(block, 2));
    nibbles(&block[6..], values, |i, q| d * f32::from((q | fifth(i)).cast_signed() - 16));
}

pub(super) fn q5_1(block: &[u8], values: &mut [f32]) {
    let (d, m, fifth) = (f16_at(block, 0), f16_at(block, 2), fifth_bits(block, 4));
    nibbles(&block[8..], values, |i, q| d * f32::from(q | fifth(i)) + m);
}

pub(super) fn q8_0(block: &[u8], values: &mut [f32]) {
    let d = f16_at(block, 0);
    values.iter_mut().zip(&block[2..]).for_each(|(value, q)| *value = f32::from(q.cast_signed()) * d);
}
