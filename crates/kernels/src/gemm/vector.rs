//! Vectors of each instruction set, as the microkernels need them.

use crate::number::{Elements, Stored, round_bf16};
use half::bf16;

/// A vector of 32-bit words and the arithmetic of one form of operands.
///
/// # Safety
/// Methods may be called only on a machine with the instruction set, and inlined into a function compiled for
/// it. Pointers must be valid for the words read or written, in any alignment; null is allowed where said.
pub(super) trait Vector: Copy {
    /// Words in a vector.
    const LANES: usize;
    /// Which lanes are read or written.
    type Mask: Copy;

    /// The first `n` lanes; all if there are no more than `n`.
    unsafe fn mask(n: usize) -> Self::Mask;
    unsafe fn zero() -> Self;
    /// One word in all lanes.
    unsafe fn splat(from: *const u32) -> Self;
    /// `LANES` words.
    unsafe fn load(from: *const u32) -> Self;
    /// The words of the mask, and zeros.
    unsafe fn load_masked(from: *const f32, mask: Self::Mask) -> Self;
    /// Stores the words of the mask.
    unsafe fn store_masked(self, to: *mut f32, mask: Self::Mask);
    /// As [`Self::load_masked`], of halves. Where words are floats, an operand's are those.
    #[inline(always)]
    unsafe fn widen_masked(from: *const bf16, mask: Self::Mask) -> Self {
        // SAFETY: the trait's rule.
        unsafe { Self::load_half_rows(from, from, mask) }
    }
    /// As [`Self::store_masked`], rounded to halves. Denormals may become zeros.
    unsafe fn narrow_masked(self, to: *mut bf16, mask: Self::Mask);
    unsafe fn add(self, other: Self) -> Self;
    /// `self + a * b`: of floats, or of the two products of pairs of bfloat16 in each word.
    unsafe fn mul_add(self, a: Self, b: Self) -> Self;
    /// The words of an operand that `mul_add` takes, from one row of it and the next (zeros if null; read
    /// only where words are pairs).
    unsafe fn load_rows(row: *const f32, next: *const f32, mask: Self::Mask) -> Self;
    /// The words of `n` elements that lie side by side (of those that make a vector if there are more), then
    /// zeros.
    unsafe fn load_along(from: *const f32, n: usize) -> Self;
    /// As [`Self::load_rows`], of halves.
    unsafe fn load_half_rows(row: *const bf16, next: *const bf16, mask: Self::Mask) -> Self;
    /// As [`Self::load_along`], of halves.
    unsafe fn load_halves_along(from: *const bf16, n: usize) -> Self;
    /// Exchanges rows and columns of the first `LANES` vectors.
    unsafe fn transpose(square: &mut [Self; 16]);
}

/// What matrices are made of: the loads of a [`Vector`] by the kind of element, with their rules.
pub(super) trait Element: Stored {
    /// Elements that are known to be of this kind.
    fn of(elements: Elements<'_>) -> &[Self];
    unsafe fn load_rows<V: Vector>(row: *const Self, next: *const Self, mask: V::Mask) -> V;
    unsafe fn load_along<V: Vector>(from: *const Self, n: usize) -> V;
}

/// The loads of one kind, by their names.
macro_rules! element {
    ($kind:ty, $variant:ident, $rows:ident, $along:ident) => {
        impl Element for $kind {
            fn of(elements: Elements<'_>) -> &[Self] {
                let Elements::$variant(elements) = elements else { unreachable!("elements of another kind") };
                elements
            }
            #[inline(always)]
            unsafe fn load_rows<V: Vector>(row: *const Self, next: *const Self, mask: V::Mask) -> V {
                // SAFETY: the caller's promise; so below.
                unsafe { V::$rows(row, next, mask) }
            }
            #[inline(always)]
            unsafe fn load_along<V: Vector>(from: *const Self, n: usize) -> V {
                unsafe { V::$along(from, n) }
            }
        }
    };
}
element!(f32, Floats, load_rows, load_along);
element!(bf16, Halves, load_half_rows, load_halves_along);

/// Four floats in plain Rust, rounded to bfloat16 when loaded if `ROUND`.
#[derive(Clone, Copy)]
pub(super) struct Plain<const ROUND: bool>([f32; 4]);

impl<const ROUND: bool> Vector for Plain<ROUND> {
    const LANES: usize = 4;
    type Mask = usize;

