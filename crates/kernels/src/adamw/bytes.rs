//! Moments in a byte each, in blocks that have a scale (8-bit optimizers: Dettmers et al. 2022, arXiv
//! 2110.02861).
//!
//! A step of 64M parameters takes 46 ms where moments in f32 take 21 to 32: it is bound by its arithmetic.
//! Rejected: the table of 256 values of bitsandbytes, whose least second moment above 0 is 3e-7 of the
//! block's largest; smaller ones become 0, and the step divides by their root.
//!
//! A block keeps its largest first moment, `s`, and the largest root of its second moments, `r`; a first
//! moment `m` is `±127 √(|m| / s)` and a second one `v` is `255 √(√v / r)`: small steps where most values of
//! a block lie, down to nearly the same gradients in both. Two rules keep a step what it would be without
//! rounding:
//!
//! - A value between two codes goes to one of them with the odds of its place between them, so what is kept
//!   is the moment on average. Rounded to the nearest, one that changes by less than half a code would stay
//!   for ever (Xu et al. 2025, arXiv 2505.00347). The odds come from a hash of its place and of the step: no
//!   state, the same digits on any number of threads.
//! - A second moment above 0 stays above 0 (Li et al. 2023, arXiv 2309.01507): the step divides by its root.
//!   Beside a gradient 10⁵ times as large a value may move (255/127)², 4 times, as far as in f32, but not
//!   without bound.

use rayon::prelude::*;

use super::{AdamWStep, PIECE, StepRule};
use crate::cpu::tiered;
use crate::math::ROUND;

/// Values that share a scale.
pub const BLOCK: usize = 256;
const _: () = assert!(PIECE.is_multiple_of(BLOCK), "a piece is whole blocks");

/// The largest code of a first moment, squared.
const FIRST: f32 = 127.0 * 127.0;
/// That of a second moment.
const SECOND: f32 = 255.0 * 255.0;

/// The moments of one parameter, in bytes.
#[derive(Clone, Debug, PartialEq)]
pub struct ByteMoments {
    /// Codes of the running mean of the gradient.
    pub first: Vec<i8>,
    /// Codes of the running mean of its square.
    pub second: Vec<u8>,
    /// The largest magnitude of the first moments, and root of the second, in each block of [`BLOCK`]; the
    /// last may be shorter.
    pub scales: Vec<[f32; 2]>,
}

impl ByteMoments {
    /// Zeros, for a parameter of `n` values.
    pub fn zeros(n: usize) -> Self {
        Self { first: vec![0; n], second: vec![0; n], scales: vec![[0.0; 2]; n.div_ceil(BLOCK)] }
    }
}

impl AdamWStep {
    /// As [`AdamWStep::step`]: computes in f32, and moves `param` by what is not rounded yet.
    pub fn step_bytes(&self, param: &mut [f32], grad: &[f32], moments: &mut ByteMoments) {
        self.step_bytes_from(0, param, grad, moments);
    }

    /// The same of a part of a parameter, which begins with its value number `begin`, the first of a piece:
    /// the odds of rounding come from the place in the whole.
    pub fn step_bytes_from(&self, begin: usize, param: &mut [f32], grad: &[f32], moments: &mut ByteMoments) {
        let n = param.len();
        assert!(begin.is_multiple_of(PIECE), "a part of a parameter begins with a piece");
        assert_eq!(grad.len(), n, "parameter and gradient differ in length");
        let ByteMoments { first, second, scales } = moments;
        assert!(first.len() == n && second.len() == n, "parameter and moments differ in length");
        assert_eq!(scales.len(), n.div_ceil(BLOCK), "a block has a scale");
        let (rule, step) = (StepRule::of(self), hash(self.time));
        let codes = (first.par_chunks_mut(PIECE), second.par_chunks_mut(PIECE));
        (
            param.par_chunks_mut(PIECE),
            grad.par_chunks(PIECE),
            codes.0,
            codes.1,
            scales.par_chunks_mut(PIECE / BLOCK),
        )
            .into_par_iter()
            .enumerate()
            .for_each(|(i, (param, grad, first, second, scales))| {
                let at = PiecePosition { step, first: (begin + i * PIECE) as u32 };
                step_piece(&rule, at, param, grad, PieceMoments { first, second, scales });
            });
    }
}

/// Where a piece is: the odds of rounding up come from it.
#[derive(Clone, Copy)]
struct PiecePosition {
    step: u32,
    /// The number of its first value, or the last bits of it.
    first: u32,
}

