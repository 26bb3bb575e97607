//! Records of a set on disk: JSON Lines, and JSON in one piece.

use std::path::Path;

use anyhow::{Context as _, Result, anyhow, ensure};
use mm1_data::text_file;
use serde::de::DeserializeOwned;

/// What to do about a file that is missing or not as expected.
const REMEDY: &str = "docs/guide/evaluation.md says what is expected";

/// Reads a record of each line, and makes something of it. Empty lines are passed over.
///
/// # Errors
/// One line with the file, the line and the remedy; a file without records.
pub(crate) fn lines<R: DeserializeOwned, T>(
    path: &Path,
    mut make: impl FnMut(R) -> Result<T>,
) -> Result<Vec<T>> {
    let mut made = Vec::new();
    for (line, text) in text(path)?.lines().enumerate().filter(|(_, text)| !text.trim().is_empty()) {
        let here = || format!("{}:{}", path.display(), line + 1);
        let record = serde_json::from_str(text).map_err(|e| {
            let said = e.to_string();
            // It counts lines in the one line that it was given.
            anyhow!("{}; {REMEDY}", said.split(" at line 1 ").next().unwrap_or_default())
        });
        made.push(record.and_then(&mut make).with_context(here)?);
    }
    ensure!(!made.is_empty(), "{}: it has no item; {REMEDY}", path.display());
    Ok(made)
}

/// Reads a file that is one value.
///
/// # Errors
/// One line with the file, the line and the remedy.
pub(crate) fn whole<R: DeserializeOwned>(path: &Path) -> Result<R> {
    serde_json::from_str(&text(path)?).map_err(|e| anyhow!("{}: {e}; {REMEDY}", path.display()))
}

/// Reads a file's text.
///
/// # Errors
/// As [`whole`].
pub(crate) fn text(path: &Path) -> Result<String> {
    text_file::read(path).map_err(|e| anyhow!("{}: {e:#}; {REMEDY}", path.display()))
}
