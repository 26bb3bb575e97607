//! `mm1 man`: manual pages from the program's own arguments.

use std::path::Path;

use anyhow::{Context as _, Result};
use clap::Command;

/// Writes `mm1.1` and a page for each command below it into the folder `out`, which is made where it is
/// missing.
///
/// # Errors
/// A folder that can't be written to.
pub(crate) fn man(out: &Path, program: Command) -> Result<()> {
    let written = std::fs::create_dir_all(out).and_then(|()| clap_mangen::generate_to(program, out));
    written.with_context(|| format!("{}: the pages can't be written", out.display()))
}
