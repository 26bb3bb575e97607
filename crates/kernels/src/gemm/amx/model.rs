//! A model of the tile registers in plain Rust, after the manual's pseudo code, so that the kernel around
//! them is tested on machines without AMX.

use super::registers::TileRegisters;

/// Eight tiles of sixteen rows of sixteen words.
pub(crate) struct ModelTiles([[[u32; 16]; 16]; 8]);

impl TileRegisters for ModelTiles {
    /// Of NaN, where the machine's are zeros: the kernel shall not rely on it.
    unsafe fn configure() -> Self {
        Self([[[f32::NAN.to_bits(); 16]; 16]; 8])
    }

    fn zero<const T: usize>(&mut self) {
        self.0[T] = [[0; 16]; 16];
    }

    unsafe fn load<const T: usize>(&mut self, from: *const u32, stride: usize) {
        for (i, row) in self.0[T].iter_mut().enumerate() {
            // SAFETY: the caller's promise; the words may lie anywhere.
            *row = unsafe { from.byte_add(i * stride).cast::<[u32; 16]>().read_unaligned() };
        }
    }

    unsafe fn load_streamed<const T: usize>(&mut self, from: *const u32, stride: usize) {
        // SAFETY: the caller's promise.
        unsafe { self.load::<T>(from, stride) }
    }

    fn multiply<const C: usize, const A: usize, const B: usize>(&mut self) {
        let (a, b) = (self.0[A], self.0[B]);
        for (sums, a) in self.0[C].iter_mut().zip(&a) {
            // SAFETY: the kernel runs on machines with AVX-512 only, and those have FMA.
            unsafe { multiply_row(sums, a, &b) }
        }
    }

    unsafe fn store<const T: usize>(&self, to: *mut f32, stride: usize) {
        for (i, row) in self.0[T].iter().enumerate() {
            // SAFETY: the caller's promise; the words may lie anywhere.
            unsafe { to.byte_add(i * stride).cast::<[u32; 16]>().write_unaligned(*row) }
        }
    }
}

/// A row of A times all columns of B.
#[target_feature(enable = "avx2,fma")]
fn multiply_row(sums: &mut [u32; 16], a: &[u32; 16], b: &[[u32; 16]; 16]) {
    let mut parts = [[0.0_f32; 2]; 16];
    for (&a, b) in a.iter().zip(b) {
        for ([even, odd], &b) in parts.iter_mut().zip(b) {
            *even = multiply_add(low(a), low(b), *even);
            *odd = multiply_add(high(a), high(b), *odd);
        }
    }
    for (sum, [even, odd]) in sums.iter_mut().zip(parts) {
        *sum = normal(normal(f32::from_bits(*sum)) + normal(even + odd)).to_bits();
    }
}

/// The lower bfloat16 of a word.
fn low(word: u32) -> f32 {
    f32::from_bits(word << 16)
}

/// The upper one.
fn high(word: u32) -> f32 {
    f32::from_bits(word & 0xffff_0000)
}

/// Denormals are zeros with their sign.
fn normal(x: f32) -> f32 {
    if x.abs() < f32::MIN_POSITIVE { 0.0_f32.copysign(x) } else { x }
}

/// `sum + a * b`, rounded once to nearest even, where numbers that are denormal before or tiny after are
/// zeros. Tiny is what would round to less than the least normal number if there were smaller ones, as SSE
/// has it.
#[inline(always)]
fn multiply_add(a: f32, b: f32, sum: f32) -> f32 {
    /// Halfway between the least normal number and the next below it with 24 bits.
    const TINY: f64 = f32::MIN_POSITIVE as f64 * (1.0 - 1.0 / (1 << 25) as f64);
    let (a, b, sum) = (normal(a), normal(b), normal(sum));
    // Exact where it is near the least normal number: factors have eight bits, normal sums end at 2^-149.
    let wide = f64::from(a) * f64::from(b) + f64::from(sum);
    let rounded = a.mul_add(b, sum);
    if wide != 0.0 && wide.abs() < TINY { 0.0_f32.copysign(rounded) } else { rounded }
}
