//! A folder that is written whole, or not at all.

use std::fs;
use std::path::{Path, PathBuf};

use anyhow::{Context as _, Result, ensure};
use mm1_model::compute::on_pool;

use crate::error::{InputError, input};

/// Refuses an `--out` that is there already.
///
/// # Errors
/// One line with the folder.
pub(crate) fn check(out: &Path) -> Result<()> {
    ensure!(!out.exists(), "--out {}: it is there already", out.display());
    Ok(())
}

/// Makes a folder beside `out`, has `write` fill it on the pool's threads, and then gives it the name `out`.
///
/// # Errors
/// The first of `write`, after which nothing is left; a folder that can't be made.
pub(crate) fn write<T: Send>(out: &Path, write: impl FnOnce(&Path) -> Result<T> + Send) -> Result<T> {
    let beside = input(beside(out))?;
    fs::create_dir_all(&beside)
        .map_err(|e| InputError::new(format!("--out {}: its folder can't be made: {e}", out.display())))?;
    let written = on_pool(|| {
        let done = write(&beside)?;
        fs::rename(&beside, out).with_context(|| format!("--out {} can't be written", out.display()))?;
        Ok(done)
    });
    // The first error is the one to report.
    input(written.inspect_err(|_| drop(fs::remove_dir_all(&beside))))
}

/// Writes a text into the folder.
///
/// # Errors
/// A file that can't be written.
pub(crate) fn write_text(folder: &Path, name: &str, text: &str) -> Result<()> {
    let path = folder.join(name);
    fs::write(&path, text).with_context(|| format!("{} can't be written", path.display()))
}

/// Where the folder is written until it is whole.
fn beside(out: &Path) -> Result<PathBuf> {
    let name = out.file_name().with_context(|| format!("--out {}: it names no folder", out.display()))?;
    let path = out.with_file_name(format!(".{}.new", name.to_string_lossy()));
    if path.exists() {
        // What a killed command has left.
        fs::remove_dir_all(&path).with_context(|| format!("{} can't be removed", path.display()))?;
    }
    Ok(path)
}
