//! Text for standard output that a reader may cut short.

use std::io::{ErrorKind, Write as _, stdout};

use anyhow::Result;

/// Prints `text`. A pipe that is closed early, as by `head`, is no error.
///
/// # Errors
/// Standard output that can't be written for another reason.
pub(crate) fn print(text: &[u8]) -> Result<()> {
    match stdout().write_all(text).and_then(|()| stdout().flush()) {
        Err(e) if e.kind() != ErrorKind::BrokenPipe => Err(e.into()),
        _ => Ok(()),
    }
}
