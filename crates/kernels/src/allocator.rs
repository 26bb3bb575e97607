//! Settings of the process's memory: mimalloc, the allocator of our programs, and the size of pages.
#![expect(unsafe_code, reason = "the option is set in C")]

use std::ffi::{c_int, c_long};
use std::time::Duration;

use crate::arena;
use libmimalloc_sys::{mi_collect, mi_option_get, mi_option_set_default};

/// `mi_option_purge_delay` of `mimalloc.h`, in milliseconds.
const PURGE_DELAY: c_int = 15;

/// How long freed memory waits for its next use before the system has it back.
pub fn keeps_freed() -> Duration {
    // SAFETY: reads a number from a table of options that has this one.
    let milliseconds = unsafe { mi_option_get(PURGE_DELAY) };
    Duration::from_millis(milliseconds.max(0) as u64)
}

/// Lets freed memory wait for so long in place of mimalloc's second. For programs with mimalloc as their
/// allocator; `MIMALLOC_PURGE_DELAY` in the environment wins.
pub fn give_back_after(wait: Duration) {
    let milliseconds = wait.as_millis().try_into().unwrap_or(c_long::MAX);
    // SAFETY: writes a number to that table, as the library allows at any time.
    unsafe { mi_option_set_default(PURGE_DELAY, milliseconds) };
}

/// Gives the system what this thread and those of the pool have freed and still hold, between two pieces of
/// work that need different memory.
pub fn give_back_now() {
    // SAFETY: each thread collects its own heap, as the library allows at any time.
    let collect = || unsafe { mi_collect(true) };
    collect();
    rayon::broadcast(|_| collect());
}

/// What suits training: what is large in a step waits in the [`crate::arena`], and pictures of different
/// sizes have little use for what others leave.
pub const IN_TRAINING: Duration = Duration::from_millis(10);

/// What suits all else: a token takes about 10 ms, and finds what the last one left.
pub const ELSEWHERE: Duration = Duration::from_millis(100);

/// The process's memory as training wants it, for as long as this value lives. The caller of a training loop
/// holds it.
///
/// The process gets small pages, where the system is Linux: of huge ones a part stays in use, and so the
/// whole, when a step gives memory back. (Decoding reads each weight once for a token and is faster with huge
/// ones.) Freed memory waits for [`IN_TRAINING`]. When dropped, the arena's pages go back to the system and
/// both settings end.
#[derive(Debug)]
#[must_use = "the settings end when it is dropped"]
pub struct TrainingMemory(());

impl TrainingMemory {
    /// Sets them.
    #[expect(
        clippy::new_without_default,
        reason = "it changes the process, which a default value should not"
    )]
    pub fn new() -> Self {
        small_pages(true);
        give_back_after(IN_TRAINING);
        Self(())
    }
}

impl Drop for TrainingMemory {
    fn drop(&mut self) {
        arena::give_back();
        small_pages(false);
        give_back_after(ELSEWHERE);
    }
}

fn small_pages(small: bool) {
    // A system without huge pages may refuse: then there is nothing to do.
    #[cfg(target_os = "linux")]
    let _ = rustix::thread::disable_transparent_huge_pages(small);
    #[cfg(not(target_os = "linux"))]
    let _ = small;
}
