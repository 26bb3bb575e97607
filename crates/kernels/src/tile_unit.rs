//! Intel's matrix unit, AMX: whether this machine has it, and whether the system lets this process use it.

#![expect(unsafe_code, reason = "reads a register of the CPU, and makes system calls")]

use std::arch::asm;
use std::arch::x86_64::{__cpuid, __cpuid_count};
use std::sync::OnceLock;

/// Whether products of tiles in bfloat16 run here. The system is asked for its permission, once per process:
/// without it the first tile instruction ends the program. The permission holds for all threads, those that
/// run already among them, and for forks; a program that is started anew asks again.
pub(crate) fn is_usable() -> bool {
    static USABLE: OnceLock<bool> = OnceLock::new();
    *USABLE.get_or_init(|| has_tiles() && has_palette() && saves_tiles() && is_permitted())
}

/// The highest basic leaf that is read here.
const PALETTE_LEAF: u32 = 0x1d;

/// AMX-TILE and AMX-BF16: leaf 7 of `cpuid` (Intel's Software Developer's Manual, volume 2, CPUID).
fn has_tiles() -> bool {
    const BF16: u32 = 1 << 22;
    const TILE: u32 = 1 << 24;
    __cpuid(0).eax >= PALETTE_LEAF && __cpuid_count(7, 0).edx & (BF16 | TILE) == BF16 | TILE
}

/// Whether palette 1 is eight tiles of sixteen rows of 64 bytes, as the kernel configures it; of another size
/// `ldtilecfg` would fault.
fn has_palette() -> bool {
    let palette = __cpuid_count(PALETTE_LEAF, 1);
    __cpuid_count(PALETTE_LEAF, 0).eax >= 1
        && palette.eax == 1024 << 16 | 8192
        && palette.ebx == 8 << 16 | 64
        && palette.ecx & 0xffff == 16
}

/// XTILECFG and XTILEDATA of XCR0: whether the system saves tiles when it switches between threads.
fn saves_tiles() -> bool {
    const OSXSAVE: u32 = 1 << 27;
    if __cpuid(1).ecx & OSXSAVE == 0 {
        return false;
    }
    let low: u32;
    // SAFETY: `xgetbv` is there (OSXSAVE); it reads XCR0, and changes eax and edx only.
    unsafe {
        asm!("xgetbv", in("ecx") 0, out("eax") low, out("edx") _, options(nomem, nostack, preserves_flags));
    }
    low & TILE_FEATURES == TILE_FEATURES
}

/// States 17 (configuration) and 18 (data) of XSAVE.
const TILE_FEATURES: u32 = 1 << 17 | 1 << 18;

/// Asks Linux for tiles, and reads back that they are given (Documentation/arch/x86/xstate.rst). It refuses
/// where a thread has an alternate signal stack that is too small for them. `libc` and `rustix` have no
/// function for it.
#[cfg(target_os = "linux")]
fn is_permitted() -> bool {
    const GET_PERMISSION: u64 = 0x1022;
    const REQUEST_PERMISSION: u64 = 0x1023;
    const TILE_DATA: u64 = 18;
    let mut permitted = 0_u64;
    arch_prctl(REQUEST_PERMISSION, TILE_DATA) == 0
        && arch_prctl(GET_PERMISSION, (&raw mut permitted).expose_provenance() as u64) == 0
        && permitted & u64::from(TILE_FEATURES) == u64::from(TILE_FEATURES)
}

/// No other system is known to give them.
#[cfg(not(target_os = "linux"))]
fn is_permitted() -> bool {
    false
}

/// The system call; 0, or an error as a negative number.
#[cfg(target_os = "linux")]
fn arch_prctl(option: u64, argument: u64) -> i64 {
    const ARCH_PRCTL: i64 = 158;
    let answer: i64;
    // SAFETY: of both options used here, one takes a number, the other writes a word to a place that the
    // caller has for it. The call keeps all registers but rax, rcx and r11.
    unsafe {
        asm!("syscall", inlateout("rax") ARCH_PRCTL => answer, in("rdi") option, in("rsi") argument,
            lateout("rcx") _, lateout("r11") _, options(nostack));
    }
    answer
}
