//! Interrupts: the first asks for a checkpoint, the second ends the process.

use std::sync::Arc;
use std::sync::atomic::{AtomicBool, Ordering};

use anyhow::{Context as _, Result};

use crate::output::tell;

/// A flag that the first interrupt sets.
///
/// # Errors
/// If the system takes no handler, or has one already.
pub(crate) fn stop_flag() -> Result<Arc<AtomicBool>> {
    flag("stopping after this step, with a checkpoint; once more to stop at once")
}

/// The same; `told` is said when it is set.
///
/// # Errors
/// As [`stop_flag`].
pub(crate) fn flag(told: &'static str) -> Result<Arc<AtomicBool>> {
    let stop = Arc::new(AtomicBool::new(false));
    let flag = stop.clone();
    ctrlc::set_handler(move || {
        if flag.swap(true, Ordering::Relaxed) {
            std::process::exit(130);
        }
        tell(format_args!("\n{told}"));
    })
    .context("catching interrupts")?;
    Ok(stop)
}
