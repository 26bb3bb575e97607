//! Vectors of x86-64.

use super::vector::Vector;
use half::bf16;
use std::arch::x86_64::*;

/// Eight floats, rounded to bfloat16 when loaded if `ROUND`.
#[derive(Clone, Copy)]
pub(super) struct Avx2<const ROUND: bool>(__m256);

/// Sixteen floats, rounded to bfloat16 when loaded if `ROUND`.
#[derive(Clone, Copy)]
#[repr(transparent)]
pub(super) struct Avx512<const ROUND: bool>(__m512);

/// Sixteen floats as sums, sixteen pairs of bfloat16 as factors.
#[derive(Clone, Copy)]
#[repr(transparent)]
pub(super) struct Avx512Bf16(pub(super) __m512);

/// The methods that differ in nothing but the intrinsics' names.
macro_rules! methods {
    ($lanes:literal, $zero:ident, $splat:ident, $load:ident, $add:ident) => {
        const LANES: usize = $lanes;

        #[inline(always)]
        unsafe fn zero() -> Self {
            // SAFETY: the trait's rule; so below.
            Self(unsafe { $zero() })
        }
        #[inline(always)]
        unsafe fn splat(from: *const u32) -> Self {
            Self(unsafe { $splat(from.cast::<f32>().read()) })
        }
        #[inline(always)]
        unsafe fn load(from: *const u32) -> Self {
            Self(unsafe { $load(from.cast()) })
        }
        #[inline(always)]
        unsafe fn add(self, other: Self) -> Self {
            Self(unsafe { $add(self.0, other.0) })
        }
    };
}

/// Masks of AVX-512.
macro_rules! masked512 {
    () => {
        type Mask = __mmask16;

        #[inline(always)]
        unsafe fn mask(n: usize) -> __mmask16 {
            mask(n)
        }
        #[inline(always)]
        unsafe fn load_masked(from: *const f32, mask: __mmask16) -> Self {
            // SAFETY: the trait's rule; so below.
            Self(unsafe { _mm512_maskz_loadu_ps(mask, from) })
        }
        #[inline(always)]
        unsafe fn store_masked(self, to: *mut f32, mask: __mmask16) {
            unsafe { _mm512_mask_storeu_ps(to, mask, self.0) }
        }
        #[inline(always)]
        unsafe fn transpose(square: &mut [Self; 16]) {
            // SAFETY: both are sixteen vectors.
            let rows = unsafe { &mut *std::ptr::from_mut(square).cast::<[__m512; 16]>() };
            unsafe { transpose16(rows) }
        }
    };
}

impl<const ROUND: bool> Vector for Avx2<ROUND> {
    methods!(8, _mm256_setzero_ps, _mm256_set1_ps, _mm256_loadu_ps, _mm256_add_ps);
    /// The number of lanes.
    type Mask = usize;

