//! A setting of mimalloc, the allocator of our programs.
#![expect(unsafe_code, reason = "the option is set in C")]

use std::ffi::c_int;
use std::time::Duration;

use libmimalloc_sys::{mi_option_get, mi_option_set_default};

/// `mi_option_purge_delay` of `mimalloc.h`, in milliseconds.
const PURGE_DELAY: c_int = 15;

/// How long freed memory waits for its next use before the system has it back.
pub fn keeps_freed() -> Duration {
    // SAFETY: reads a number from a table of options that has this one.
    let milliseconds = unsafe { mi_option_get(PURGE_DELAY) };
    Duration::from_millis(milliseconds.max(0) as u64)
}

/// Lets freed memory wait for 10 ms in place of mimalloc's second: what is large in a step of training waits in the
/// [`crate::arena`], and pictures of different sizes have little use for what others leave. For programs with mimalloc as
/// their allocator; `MIMALLOC_PURGE_DELAY` in the environment wins.
pub fn give_back_soon() {
    // SAFETY: writes a number to that table, as the library allows at any time.
    unsafe { mi_option_set_default(PURGE_DELAY, 10) };
}
