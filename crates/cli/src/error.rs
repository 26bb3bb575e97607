//! Errors by whose they are, and the exit codes that tell: 2 the person's input, 130 an interrupt, 1 the
//! rest.

use std::fmt;
use std::io;

use mm1_eval::refusal::Refusal;

/// The person's input is wrong: one line that says what, where and what to do.
#[derive(Debug)]
pub(crate) struct InputError(String);

impl InputError {
    pub(crate) fn new(message: impl fmt::Display) -> Self {
        Self(message.to_string().split_whitespace().collect::<Vec<_>>().join(" "))
    }
}

impl fmt::Display for InputError {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(&self.0)
    }
}

impl std::error::Error for InputError {}

/// Marks every failure of `result` as one of the person's input.
pub(crate) fn input<T>(result: anyhow::Result<T>) -> anyhow::Result<T> {
    result.map_err(|e| if exit_code(&e) == 1 { InputError::new(format!("{e:#}")).into() } else { e })
}

/// The run was asked to stop, and has written a checkpoint.
#[derive(Debug)]
pub(crate) struct Interrupted;

impl fmt::Display for Interrupted {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str("interrupted; the same command continues from here")
    }
}

impl std::error::Error for Interrupted {}

/// 2 for wrong input (a full disk is one: only the person can mend it), 130 for an interrupt, else 1.
pub(crate) fn exit_code(error: &anyhow::Error) -> u8 {
    let full = |e: &(dyn std::error::Error + 'static)| {
        use io::ErrorKind::{FileTooLarge, QuotaExceeded, StorageFull};
        e.downcast_ref::<io::Error>()
            .is_some_and(|e| matches!(e.kind(), StorageFull | QuotaExceeded | FileTooLarge))
    };
    if error.downcast_ref::<Interrupted>().is_some() {
        130
    } else if error.downcast_ref::<InputError>().is_some()
        || error.downcast_ref::<Refusal>().is_some()
        || error.chain().any(full)
    {
        2
    } else {
        1
    }
}