    #[inline(always)]
    unsafe fn mask(n: usize) -> usize {
        n.min(8)
    }
    #[inline(always)]
    unsafe fn load_masked(from: *const f32, n: usize) -> Self {
        // SAFETY: the trait's rule; so below.
        unsafe {
            if n == 8 {
                return Self(_mm256_loadu_ps(from));
            }
            let lanes = _mm256_setr_epi32(0, 1, 2, 3, 4, 5, 6, 7);
            Self(_mm256_maskload_ps(from, _mm256_cmpgt_epi32(_mm256_set1_epi32(n as i32), lanes)))
        }
    }
    /// In pieces: AMD's cores take twelve cycles and more for a masked store.
    #[inline(always)]
    unsafe fn store_masked(self, to: *mut f32, n: usize) {
        unsafe {
            if n == 8 {
                return _mm256_storeu_ps(to, self.0);
            }
            let (mut rest, mut to) = (_mm256_castps256_ps128(self.0), to);
            if n & 4 != 0 {
                _mm_storeu_ps(to, rest);
                (rest, to) = (_mm256_extractf128_ps::<1>(self.0), to.add(4));
            }
            if n & 2 != 0 {
                _mm_storel_pd(to.cast(), _mm_castps_pd(rest));
                (rest, to) = (_mm_movehl_ps(rest, rest), to.add(2));
            }
            if n & 1 != 0 {
                _mm_store_ss(to, rest);
            }
        }
    }
    #[inline(always)]
    unsafe fn narrow_masked(self, to: *mut bf16, n: usize) {
        unsafe {
            let high = _mm256_srli_epi32::<16>(_mm256_castps_si256(round8(self.0)));
            let (low, high) = (_mm256_castsi256_si128(high), _mm256_extracti128_si256::<1>(high));
            let mut halves = [bf16::ZERO; 8];
            _mm_storeu_si128(halves.as_mut_ptr().cast(), _mm_packus_epi32(low, high));
            to.copy_from_nonoverlapping(halves.as_ptr(), n);
        }
    }
    #[inline(always)]
    unsafe fn mul_add(self, a: Self, b: Self) -> Self {
        Self(unsafe { _mm256_fmadd_ps(a.0, b.0, self.0) })
    }
    #[inline(always)]
    unsafe fn load_rows(row: *const f32, _: *const f32, n: usize) -> Self {
        let row = unsafe { Self::load_masked(row, n) };
        if ROUND { Self(unsafe { round8(row.0) }) } else { row }
    }
    #[inline(always)]
    unsafe fn load_along(from: *const f32, n: usize) -> Self {
        unsafe { Self::load_rows(from, from, Self::mask(n)) }
    }
    #[inline(always)]
    unsafe fn load_half_rows(row: *const bf16, _: *const bf16, n: usize) -> Self {
        let mut some = [bf16::ZERO; 8];
        let from = if n == 8 {
            row
        } else {
            unsafe { some.as_mut_ptr().copy_from_nonoverlapping(row, n) };
            some.as_ptr()
        };
        unsafe {
            let wide = _mm256_cvtepu16_epi32(_mm_loadu_si128(from.cast()));
            Self(_mm256_castsi256_ps(_mm256_slli_epi32::<16>(wide)))
        }
    }
    #[inline(always)]
    unsafe fn load_halves_along(from: *const bf16, n: usize) -> Self {
        unsafe { Self::load_half_rows(from, from, Self::mask(n)) }
    }
    #[inline(always)]
    unsafe fn transpose(square: &mut [Self; 16]) {
        let rows = std::array::from_fn(|i| square[i].0);
        for (row, new) in square.iter_mut().zip(unsafe { transpose8(rows) }) {
            row.0 = new;
        }
    }
}

impl<const ROUND: bool> Vector for Avx512<ROUND> {
    methods!(16, _mm512_setzero_ps, _mm512_set1_ps, _mm512_loadu_ps, _mm512_add_ps);
    masked512!();

    #[inline(always)]
    unsafe fn narrow_masked(self, to: *mut bf16, mask: __mmask16) {
        unsafe {
            let high = _mm512_srli_epi32::<16>(_mm512_castps_si512(round16(self.0)));
            _mm256_mask_storeu_epi16(to.cast(), mask, _mm512_cvtepi32_epi16(high));
        }
    }
    #[inline(always)]
    unsafe fn mul_add(self, a: Self, b: Self) -> Self {
        Self(unsafe { _mm512_fmadd_ps(a.0, b.0, self.0) })
    }
    #[inline(always)]
    unsafe fn load_rows(row: *const f32, _: *const f32, mask: __mmask16) -> Self {
        let row = unsafe { Self::load_masked(row, mask) };
        if ROUND { Self(unsafe { round16(row.0) }) } else { row }
    }
    #[inline(always)]
    unsafe fn load_along(from: *const f32, n: usize) -> Self {
        unsafe { Self::load_rows(from, from, mask(n)) }
    }
    #[inline(always)]
    unsafe fn load_half_rows(row: *const bf16, _: *const bf16, mask: __mmask16) -> Self {
        Self(unsafe { widen16(row, mask) })
    }
    #[inline(always)]
    unsafe fn load_halves_along(from: *const bf16, n: usize) -> Self {
        unsafe { Self::load_half_rows(from, from, mask(n)) }
    }
}

impl Vector for Avx512Bf16 {
    methods!(16, _mm512_setzero_ps, _mm512_set1_ps, _mm512_loadu_ps, _mm512_add_ps);
    masked512!();

