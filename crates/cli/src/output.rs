//! What a person sees, on streams that may be closed or full. Text of others (ids, reasons, names of files,
//! answers, what servers say) reaches a terminal through this file alone, its control characters as escapes:
//! lines through [`tell`], [`fail`] and the macros, JSON through [`print_json`]. Secrets are left out of the
//! first two. What stands in one line of a table goes through `printable` before, so that it stays one line.
//!
//! The macros below take the place of the standard library's in this program. Those end a process in a panic
//! where the stream can't be written: a full disk under a log would end a training of weeks.

use std::fmt;
use std::io::{self, ErrorKind, Write as _, stderr, stdout};
use std::sync::atomic::{AtomicBool, Ordering};

use anyhow::Result;
use console::Term;
use mm1_data::error_line::error_line;
use mm1_data::printable::{printable, printable_json, printable_lines};
use mm1_data::redact::without_secrets;
use serde::Serialize;

use crate::error::InputError;
use crate::wrap::wrap;

/// Whether this process only says why it fails: of a run's ranks one speaks.
static SILENT: AtomicBool = AtomicBool::new(false);

/// Says nothing from here on, but why it fails.
#[cfg(feature = "mpi")]
pub(crate) fn be_silent() {
    SILENT.store(true, Ordering::Relaxed);
}

/// Writes a line, or several, to standard error.
pub(crate) fn tell(line: impl fmt::Display) {
    if SILENT.load(Ordering::Relaxed) {
        return;
    }
    let line = line.to_string();
    // Nobody can be told that standard error is closed.
    let line = wrap(&printable_lines(&without_secrets(&line)), &Term::stderr());
    let _ = writeln!(stderr(), "{line}");
}

/// The one line with which the program ends where it fails.
pub(crate) fn fail(error: &anyhow::Error) {
    let line = format!("mm1: {}", printable(&without_secrets(&error_line(error))));
    let _ = writeln!(stderr(), "{}", wrap(&line, &Term::stderr()));
}

/// Prints to standard output, which is a result of the command: where it can't be written the command ends.
macro_rules! print {
    ($($text:tt)*) => { $crate::output::to_stdout(format_args!($($text)*)) };
}

/// The same with the end of the line.
macro_rules! println {
    () => { $crate::output::to_stdout(format_args!("\n")) };
    ($($text:tt)*) => { $crate::output::to_stdout(format_args!("{}\n", format_args!($($text)*))) };
}

/// Prints to standard error, which is for those who watch: what can't be written there is not missed.
macro_rules! eprint {
    ($($text:tt)*) => { $crate::output::to_stderr(format_args!($($text)*)) };
}

/// Prints the JSON document of a command, in one line.
///
/// # Errors
/// As [`print()`].
pub(crate) fn print_json(document: &impl Serialize) -> Result<()> {
    let document = serde_json::to_string(document)?;
    print(format!("{}\n", printable_json(&document)).as_bytes())
}

/// Prints `text` as it is: what the program itself has made. A pipe that is closed early, as by `head`, is no
/// error.
///
/// # Errors
/// Standard output that can't be written for another reason.
pub(crate) fn print(text: &[u8]) -> Result<()> {
    match stdout().write_all(text).and_then(|()| stdout().flush()) {
        Err(e) if e.kind() != ErrorKind::BrokenPipe => Err(unwritable(&e).into()),
        _ => Ok(()),
    }
}

/// Prints to standard output. Where nobody reads it any more the process ends, as others do; where it can't
/// be written for another reason it says so and ends with exit code 2. All files are whole by then.
pub(crate) fn to_stdout(text: fmt::Arguments<'_>) {
    let text = wrap(&printable_lines(&text.to_string()), &Term::stdout());
    match stdout().write_all(text.as_bytes()).and_then(|()| stdout().flush()) {
        Ok(()) => {}
        Err(e) if e.kind() == ErrorKind::BrokenPipe => std::process::exit(0),
        Err(e) => {
            to_stderr(format_args!("mm1: {}\n", unwritable(&e)));
            std::process::exit(2);
        }
    }
}

/// Prints to standard error, or else nowhere.
pub(crate) fn to_stderr(text: fmt::Arguments<'_>) {
    let text = wrap(&printable_lines(&text.to_string()), &Term::stderr());
    // Nobody could be told.
    let _ = stderr().write_all(text.as_bytes());
}

fn unwritable(error: &io::Error) -> InputError {
    InputError::new(format!("standard output can't be written: {error}"))
}
