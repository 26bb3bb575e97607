//! `isolated`: a library that may panic on damaged input, on a thread of its own.

use std::thread;

use anyhow::{Context as _, Result, anyhow};

/// The name of such a thread. What it panics with is no news for a person: the program's panic hook leaves it
/// out.
pub const ISOLATED: &str = "isolated";

/// Bytes of its stack: as many as the main thread has.
const STACK: usize = 8 << 20;

/// What `work` gives.
///
/// # Errors
/// `damaged` where it panics; a system that gives no more threads.
// Rejected: `catch_unwind` on the caller's thread. The hook can't tell its panics from those of our own code,
// and prints a backtrace of the library.
pub(crate) fn isolated<T: Send>(work: impl FnOnce() -> T + Send) -> Result<T> {
    thread::scope(|scope| {
        let own = thread::Builder::new().name(ISOLATED.to_owned()).stack_size(STACK);
        let thread = own.spawn_scoped(scope, work).context("starting a thread")?;
        thread.join().map_err(|_| anyhow!("damaged"))
    })
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_panic_is_damage() {
        assert!(isolated(|| thread::current().name() == Some(ISOLATED)).unwrap());
        let empty: [u8; 0] = [];
        let damaged = isolated(|| empty[std::hint::black_box(3)]).unwrap_err();
        assert_eq!(damaged.to_string(), "damaged");
    }
}