    #[inline(always)]
    unsafe fn widen_masked(from: *const bf16, mask: __mmask16) -> Self {
        // SAFETY: the trait's rule.
        Self(unsafe { widen16(from, mask) })
    }
    #[inline(always)]
    unsafe fn narrow_masked(self, to: *mut bf16, mask: __mmask16) {
        // SAFETY: the trait's rule, and vectors of 256 bits are exchanged.
        unsafe {
            let halves = std::mem::transmute::<__m256bh, __m256i>(_mm512_cvtneps_pbh(self.0));
            _mm256_mask_storeu_epi16(to.cast(), mask, halves);
        }
    }
    #[inline(always)]
    unsafe fn mul_add(self, a: Self, b: Self) -> Self {
        // SAFETY: the trait's rule, and vectors of 512 bits are exchanged.
        unsafe {
            let (a, b) =
                (std::mem::transmute::<__m512, __m512bh>(a.0), std::mem::transmute::<__m512, __m512bh>(b.0));
            Self(_mm512_dpbf16_ps(self.0, a, b))
        }
    }
    #[inline(always)]
    unsafe fn load_rows(row: *const f32, next: *const f32, mask: __mmask16) -> Self {
        // SAFETY: the trait's rule.
        unsafe {
            let next = if next.is_null() { Self::zero() } else { Self::load_masked(next, mask) };
            Self(pairs(halves(Self::load_masked(row, mask).0, next.0)))
        }
    }
    #[inline(always)]
    unsafe fn load_along(from: *const f32, n: usize) -> Self {
        // SAFETY: the trait's rule; beyond the last element nothing is read.
        unsafe {
            let low = Self::load_masked(from, mask(n)).0;
            let high = Self::load_masked(from.wrapping_add(16), mask(n.saturating_sub(16))).0;
            Self(_mm512_castsi512_ps(halves(low, high)))
        }
    }
    #[inline(always)]
    unsafe fn load_half_rows(row: *const bf16, next: *const bf16, mask: __mmask16) -> Self {
        // SAFETY: the trait's rule.
        unsafe {
            let row = _mm512_castsi256_si512(_mm256_maskz_loadu_epi16(mask, row.cast()));
            let next = _mm256_maskz_loadu_epi16(if next.is_null() { 0 } else { mask }, next.cast());
            Self(pairs(_mm512_inserti64x4::<1>(row, next)))
        }
    }
    #[inline(always)]
    unsafe fn load_halves_along(from: *const bf16, n: usize) -> Self {
        let mask = if n >= 32 { !0 } else { (1 << n) - 1 };
        // SAFETY: the trait's rule; beyond the last element nothing is read.
        Self(unsafe { _mm512_castsi512_ps(_mm512_maskz_loadu_epi16(mask, from.cast())) })
    }
}

/// Floats of the halves of a mask, then zeros.
///
/// # Safety
/// AVX-512 F, BW and VL are there, and the halves of the mask.
#[inline(always)]
unsafe fn widen16(from: *const bf16, mask: __mmask16) -> __m512 {
    // SAFETY: the caller's promise.
    unsafe {
        let wide = _mm512_cvtepu16_epi32(_mm256_maskz_loadu_epi16(mask, from.cast()));
        _mm512_castsi512_ps(_mm512_slli_epi32::<16>(wide))
    }
}

/// Pairs of the first sixteen bfloat16 and the last.
///
/// # Safety
/// AVX-512 F and BW are there.
#[inline(always)]
unsafe fn pairs(halves: __m512i) -> __m512 {
    // SAFETY: the caller's promise.
    unsafe {
        let order: [u16; 32] = std::array::from_fn(|i| (i / 2 + i % 2 * 16) as u16);
        _mm512_castsi512_ps(_mm512_permutexvar_epi16(_mm512_loadu_si512(order.as_ptr().cast()), halves))
    }
}

/// Thirty-two bfloat16: `low`, then `high`.
///
/// # Safety
/// AVX-512 F and BF16 are there.
#[inline(always)]
unsafe fn halves(low: __m512, high: __m512) -> __m512i {
    // SAFETY: the caller's promise, and vectors of 512 bits are exchanged.
    unsafe { std::mem::transmute::<__m512bh, __m512i>(_mm512_cvtne2ps_pbh(high, low)) }
}

/// The first `n` of 16 lanes.
#[inline(always)]
fn mask(n: usize) -> __mmask16 {
    if n >= 16 { 0xffff } else { (1 << n) - 1 }
}

