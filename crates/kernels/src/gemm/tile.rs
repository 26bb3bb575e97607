//! Microkernels: a tile of the product held in registers.

use super::vector::Vector;
use half::bf16;

/// A tile `[rows, cols]` of the product of two packed panels. For each word along k, `a` holds `R` words (one
/// of each row; `amx` lays them out otherwise) and `b` holds `2 * LANES` (one of each column).
#[derive(Clone, Copy)]
pub(super) struct Tile {
    pub(super) words: usize,
    pub(super) a: *const u32,
    pub(super) b: *const u32,
    pub(super) c: TileOutput,
    /// Elements from one row of `c` to the next.
    pub(super) stride: usize,
    /// Rows to store.
    pub(super) rows: usize,
    /// Columns to store.
    pub(super) cols: usize,
    /// Whether to add to `c`.
    pub(super) add: bool,
}

/// The first element of a tile.
#[derive(Clone, Copy)]
pub(super) enum TileOutput {
    Floats(*mut f32),
    /// Rounded when stored.
    Halves(*mut bf16),
}

/// Computes a tile of `M` rows and `N` vectors of columns.
///
/// # Safety
/// As for [`Vector`]; `a` and `b` hold `words` groups, `c` holds `rows` rows, which are `M`, of `cols`
/// elements.
#[inline(always)]
pub(super) unsafe fn tile<V: Vector, const R: usize, const M: usize, const N: usize>(t: &Tile) {
    // SAFETY: the caller's promise.
    unsafe {
        let (mut a, mut b) = (t.a, t.b);
        for i in 0..M {
            match t.c {
                TileOutput::Floats(c) => {
                    (0..N).for_each(|j| prefetch_write(c.wrapping_add(i * t.stride + j * V::LANES)));
                }
                TileOutput::Halves(c) => prefetch_write(c.wrapping_add(i * t.stride)),
            }
        }
        let mut sums = [[V::zero(); N]; M];
        for _ in 0..t.words / UNROLLED {
            for _ in 0..UNROLLED {
                add_word::<V, R, M, N>(&mut sums, &mut a, &mut b);
            }
        }
        for _ in 0..t.words % UNROLLED {
            add_word::<V, R, M, N>(&mut sums, &mut a, &mut b);
        }
        store::<V, M, N>(&sums, t);
    }
}

/// Adds the next word of each row times that of each column to the sums.
///
/// # Safety
/// As for [`Vector`]; `a` holds `R` words, `b` `2 * LANES`.
#[inline(always)]
unsafe fn add_word<V: Vector, const R: usize, const M: usize, const N: usize>(
    sums: &mut [[V; N]; M],
    a: &mut *const u32,
    b: &mut *const u32,
) {
    // SAFETY: the caller's promise.
    unsafe {
        let columns: [V; N] = std::array::from_fn(|j| V::load(b.add(j * V::LANES)));
        // The loop of AVX2 issues nearly as much as a core can: there it is left to the machine.
        if V::LANES > 8 {
            for line in (0..2 * V::LANES).step_by(LINE) {
                prefetch(b.wrapping_add(8 * 2 * V::LANES + line));
            }
        }
        for (i, row) in sums.iter_mut().enumerate() {
            let x = V::splat(a.add(i));
            for (sum, column) in row.iter_mut().zip(columns) {
                *sum = sum.mul_add(x, column);
            }
        }
        *a = a.add(R);
        *b = b.add(2 * V::LANES);
    }
}

/// Words along k in one turn of the loop: where another thread shares the core, every instruction beside the
/// multiply-adds costs. Rolled, the 34M decoder's step took 1.06 times as long; eight words a turn are slower
/// again (the cache of decoded instructions).
const UNROLLED: usize = 4;

/// Words in a cache line.
const LINE: usize = 16;

/// Stores the sums, or adds them.
///
/// # Safety
/// As for [`tile`].
#[inline(always)]
unsafe fn store<V: Vector, const M: usize, const N: usize>(sums: &[[V; N]; M], t: &Tile) {
    // SAFETY: `c` holds `M` rows of `cols` elements; masks keep to them.
    unsafe {
        let masks: [V::Mask; N] = std::array::from_fn(|j| V::mask(t.cols.saturating_sub(j * V::LANES)));
        match t.c {
            TileOutput::Floats(c) => store_floats(sums, (c, t.stride), masks, t.add),
            TileOutput::Halves(c) => {
                // By way of memory: rounding is so many instructions that the compiler keeps a loop of them,
                // and with it the sums in memory from the start.
                const { assert!(M * N * V::LANES <= LARGEST) }
                let mut floats = [0.0; LARGEST];
                store_floats(sums, (floats.as_mut_ptr(), N * V::LANES), [V::mask(V::LANES); N], false);
                for i in 0..M {
                    for (j, &mask) in masks.iter().enumerate() {
                        let to = c.wrapping_add(i * t.stride + j * V::LANES);
                        let sum = V::load(floats.as_ptr().add((i * N + j) * V::LANES).cast());
                        let sum = if t.add { V::widen_masked(to, mask).add(sum) } else { sum };
                        sum.narrow_masked(to, mask);
                    }
                }
            }
        }
    }
}

/// Floats of the largest tile.
const LARGEST: usize = 14 * 32;

#[inline(always)]
unsafe fn store_floats<V: Vector, const M: usize, const N: usize>(
    sums: &[[V; N]; M],
    (c, stride): (*mut f32, usize),
    masks: [V::Mask; N],
    add: bool,
) {
    // SAFETY: `c` holds `M` rows, of the floats of the masks.
    unsafe {
        for (i, row) in sums.iter().enumerate() {
            for (j, (&sum, &mask)) in row.iter().zip(&masks).enumerate() {
                let to = c.wrapping_add(i * stride + j * V::LANES);
                let sum = if add { V::load_masked(to, mask).add(sum) } else { sum };
                sum.store_masked(to, mask);
            }
        }
    }
}

/// Asks for a cache line to write to; any address will do.
#[inline(always)]
fn prefetch_write<T>(address: *const T) {
    #[cfg(target_arch = "x86_64")]
    // SAFETY: SSE is always there, and a prefetch never faults.
    unsafe {
        std::arch::x86_64::_mm_prefetch::<{ std::arch::x86_64::_MM_HINT_ET0 }>(address.cast());
    }
    #[cfg(not(target_arch = "x86_64"))]
    let _ = address;
}

/// Asks for a cache line; any address will do.
#[inline(always)]
pub(super) fn prefetch(address: *const u32) {
    #[cfg(target_arch = "x86_64")]
    // SAFETY: SSE is always there, and a prefetch never faults.
    unsafe {
        std::arch::x86_64::_mm_prefetch::<{ std::arch::x86_64::_MM_HINT_T0 }>(address.cast());
    }
    #[cfg(not(target_arch = "x86_64"))]
    let _ = address;
}
