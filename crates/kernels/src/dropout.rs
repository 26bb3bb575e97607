//! Dropout (Srivastava et al. 2014) by counting: whether a value is dropped is a function of the draw and of
//! the value's place alone. No mask is kept for the backward pass, and none depends on threads.

use crate::cpu::{chunks, tiered};
use crate::number::Stored;

/// Values in a piece.
const PIECE: usize = 8192;

/// Which values are dropped.
#[derive(Clone, Copy, Debug, PartialEq)]
pub struct Dropout {
    rate: f64,
    /// A hash below it drops its value.
    below: u32,
    keys: [u32; 2],
}

impl Dropout {
    /// Drops a share of about `rate`, at least 0 and below 1. The numbers of `draw` choose which values.
    pub fn new(rate: f64, draw: &[u64]) -> Self {
        let key = draw.iter().fold(0, |key, &number| mixed_long(key ^ number));
        let below = (rate * 2f64.powi(32)).round() as u32;
        Self { rate, below, keys: [key as u32, (key >> 32) as u32] }
    }

    /// What the values that stay are to be multiplied by, so that their mean stays.
    pub fn factor(&self) -> f64 {
        1.0 / (1.0 - self.rate)
    }

    /// Sets what is dropped of `x` `[n]` to 0.
    pub fn apply<T: Stored>(&self, x: &mut [T]) {
        chunks(x, PIECE, |i, x| apply_piece(x, (i * PIECE) as u32, *self));
    }
}

tiered! {
    fn apply_piece<T: Stored>(x: &mut [T], first: u32, dropout: Dropout) {
        let Dropout { below, keys: [one, other], .. } = dropout;
        for (i, x) in x.iter_mut().enumerate() {
            // Once for each half of the key: 32 bits at a time, which vectors multiply.
            let hash = mixed(mixed(first.wrapping_add(i as u32) ^ one) ^ other);
            *x = if hash < below { T::stored(0.0) } else { *x };
        }
    }
}

/// A permutation of 32 bits that leaves no pattern (C. Wellons' `lowbias32`).
#[inline(always)]
fn mixed(mut x: u32) -> u32 {
    x ^= x >> 16;
    x = x.wrapping_mul(0x7feb_352d);
    x ^= x >> 15;
    x = x.wrapping_mul(0x846c_a68b);
    x ^ (x >> 16)
}

/// The same of 64 bits (the step of SplitMix64).
fn mixed_long(x: u64) -> u64 {
    let x = x.wrapping_add(0x9e37_79b9_7f4a_7c15);
    let x = (x ^ (x >> 30)).wrapping_mul(0xbf58_476d_1ce4_e5b9);
    let x = (x ^ (x >> 27)).wrapping_mul(0x94d0_49bb_1331_11eb);
    x ^ (x >> 31)
}