/// The moments of a piece: see [`ByteMoments`].
struct PieceMoments<'a> {
    first: &'a mut [i8],
    second: &'a mut [u8],
    scales: &'a mut [[f32; 2]],
}

tiered! {
    fn step_piece(
        rule: &StepRule,
        at: PiecePosition,
        param: &mut [f32],
        grad: &[f32],
        moments: PieceMoments<'_>,
    ) {
        let PieceMoments { first, second, scales } = moments;
        let blocks = param.chunks_mut(BLOCK).zip(grad.chunks(BLOCK));
        let codes = first.chunks_mut(BLOCK).zip(second.chunks_mut(BLOCK));
        let mut moments = [[0.0_f32; BLOCK]; 2];
        for (b, (((param, grad), (first, second)), scales)) in blocks.zip(codes).zip(scales).enumerate() {
            let [means, roots] = &mut moments;
            let (means, roots) = (&mut means[..param.len()], &mut roots[..param.len()]);
            let units = [scales[0] / FIRST, scales[1] / SECOND];
            for (mean, &code) in means.iter_mut().zip(&*first) {
                *mean = f32::from(code) * f32::from(code).abs() * units[0];
            }
            for (root, &code) in roots.iter_mut().zip(&*second) {
                *root = f32::from(code) * f32::from(code) * units[1];
            }
            let values = param.iter_mut().zip(grad).zip(&mut *means).zip(&mut *roots);
            for (((param, &grad), mean), root) in values {
                [*mean, _, *root] = rule.apply(param, grad, [*mean, *root * *root]);
            }
            // The parameter has moved by the unrounded moments; only what is stored is rounded.
            *scales = [largest(means), largest(roots)];
            let per_scale = scales.map(|scale| 1.0 / scale.max(f32::MIN_POSITIVE));
            let place = at.first.wrapping_add((b * BLOCK) as u32);
            let codes = first.iter_mut().zip(second).zip(means.iter().zip(&*roots));
            for (i, ((first, second), (&mean, &root))) in codes.enumerate() {
                let odds = hash(place.wrapping_add(i as u32) ^ at.step);
                *first = first_code(mean, per_scale[0], odds & 0xffff);
                *second = second_code(root, per_scale[1], odds >> 16);
            }
        }
    }
}

/// `odds` are of 2^16.
#[inline(always)]
fn first_code(value: f32, per_scale: f32, odds: u32) -> i8 {
    let units = (value.abs() * per_scale).min(1.0) * FIRST;
    let below = whole(units.sqrt());
    let up = chance(odds) * (2.0 * below + 1.0) < units - below * below;
    let code = if up { below + 1.0 } else { below };
    byte(if value < 0.0 { -code } else { code }).cast_signed()
}

#[inline(always)]
fn second_code(root: f32, per_scale: f32, odds: u32) -> u8 {
    let units = (root * per_scale).min(1.0) * SECOND;
    let below = whole(units.sqrt());
    // Of the moment, not of its root, what is kept is the mean.
    let [low, high, units] = [below * below, (below + 1.0) * (below + 1.0), units].map(|root| root * root);
    let up = chance(odds) * (high - low) < units - low;
    let code = if up { below + 1.0 } else { below };
    byte(if root > 0.0 { code.max(1.0) } else { code })
}

/// The whole number at or below `x`.
#[inline(always)]
fn whole(x: f32) -> f32 {
    let nearest = (x + ROUND) - ROUND;
    if nearest > x { nearest - 1.0 } else { nearest }
}

/// The bits of a whole number of -128 to 255. (A cast that saturates is not turned into vector instructions.)
#[inline(always)]
fn byte(code: f32) -> u8 {
    (code + ROUND).to_bits() as u8
}

/// From 0 to 1, without 1.
#[inline(always)]
fn chance(odds: u32) -> f32 {
    odds as f32 * (1.0 / 65536.0)
}

/// The largest magnitude; NaN or infinity if one of them is.
#[inline(always)]
fn largest(x: &[f32]) -> f32 {
    // Magnitudes are in the order of their bits, with NaN above all.
    f32::from_bits(x.iter().fold(0, |most, x| most.max(x.abs().to_bits())))
}

/// Bits that look random (the "lowbias32" function of Wellons' hash prospector).
#[inline(always)]
fn hash(x: u32) -> u32 {
    let x = (x ^ (x >> 16)).wrapping_mul(0x7feb_352d);
    let x = (x ^ (x >> 15)).wrapping_mul(0x846c_a68b);
    x ^ (x >> 16)
}
