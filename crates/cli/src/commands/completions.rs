//! `mm1 completions SHELL`: the script by which a shell completes commands and options.

use anyhow::Result;
use clap::Command;
use clap_complete::{Shell, generate};

use crate::output;

/// Prints the script of `shell`.
///
/// # Errors
/// Standard output that takes no more.
pub(crate) fn completions(shell: Shell, program: &mut Command) -> Result<()> {
    // By way of memory: the generator panics where a pipe is closed.
    let mut script = Vec::new();
    generate(shell, program, "mm1", &mut script);
    output::print(&script)
}