    #[inline(always)]
    unsafe fn mask(n: usize) -> usize {
        n.min(4)
    }
    #[inline(always)]
    unsafe fn zero() -> Self {
        Self([0.0; 4])
    }
    #[inline(always)]
    unsafe fn splat(from: *const u32) -> Self {
        // SAFETY: the trait's rule.
        Self([unsafe { from.cast::<f32>().read() }; 4])
    }
    #[inline(always)]
    unsafe fn load(from: *const u32) -> Self {
        // SAFETY: the trait's rule.
        Self(unsafe { from.cast::<[f32; 4]>().read_unaligned() })
    }
    #[inline(always)]
    unsafe fn load_masked(from: *const f32, mask: usize) -> Self {
        if mask == 4 {
            // SAFETY: the trait's rule.
            return unsafe { Self::load(from.cast()) };
        }
        let mut lanes = [0.0; 4];
        for (i, lane) in lanes.iter_mut().enumerate().take(mask) {
            // SAFETY: the trait's rule.
            *lane = unsafe { from.add(i).read() };
        }
        Self(lanes)
    }
    #[inline(always)]
    unsafe fn store_masked(self, to: *mut f32, mask: usize) {
        for (i, &lane) in self.0.iter().enumerate().take(mask) {
            // SAFETY: the trait's rule.
            unsafe { to.add(i).write(lane) };
        }
    }
    #[inline(always)]
    unsafe fn narrow_masked(self, to: *mut bf16, mask: usize) {
        for (i, &lane) in self.0.iter().enumerate().take(mask) {
            // SAFETY: the trait's rule.
            unsafe { to.add(i).write(bf16::stored(lane)) };
        }
    }
    #[inline(always)]
    unsafe fn add(self, other: Self) -> Self {
        Self(std::array::from_fn(|i| self.0[i] + other.0[i]))
    }
    #[inline(always)]
    unsafe fn mul_add(self, a: Self, b: Self) -> Self {
        // Without the instruction, `f32::mul_add` is a slow call.
        let fused = cfg!(any(target_arch = "aarch64", target_feature = "fma"));
        Self(std::array::from_fn(|i| {
            if fused { a.0[i].mul_add(b.0[i], self.0[i]) } else { self.0[i] + a.0[i] * b.0[i] }
        }))
    }
    #[inline(always)]
    unsafe fn load_rows(row: *const f32, _: *const f32, mask: usize) -> Self {
        // SAFETY: the trait's rule.
        let row = unsafe { Self::load_masked(row, mask) };
        if ROUND { Self(row.0.map(|x| f32::from_bits(round_bf16(x)))) } else { row }
    }
    #[inline(always)]
    unsafe fn load_along(from: *const f32, n: usize) -> Self {
        // SAFETY: the trait's rule.
        unsafe { Self::load_rows(from, from, Self::mask(n)) }
    }
    #[inline(always)]
    unsafe fn load_half_rows(row: *const bf16, _: *const bf16, mask: usize) -> Self {
        let mut lanes = [0.0; 4];
        for (i, lane) in lanes.iter_mut().enumerate().take(mask) {
            // SAFETY: the trait's rule.
            *lane = unsafe { row.add(i).read() }.wide();
        }
        Self(lanes)
    }
    #[inline(always)]
    unsafe fn load_halves_along(from: *const bf16, n: usize) -> Self {
        // SAFETY: the trait's rule.
        unsafe { Self::load_half_rows(from, from, Self::mask(n)) }
    }
    #[inline(always)]
    unsafe fn transpose(square: &mut [Self; 16]) {
        let rows = [square[0].0, square[1].0, square[2].0, square[3].0];
        for (i, row) in square.iter_mut().enumerate().take(4) {
            row.0 = rows.map(|r| r[i]);
        }
    }
}
