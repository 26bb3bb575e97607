//! What a person sees. Text of others (ids, reasons, names of files, what servers say) reaches a terminal
//! through [`tell`] and [`fail`] alone, without control characters and without secrets.

use std::fmt;
use std::io::{ErrorKind, Write as _, stderr, stdout};

use anyhow::Result;
use mm1_data::printable::{printable, printable_lines};
use mm1_data::redact::without_secrets;

/// Writes a line, or several, to standard error.
pub(crate) fn tell(line: impl fmt::Display) {
    let line = line.to_string();
    // Nobody can be told that standard error is closed.
    let _ = writeln!(stderr(), "{}", printable_lines(&without_secrets(&line)));
}

/// The one line with which the program ends where it fails.
pub(crate) fn fail(error: &anyhow::Error) {
    let words = format!("{error:#}");
    let line = words.split_whitespace().collect::<Vec<_>>().join(" ");
    let _ = writeln!(stderr(), "mm1: {}", printable(&without_secrets(&line)));
}

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
