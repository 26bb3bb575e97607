//! The tile registers of AMX: eight, of sixteen rows of 64 bytes each (Intel's Software Developer's Manual,
//! volume 1, chapter 18, and volume 2 for each instruction).

use std::arch::asm;
use std::marker::PhantomData;

/// Tile registers and the instructions that the kernel uses; in tests a model of them in plain Rust.
pub(crate) trait TileRegisters: Sized {
    /// Configures all eight tiles of this thread as sixteen rows of 64 bytes; they are released when the
    /// value is dropped.
    ///
    /// # Safety
    /// This machine has tiles that the system permits, and no other value of this thread is alive.
    unsafe fn configure() -> Self;

    /// Sets a tile to zeros: `tilezero`.
    fn zero<const T: usize>(&mut self);

    /// Reads sixteen rows of 64 bytes that are `stride` bytes apart: `tileloadd`.
    ///
    /// # Safety
    /// All rows can be read.
    unsafe fn load<const T: usize>(&mut self, from: *const u32, stride: usize);

    /// The same, of what is read once: it shall not push other things out of the first cache: `tileloaddt1`.
    ///
    /// # Safety
    /// As for [`Self::load`].
    unsafe fn load_streamed<const T: usize>(&mut self, from: *const u32, stride: usize);

    /// Adds to the floats of tile `C` the products of the pairs of bfloat16 in rows of `A` and, a row for
    /// each pair, of `B`: `tdpbf16ps`.
    fn multiply<const C: usize, const A: usize, const B: usize>(&mut self);

    /// Writes sixteen rows of 64 bytes that are `stride` bytes apart: `tilestored`.
    ///
    /// # Safety
    /// All rows can be written.
    unsafe fn store<const T: usize>(&self, to: *mut f32, stride: usize);
}

/// The tiles of this thread, configured: who has the value may execute tile instructions. It stays on its
/// thread (a raw pointer is not `Send`), since the configuration does.
///
/// The compiler knows of no tiles and uses none, so that what they hold outlives a block of assembly; and
/// blocks without `pure` are executed as often and in the order in which they are written.
pub(crate) struct AmxTiles(PhantomData<*mut ()>);

/// What `ldtilecfg` takes.
#[repr(C, align(64))]
struct Configuration {
    palette: u8,
    start_row: u8,
    reserved: [u8; 14],
    row_bytes: [u16; 16],
    rows: [u8; 16],
}

/// Eight whole tiles; there are no others, so their lengths are zeros.
static WHOLE: Configuration = {
    let (mut row_bytes, mut rows) = ([0; 16], [0; 16]);
    let mut i = 0;
    while i < 8 {
        (row_bytes[i], rows[i]) = (64, 16);
        i += 1;
    }
    Configuration { palette: 1, start_row: 0, reserved: [0; 14], row_bytes, rows }
};

const _: () = assert!(size_of::<Configuration>() == 64);

impl TileRegisters for AmxTiles {
    #[inline(always)]
    unsafe fn configure() -> Self {
        // SAFETY: there are tiles, of this size, that the system permits (the caller's promise, which
        // `tile_unit::is_usable` found); 64 bytes are read.
        unsafe {
            asm!("ldtilecfg [{}]", in(reg) &raw const WHOLE, options(nostack, preserves_flags, readonly));
        }
        Self(PhantomData)
    }

    #[inline(always)]
    fn zero<const T: usize>(&mut self) {
        const { assert!(T < 8) }
        // SAFETY: this thread's tiles are configured (there is a `self`); memory is not touched.
        unsafe { asm!("tilezero tmm{t}", t = const T, options(nostack, preserves_flags, nomem)) }
    }

    #[inline(always)]
    unsafe fn load<const T: usize>(&mut self, from: *const u32, stride: usize) {
        const { assert!(T < 8) }
        // SAFETY: the tiles are configured; the rows can be read (the caller's promise).
        unsafe {
            asm!("tileloadd tmm{t}, [{from} + {stride}*1]", t = const T, from = in(reg) from,
                stride = in(reg) stride, options(nostack, preserves_flags, readonly));
        }
    }

    #[inline(always)]
    unsafe fn load_streamed<const T: usize>(&mut self, from: *const u32, stride: usize) {
        const { assert!(T < 8) }
        // SAFETY: as in `load`.
        unsafe {
            asm!("tileloaddt1 tmm{t}, [{from} + {stride}*1]", t = const T, from = in(reg) from,
                stride = in(reg) stride, options(nostack, preserves_flags, readonly));
        }
    }

    #[inline(always)]
    fn multiply<const C: usize, const A: usize, const B: usize>(&mut self) {
        // The same register twice is an undefined instruction.
        const { assert!(C < 8 && A < 8 && B < 8 && C != A && C != B && A != B) }
        // SAFETY: the tiles are configured, and fit: whole ones do; memory is not touched.
        unsafe {
            asm!("tdpbf16ps tmm{c}, tmm{a}, tmm{b}", c = const C, a = const A, b = const B,
                options(nostack, preserves_flags, nomem));
        }
    }

    #[inline(always)]
    unsafe fn store<const T: usize>(&self, to: *mut f32, stride: usize) {
        const { assert!(T < 8) }
        // SAFETY: the tiles are configured; the rows can be written (the caller's promise).
        unsafe {
            asm!("tilestored [{to} + {stride}*1], tmm{t}", t = const T, to = in(reg) to,
                stride = in(reg) stride, options(nostack, preserves_flags));
        }
    }
}

impl Drop for AmxTiles {
    /// Gives the tiles back: while they hold something, a switch of threads saves 8 KiB more.
    #[inline(always)]
    fn drop(&mut self) {
        // SAFETY: the tiles were configured on this thread; memory is not touched.
        unsafe { asm!("tilerelease", options(nostack, preserves_flags, nomem)) }
    }
}
