//! Numbers as they are stored: f32, or bfloat16 in mixed precision. What is computed with them is f32.

use half::bf16;

/// A number as it is stored.
pub trait Stored: Copy + Send + Sync {
    /// As f32.
    fn wide(self) -> f32;
    /// From f32.
    fn stored(x: f32) -> Self;
    /// Several, for a matrix of them.
    fn elements(several: &[Self]) -> Elements<'_>;
    /// Several, for a matrix to write to.
    fn elements_mut(several: &mut [Self]) -> ElementsMut<'_>;
}

impl Stored for f32 {
    #[inline(always)]
    fn wide(self) -> f32 {
        self
    }
    #[inline(always)]
    fn stored(x: f32) -> Self {
        x
    }
    fn elements(several: &[Self]) -> Elements<'_> {
        Elements::Floats(several)
    }
    fn elements_mut(several: &mut [Self]) -> ElementsMut<'_> {
        ElementsMut::Floats(several)
    }
}

/// Rounded to the nearest, ties to even.
impl Stored for bf16 {
    #[inline(always)]
    fn wide(self) -> f32 {
        f32::from_bits(u32::from(self.to_bits()) << 16)
    }
    #[inline(always)]
    fn stored(x: f32) -> Self {
        Self::from_bits((round_bf16(x) >> 16) as u16)
    }
    fn elements(several: &[Self]) -> Elements<'_> {
        Elements::Halves(several)
    }
    fn elements_mut(several: &mut [Self]) -> ElementsMut<'_> {
        ElementsMut::Halves(several)
    }
}

/// The bits of `x` rounded to bfloat16, ties to even, as a float's bits.
#[inline(always)]
pub(crate) fn round_bf16(x: f32) -> u32 {
    let bits = x.to_bits();
    let rounded = bits.wrapping_add(0x7fff + ((bits >> 16) & 1));
    // The carry must not turn NaN into infinity.
    (if x.is_nan() { bits | 0x0040_0000 } else { rounded }) & 0xffff_0000
}

/// Elements of a matrix: floats, or what a product in bfloat16 makes of them first.
#[derive(Clone, Copy, Debug)]
pub enum Elements<'a> {
    /// As they are.
    Floats(&'a [f32]),
    /// Rounded to bfloat16 before.
    Halves(&'a [bf16]),
}

impl<'a> Elements<'a> {
    /// Number of elements.
    #[expect(clippy::len_without_is_empty, reason = "nobody asks")]
    pub fn len(&self) -> usize {
        match self {
            Self::Floats(data) => data.len(),
            Self::Halves(data) => data.len(),
        }
    }

    /// Those from `start` on.
    pub(crate) fn starting_at(self, start: usize) -> Self {
        match self {
            Self::Floats(data) => Self::Floats(&data[start..]),
            Self::Halves(data) => Self::Halves(&data[start..]),
        }
    }
}

/// Elements to write: floats, or what is left of them in bfloat16.
#[derive(Debug)]
pub enum ElementsMut<'a> {
    /// As they are.
    Floats(&'a mut [f32]),
    /// Rounded when they are stored.
    Halves(&'a mut [bf16]),
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn rounding_keeps_what_is_not_finite() {
        let kept =
            [f32::NAN, -f32::NAN, f32::INFINITY, f32::MAX, f32::from_bits(0x7fbf_ffff)].map(bf16::stored);
        assert!(kept[0].is_nan() && kept[1].is_nan() && kept[4].is_nan(), "{kept:?}");
        assert_eq!(kept[2..4], [bf16::INFINITY; 2]);
    }
}
