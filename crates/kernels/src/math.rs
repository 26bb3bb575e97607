//! Elementary functions without branches, which the compiler turns into vector instructions inside of
//! [`crate::cpu::tiered`] functions. NaN goes in and comes out.

use std::f32::consts::{FRAC_1_SQRT_2, LOG2_E};

/// Adding it rounds a float below 2^22 to a whole number, found in the low bits.
pub(crate) const ROUND: f32 = 12_582_912.0;

/// `e^x` within 2 units in the last place; 0 below -87.33, where the result is not normal.
#[inline(always)]
pub(crate) fn exp(x: f32) -> f32 {
    let shifted = x * LOG2_E + ROUND;
    let n = shifted - ROUND;
    // ln 2 in two parts; the first has few bits, so that its product with n is exact.
    let r = (x - n * 0.693_359_4) + n * 2.121_944_4e-4;
    let mut p = 1.0 / 5040.0;
    for c in [1.0 / 720.0, 1.0 / 120.0, 1.0 / 24.0, 1.0 / 6.0, 0.5, 1.0, 1.0] {
        p = p * r + c;
    }
    // p * 2^n by adding n to the exponent of p, which is between 0.7 and 1.5.
    let scaled = f32::from_bits(p.to_bits().wrapping_add(shifted.to_bits() << 23));
    let scaled = if x < -87.336_54 { 0.0 } else { scaled };
    let scaled = if x > 88.722_83 { f32::INFINITY } else { scaled };
    if x.is_nan() { x } else { scaled }
}

/// `1 / (1 + e^-x)`.
#[inline(always)]
pub(crate) fn sigmoid(x: f32) -> f32 {
    1.0 / (1.0 + exp(-x))
}

/// The normal distribution's function and density at `x`: GELU is `x * function`, its derivative `function +
/// x * density`.
///
/// The tail is `e^(-z²) * p(t) / 2` with `t = 1 / (1 + 0.42 z)`, `z = |x| / √2`, and p fitted to `e^(z²)
/// erfc(z)` for `0 <= z <= 9.5` with a relative error below 2e-7.
#[inline(always)]
pub(crate) fn normal(x: f32) -> (f32, f32) {
    let z = x.abs() * FRAC_1_SQRT_2;
    let e = exp(-z * z);
    let t = 1.0 / (0.42 * z + 1.0);
    let mut p = 0.070_216_27;
    for c in [-0.320_193_9, 0.440_563_45, -0.130_424_12, 0.268_687_5, 0.194_743_2, 0.239_583_02, 0.236_824_42]
    {
        p = p * t + c;
    }
    let tail = 0.5 * p * t * e;
    let cdf = if x < 0.0 { tail } else { 1.0 - tail };
    (cdf, e * 0.398_942_3)
}

/// [`normal`] as `sigmoid(1.702 x)`, and its derivative.
#[inline(always)]
pub(crate) fn quick_gelu(x: f32) -> (f32, f32) {
    let s = sigmoid(1.702 * x);
    (s, 1.702 * s * (1.0 - s))
}

/// [`normal`] as `(1 + tanh u) / 2 = sigmoid(2 u)` with `u = sqrt(2 / pi) (x + 0.044715 x^3)`, and its
/// derivative.
#[inline(always)]
pub(crate) fn tanh_gelu(x: f32) -> (f32, f32) {
    const TWICE: f32 = 1.595_769;
    // Beyond 15 the value is 0 or 1 in f32; the square of a large number would be infinite.
    let x = x.clamp(-15.0, 15.0);
    let square = 0.044_715 * x * x;
    let s = sigmoid(TWICE * x * (1.0 + square));
    (s, TWICE * (1.0 + 3.0 * square) * s * (1.0 - s))
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn exp_is_within_two_units_in_the_last_place() {
        for i in -87_000..88_700 {
            let x = i as f32 * 1e-3;
            let exact = f64::from(x).exp();
            let unit = f64::from(f32::from_bits((exact as f32).to_bits() + 1)) - f64::from(exact as f32);
            assert!((f64::from(exp(x)) - exact).abs() <= 2.0 * unit, "exp({x}) = {}", exp(x));
        }
    }

    #[test]
    fn exp_at_its_ends() {
        assert!(exp(f32::NAN).is_nan() && exp(f32::from_bits(0xffff_ffff)).is_nan());
        assert_eq!(
            [exp(f32::NEG_INFINITY), exp(-1e30), exp(-88.0), exp(0.0), exp(-0.0)],
            [0.0, 0.0, 0.0, 1.0, 1.0]
        );
        assert_eq!([exp(f32::INFINITY), exp(1e30), exp(88.73)], [f32::INFINITY; 3]);
        assert!(exp(88.72).is_finite());
        assert_eq!([sigmoid(f32::INFINITY), sigmoid(f32::NEG_INFINITY), sigmoid(0.0)], [1.0, 0.0, 0.5]);
    }
}
