//! The microkernels of one instruction set and precision, and how their operands are laid out.

use super::pack;
use super::tile::{Tile, tile};
use super::vector::{Plain, Vector};
#[cfg(target_arch = "x86_64")]
use super::x86::{Avx2, Avx512, Avx512Bf16};
use super::{KC, Matrix, Precision};
use crate::cpu::{self, Isa};

type PackFn = unsafe fn(Matrix<'_>, usize, *mut u32);
type TileFn = unsafe fn(&Tile);

/// One set of microkernels.
///
/// A *panel* is `rows` rows of A or `cols` columns of B over some length of k, laid out word after word along
/// k; a word is one float or, where `pair` is 2, two neighbours along k in bfloat16. Rows that lack are
/// zeros.
pub(crate) struct Kernel {
    /// Rows of a full tile.
    pub(crate) rows: usize,
    /// Columns of a full tile.
    pub(crate) cols: usize,
    /// Elements in a word.
    pub(crate) pair: usize,
    /// By the number of rows less one, and whether the columns need the second vector.
    tiles: &'static [[TileFn; 2]],
    pack: PackFn,
}

impl Kernel {
    /// The microkernels of the instruction set in use.
    pub(crate) fn of(precision: Precision) -> &'static Self {
        match (cpu::isa(), precision) {
            #[cfg(target_arch = "x86_64")]
            (Isa::Avx512Bf16, Precision::Bf16) => &AVX512_BF16,
            #[cfg(target_arch = "x86_64")]
            (Isa::Avx512 | Isa::Avx512Bf16, Precision::F32) => &AVX512,
            #[cfg(target_arch = "x86_64")]
            (Isa::Avx512, Precision::Bf16) => &AVX512_ROUNDED,
            #[cfg(target_arch = "x86_64")]
            (Isa::Avx2, Precision::F32) => &AVX2,
            #[cfg(target_arch = "x86_64")]
            (Isa::Avx2, Precision::Bf16) => &AVX2_ROUNDED,
            (_, Precision::F32) => &PLAIN,
            (_, Precision::Bf16) => &PLAIN_ROUNDED,
        }
    }

    /// Terms of a block of k.
    pub(super) fn terms(&self) -> usize {
        KC * self.pair
    }

    /// Words along k.
    pub(super) fn words(&self, k: usize) -> usize {
        k.div_ceil(self.pair)
    }

    /// Packs `view`, `[rows, k]` of A or `[cols, k]` of B transposed, to panels of `height` rows.
    pub(super) fn pack(&self, view: Matrix<'_>, height: usize, out: &mut [u32]) {
        let size = view.rows().div_ceil(height) * height * self.words(view.cols());
        assert_eq!(out.len(), size, "panels of [{}, {}], {height} high", view.rows(), view.cols());
        // SAFETY: `of` gives kernels of this machine; the panels fit (checked).
        unsafe { (self.pack)(view, height, out.as_mut_ptr()) }
    }

    /// A tile of `m` rows.
    ///
    /// # Safety
    /// As for [`tile`], with panels of this kernel.
    #[inline]
    pub(super) unsafe fn tile(&self, m: usize, t: &Tile) {
        // A narrow tile leaves out the second vector of columns: half of the multiply-adds would be of zeros.
        let wide = usize::from(t.cols * 2 > self.cols);
        // SAFETY: as above; the rest is the caller's promise.
        unsafe { self.tiles[m - 1][wide](t) }
    }
}

/// The microkernels for a vector, compiled with its features.
macro_rules! kernel {
    ($name:ident, $vector:ty, rows: [$($m:literal)*] of $rows:literal, pair: $pair:literal
     $(, #[$features:meta])?) => {
        static $name: Kernel = {
            $(#[$features])?
            unsafe fn tile_with<const M: usize, const N: usize>(t: &Tile) {
                // SAFETY: the caller's promise.
                unsafe { tile::<$vector, $rows, M, N>(t) }
            }
            $(#[$features])?
            unsafe fn pack_with(view: Matrix<'_>, height: usize, out: *mut u32) {
                // SAFETY: the caller's promise.
                unsafe { pack::pack::<$vector, $pair>(view, height, out) }
            }
            const LANES: usize = <$vector as Vector>::LANES;
            Kernel {
                rows: $rows,
                cols: 2 * LANES,
                pair: $pair,
                tiles: &[$([tile_with::<$m, 1>, tile_with::<$m, 2>]),*],
                pack: pack_with,
            }
        };
    };
}

kernel!(PLAIN, Plain<false>, rows: [1 2 3 4 5 6] of 6, pair: 1);
kernel!(PLAIN_ROUNDED, Plain<true>, rows: [1 2 3 4 5 6] of 6, pair: 1);
#[cfg(target_arch = "x86_64")]
kernel!(AVX2, Avx2<false>, rows: [1 2 3 4 5 6] of 6, pair: 1,
    #[target_feature(enable = "avx2,fma")]);
#[cfg(target_arch = "x86_64")]
kernel!(AVX2_ROUNDED, Avx2<true>, rows: [1 2 3 4 5 6] of 6, pair: 1,
    #[target_feature(enable = "avx2,fma")]);
#[cfg(target_arch = "x86_64")]
kernel!(AVX512, Avx512<false>, rows: [1 2 3 4 5 6 7 8 9 10 11 12 13 14] of 14, pair: 1,
    #[target_feature(enable = "avx512f,avx512bw,avx512vl,avx512dq")]);
#[cfg(target_arch = "x86_64")]
kernel!(AVX512_ROUNDED, Avx512<true>, rows: [1 2 3 4 5 6 7 8 9 10 11 12 13 14] of 14, pair: 1,
    #[target_feature(enable = "avx512f,avx512bw,avx512vl,avx512dq")]);
#[cfg(target_arch = "x86_64")]
kernel!(AVX512_BF16, Avx512Bf16, rows: [1 2 3 4 5 6 7 8 9 10 11 12 13 14] of 14, pair: 2,
    #[target_feature(enable = "avx512f,avx512bw,avx512vl,avx512dq,avx512bf16")]);
