//! [`Evidence`]: what a file shows of its format. Looked at are its names, types and a spread of its values:
//! archives in `archive_evidence`, columns of Parquet in `column_evidence`, JSON in `value_evidence`.

use std::path::{Path, PathBuf};

use anyhow::{Result, bail, ensure};
use serde_json::{Map, Value};

/// The fields of a source that a person or a file sets.
pub(crate) type SourceFields = Map<String, Value>;

/// Folders beside a file in which its pictures are looked for, after the file's own.
const ALBUMS: [&str; 3] = ["images", "pictures", "imgs"];

/// A kind of source and the fields that the file decides.
#[derive(Clone, Debug, PartialEq)]
pub(crate) struct Evidence {
    pub(crate) kind: &'static str,
    pub(crate) settings: SourceFields,
}

impl Evidence {
    pub(super) fn of(kind: &'static str) -> Self {
        Self { kind, settings: SourceFields::new() }
    }

    pub(super) fn with(mut self, field: &str, value: impl Into<Value>) -> Self {
        self.settings.insert(field.to_owned(), value.into());
        self
    }
}

/// At most `count` of `all`, evenly spread.
pub(super) fn spread<T>(all: &[T], count: usize) -> impl Iterator<Item = &T> {
    let taken = all.len().min(count);
    (0..taken).map(move |i| &all[i * all.len() / taken])
}

/// The path of a picture that a person's file names; none for addresses.
pub(super) fn is_path(name: &str) -> bool {
    !name.contains("://") && !name.starts_with("data:")
}

/// Sets the folder of the pictures, where the file names any: the first of these beside it in which one of
/// them is.
pub(super) fn with_album(
    found: Evidence,
    file: &str,
    names: &[String],
    given: &SourceFields,
) -> Result<Evidence> {
    let Some(first) = names.first().filter(|_| !given.contains_key("pictures")) else { return Ok(found) };
    ensure!(
        !file.contains("://"),
        "its pictures, such as {first}, are read from a folder: add --set pictures=DIR"
    );
    let folders = albums(Path::new(file));
    let there = |folder: &&PathBuf| is_there(folder, names);
    match folders.iter().find(there) {
        Some(folder) => Ok(found.with("pictures", folder.to_string_lossy())),
        None => {
            let places: Vec<_> = folders.iter().map(|folder| folder.display().to_string()).collect();
            bail!("its pictures, such as {first}, are not in {}: add --set pictures=DIR", places.join(", "))
        }
    }
}

/// Whether one of the names is a file of the folder.
pub(super) fn is_there(folder: &Path, names: &[String]) -> bool {
    let inside =
        |name: &String| Path::new(name).components().all(|c| matches!(c, std::path::Component::Normal(_)));
    names.iter().any(|name| inside(name) && folder.join(name).is_file())
}

/// The folder that holds a file.
pub(super) fn folder_of(file: &Path) -> &Path {
    file.parent().filter(|folder| !folder.as_os_str().is_empty()).unwrap_or(Path::new("."))
}

/// The folder of the file, and those beside it that are named `images`, `pictures`, `imgs` or as the file.
fn albums(file: &Path) -> Vec<PathBuf> {
    let folder = folder_of(file);
    let name = file.file_name().unwrap_or_default().to_string_lossy();
    let stem = name.split('.').next().unwrap_or_default();
    let beside = ALBUMS.into_iter().chain([stem]).map(|name| folder.join(name));
    std::iter::once(folder.to_owned()).chain(beside).collect()
}
