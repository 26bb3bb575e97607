//! Whom to name for weights of others, and their terms: the file `ATTRIBUTION`.

use std::path::Path;

use mm1_data::text_file;

/// The file's name.
pub(crate) const ATTRIBUTION: &str = "ATTRIBUTION";

/// Terms and author of the weights at `from`. `mm1 fetch` has written them beside their folder, under a line
/// that begins with its name; `mm1 import` into it.
pub(crate) fn weights_terms(from: &Path) -> Option<String> {
    let folder = if from.is_dir() { from } else { from.parent()? };
    let found = |file: &Path, begins: &str| {
        let text = text_file::read(file).ok()?;
        let terms = text.lines().skip_while(|line| !line.starts_with(begins)).nth(1)?;
        Some(terms.trim().to_owned())
    };
    let beside = || {
        let begins = format!("{}/", folder.file_name()?.to_str()?);
        found(&folder.parent()?.join(ATTRIBUTION), &begins)
    };
    found(&folder.join(ATTRIBUTION), "model.safetensors:").or_else(beside)
}