/// `round_bf16` of each lane.
///
/// # Safety
/// AVX2 is there.
#[inline(always)]
unsafe fn round8(x: __m256) -> __m256 {
    // SAFETY: the caller's promise.
    unsafe {
        let bits = _mm256_castps_si256(x);
        let odd = _mm256_and_si256(_mm256_srli_epi32::<16>(bits), _mm256_set1_epi32(1));
        let rounded = _mm256_add_epi32(bits, _mm256_add_epi32(odd, _mm256_set1_epi32(0x7fff)));
        let quiet = _mm256_or_si256(bits, _mm256_set1_epi32(0x0040_0000));
        let nan = _mm256_castps_si256(_mm256_cmp_ps::<_CMP_UNORD_Q>(x, x));
        let bits = _mm256_blendv_epi8(rounded, quiet, nan);
        _mm256_castsi256_ps(_mm256_and_si256(bits, _mm256_set1_epi32(!0xffff)))
    }
}

/// `round_bf16` of each lane.
///
/// # Safety
/// AVX-512 F is there.
#[inline(always)]
unsafe fn round16(x: __m512) -> __m512 {
    // SAFETY: the caller's promise.
    unsafe {
        let bits = _mm512_castps_si512(x);
        let odd = _mm512_and_si512(_mm512_srli_epi32::<16>(bits), _mm512_set1_epi32(1));
        let rounded = _mm512_add_epi32(bits, _mm512_add_epi32(odd, _mm512_set1_epi32(0x7fff)));
        let nan = _mm512_cmp_ps_mask::<_CMP_UNORD_Q>(x, x);
        let bits = _mm512_mask_or_epi32(rounded, nan, bits, _mm512_set1_epi32(0x0040_0000));
        _mm512_castsi512_ps(_mm512_and_si512(bits, _mm512_set1_epi32(!0xffff)))
    }
}

/// Rows and columns exchanged.
///
/// # Safety
/// AVX-512 F is there.
#[inline(always)]
unsafe fn transpose16(v: &mut [__m512; 16]) {
    // SAFETY: the caller's promise.
    unsafe {
        let mut t = *v;
        for i in 0..8 {
            t[2 * i] = _mm512_unpacklo_ps(v[2 * i], v[2 * i + 1]);
            t[2 * i + 1] = _mm512_unpackhi_ps(v[2 * i], v[2 * i + 1]);
        }
        for i in 0..4 {
            for half in 0..2 {
                let upper = _mm512_castps_pd(t[4 * i + half]);
                let lower = _mm512_castps_pd(t[4 * i + 2 + half]);
                v[4 * i + 2 * half] = _mm512_castpd_ps(_mm512_unpacklo_pd(upper, lower));
                v[4 * i + 2 * half + 1] = _mm512_castpd_ps(_mm512_unpackhi_pd(upper, lower));
            }
        }
        for i in 0..4 {
            for half in 0..2 {
                let (upper, lower) = (v[8 * half + i], v[8 * half + 4 + i]);
                t[8 * half + i] = _mm512_shuffle_f32x4::<0x88>(upper, lower);
                t[8 * half + 4 + i] = _mm512_shuffle_f32x4::<0xdd>(upper, lower);
            }
        }
        for i in 0..8 {
            v[i] = _mm512_shuffle_f32x4::<0x88>(t[i], t[8 + i]);
            v[8 + i] = _mm512_shuffle_f32x4::<0xdd>(t[i], t[8 + i]);
        }
    }
}

/// Rows and columns exchanged.
///
/// # Safety
/// AVX2 is there.
#[inline(always)]
unsafe fn transpose8(rows: [__m256; 8]) -> [__m256; 8] {
    // SAFETY: the caller's promise.
    unsafe {
        let (mut v, mut t) = (rows, rows);
        for i in 0..4 {
            t[2 * i] = _mm256_unpacklo_ps(v[2 * i], v[2 * i + 1]);
            t[2 * i + 1] = _mm256_unpackhi_ps(v[2 * i], v[2 * i + 1]);
        }
        for i in 0..2 {
            for half in 0..2 {
                let (upper, lower) = (t[4 * i + half], t[4 * i + 2 + half]);
                v[4 * i + 2 * half] = _mm256_shuffle_ps::<0x44>(upper, lower);
                v[4 * i + 2 * half + 1] = _mm256_shuffle_ps::<0xee>(upper, lower);
            }
        }
        for i in 0..4 {
            t[i] = _mm256_permute2f128_ps::<0x20>(v[i], v[4 + i]);
            t[4 + i] = _mm256_permute2f128_ps::<0x31>(v[i], v[4 + i]);
        }
        t
    }
}
