//! The microkernels of one instruction set and precision, and how their operands are laid out.

#[cfg(target_arch = "x86_64")]
use super::amx::{self, AmxTiles, TileRegisters};
use super::pack::{self, PackTarget};
use super::panel::PanelProduct;
use super::tile::{Tile, tile};
use super::vector::{Plain, Vector};
#[cfg(target_arch = "x86_64")]
use super::x86::{Avx2, Avx512, Avx512Bf16};
use super::{KC, Matrix, Precision};
use crate::cpu::{self, Isa};

type PackFn = unsafe fn(Matrix<'_>, PackTarget);
type ProductFn = unsafe fn(&PanelProduct<'_>);
type TileFn = unsafe fn(&Tile);

/// One set of microkernels.
///
/// A *panel* is `rows` rows of A or `cols` columns of B over some length of k, laid out word after word along
/// k (that of A otherwise in `amx`); a word is one float or, where `pair` is 2, two neighbours along k in
/// bfloat16. Rows that lack are zeros, and so are words up to a multiple of `step`.
pub(crate) struct Kernel {
    /// Rows of a full tile.
    pub(crate) rows: usize,
    /// Columns of a full tile.
    pub(crate) cols: usize,
    /// Elements in a word.
    pub(super) pair: usize,
    /// Words along k that are multiplied at once.
    step: usize,
    /// Words along k whose terms are added before they are added to the element.
    pub(super) block: usize,
    /// Whether it multiplies faster than memory is read.
    pub(super) fast: bool,
    /// The same for a single row of A, whose words then lie side by side.
    pub(super) single: Option<&'static Self>,
    product: ProductFn,
    pack_left: PackFn,
    pack_right: PackFn,
}

/// Which operand of a product it is.
#[derive(Clone, Copy)]
pub(super) enum OperandSide {
    /// A, by rows.
    Left,
    /// B, by columns.
    Right,
}

impl Kernel {
    /// The microkernels of the instruction set in use.
    pub(crate) fn of(precision: Precision) -> &'static Self {
        match (cpu::isa(), precision) {
            #[cfg(target_arch = "x86_64")]
            (Isa::Amx, Precision::Bf16) => &AMX,
            #[cfg(target_arch = "x86_64")]
            (Isa::Avx512Bf16, Precision::Bf16) => &AVX512_BF16,
            #[cfg(target_arch = "x86_64")]
            (Isa::Avx512 | Isa::Avx512Bf16 | Isa::Amx, Precision::F32) => &AVX512,
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

    /// The one to use for so many rows of A, with the same panels of B and the same sums.
    pub(super) fn for_rows(&'static self, rows: usize) -> &'static Self {
        self.single.filter(|_| rows == 1).unwrap_or(self)
    }

    /// Terms of a block of k.
    pub(super) fn terms(&self) -> usize {
        self.block * self.pair
    }

    /// Words along k.
    pub(super) fn words(&self, k: usize) -> usize {
        k.div_ceil(self.pair).next_multiple_of(self.step)
    }

    /// Rows of a panel.
    pub(super) fn height(&self, side: OperandSide) -> usize {
        match side {
            OperandSide::Left => self.rows,
            OperandSide::Right => self.cols,
        }
    }

    /// Packs `view`, `[rows, k]` of A or `[cols, k]` of B transposed, to panels one after another.
    pub(super) fn pack(&self, view: Matrix<'_>, side: OperandSide, out: &mut [u32]) {
        let (height, words) = (self.height(side), self.words(view.cols()));
        let size = view.rows().next_multiple_of(height) * words;
        assert_eq!(out.len(), size, "panels of [{}, {}], {height} high", view.rows(), view.cols());
        let target = PackTarget { out: out.as_mut_ptr(), height, stride: height * words };
        // SAFETY: the panels fit (checked).
        unsafe { self.pack_to(view, side, target) }
    }

    /// The same, to panels that may be apart.
    ///
    /// # Safety
    /// `target` holds the panels, as high as this kernel's.
    pub(super) unsafe fn pack_to(&self, view: Matrix<'_>, side: OperandSide, target: PackTarget) {
        let pack = match side {
            OperandSide::Left => self.pack_left,
            OperandSide::Right => self.pack_right,
        };
        // SAFETY: `of` gives kernels of this machine; the rest is the caller's promise.
        unsafe { pack(view, target) }
    }

    /// Computes a product of panels.
    ///
    /// # Safety
    /// The panels are this kernel's, `c` holds the rows and columns, and nobody else reads or writes them.
    #[inline]
    pub(super) unsafe fn product(&self, panels: &PanelProduct<'_>) {
        // SAFETY: `of` gives kernels of this machine; the rest is the caller's promise.
        unsafe { (self.product)(panels) }
    }
}

/// The microkernels for a vector, compiled with its features.
macro_rules! kernel {
    ($name:ident and $single:ident, $vector:ty, rows: [$($m:literal)*] of $rows:literal, pair: $pair:literal
     $(, #[$features:meta])?) => {
        kernel!($name, $vector, rows: [$($m)*] of $rows, pair: $pair, single: Some(&$single)
            $(, #[$features])?);
        kernel!($single, $vector, rows: [1] of 1, pair: $pair, single: None $(, #[$features])?);
    };
    ($name:ident, $vector:ty, rows: [$($m:literal)*] of $rows:literal, pair: $pair:literal,
     single: $single:expr $(, #[$features:meta])?) => {
        static $name: Kernel = {
            $(#[$features])?
            unsafe fn tile_with<const M: usize, const N: usize>(t: &Tile) {
                // SAFETY: the caller's promise.
                unsafe { tile::<$vector, $rows, M, N>(t) }
            }
            $(#[$features])?
            unsafe fn pack_with(view: Matrix<'_>, target: PackTarget) {
                // SAFETY: the caller's promise.
                unsafe { pack::pack::<$vector, $pair, 1>(view, target) }
            }
            const LANES: usize = <$vector as Vector>::LANES;
            /// By the number of rows less one, and whether the columns need the second vector.
            static TILES: [[TileFn; 2]; $rows] = [$([tile_with::<$m, 1>, tile_with::<$m, 2>]),*];
            unsafe fn product(panels: &PanelProduct<'_>) {
                for q in 0..panels.across() {
                    for p in 0..panels.down() {
                        let tile = panels.tile(p, q);
                        // A narrow tile leaves out the second vector of columns: half of the multiply-adds
                        // would be of zeros.
                        let wide = usize::from(tile.cols > LANES);
                        // SAFETY: the caller's promise.
                        unsafe { TILES[tile.rows - 1][wide](&tile) }
                    }
                }
            }
            Kernel {
                rows: $rows,
                cols: 2 * LANES,
                pair: $pair,
                step: 1,
                block: KC,
                fast: false,
                single: $single,
                product,
                pack_left: pack_with,
                pack_right: pack_with,
            }
        };
    };
}

kernel!(PLAIN and PLAIN_SINGLE, Plain<false>, rows: [1 2 3 4 5 6] of 6, pair: 1);
kernel!(PLAIN_ROUNDED and PLAIN_ROUNDED_SINGLE, Plain<true>, rows: [1 2 3 4 5 6] of 6, pair: 1);
#[cfg(target_arch = "x86_64")]
kernel!(AVX2 and AVX2_SINGLE, Avx2<false>, rows: [1 2 3 4 5 6] of 6, pair: 1,
    #[target_feature(enable = "avx2,fma")]);
#[cfg(target_arch = "x86_64")]
kernel!(AVX2_ROUNDED and AVX2_ROUNDED_SINGLE, Avx2<true>, rows: [1 2 3 4 5 6] of 6, pair: 1,
    #[target_feature(enable = "avx2,fma")]);
#[cfg(target_arch = "x86_64")]
kernel!(AVX512 and AVX512_SINGLE, Avx512<false>, rows: [1 2 3 4 5 6 7 8 9 10 11 12 13 14] of 14, pair: 1,
    #[target_feature(enable = "avx512f,avx512bw,avx512vl,avx512dq")]);
#[cfg(target_arch = "x86_64")]
kernel!(AVX512_ROUNDED and AVX512_ROUNDED_SINGLE,
    Avx512<true>, rows: [1 2 3 4 5 6 7 8 9 10 11 12 13 14] of 14, pair: 1,
    #[target_feature(enable = "avx512f,avx512bw,avx512vl,avx512dq")]);
#[cfg(target_arch = "x86_64")]
kernel!(AVX512_BF16 and AVX512_BF16_SINGLE,
    Avx512Bf16, rows: [1 2 3 4 5 6 7 8 9 10 11 12 13 14] of 14, pair: 2,
    #[target_feature(enable = "avx512f,avx512bw,avx512vl,avx512dq,avx512bf16")]);

#[cfg(target_arch = "x86_64")]
static AMX: Kernel = of_tiles::<AmxTiles>();

/// The kernel that multiplies by tile registers.
#[cfg(target_arch = "x86_64")]
pub(super) const fn of_tiles<T: TileRegisters>() -> Kernel {
    Kernel {
        rows: amx::PANEL,
        cols: amx::PANEL,
        pair: 2,
        step: amx::SIDE,
        block: amx::BLOCK,
        fast: true,
        single: None,
        product: amx::product::<T>,
        pack_left: amx::pack_left,
        pack_right: amx::pack_right,
    }
}
