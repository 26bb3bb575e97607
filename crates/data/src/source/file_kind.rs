//! [`FileKind`]: what a file is, by its ending and its first content.

use std::path::{Path, PathBuf};

use anyhow::Result;

use super::archive_evidence::archive;
use super::caption_list;
use super::column_evidence::columns;
use super::evidence::{Evidence, SourceFields};
use super::files::Format as _;
use super::value_evidence::values;
use super::webdataset::{PICTURES, PICTURES_NOT_READ};
use super::{html, json, parquet, shard, text};
use crate::error_line::error_line;
use crate::shard::{MANIFEST, ShardManifest};
use crate::store::{Blob, Store};

/// What a file is by its ending and content.
pub(super) enum FileKind {
    Format(Evidence),
    Picture,
    /// Of a format that is not read.
    PictureNotRead,
    Text,
    ShardManifest(PathBuf),
    Unclear(String),
    Nothing,
}

/// Looks at a file; `given` are the fields that a person says.
pub(super) fn inspect(file: &Blob, given: &SourceFields, store: &Store) -> FileKind {
    let name = file.name.to_lowercase();
    let ends = |endings: &[&str]| ends(&name, endings);
    let clear = |evidence: Result<Evidence>| match evidence {
        Ok(evidence) => FileKind::Format(evidence),
        Err(error) => {
            let told = error_line(&file.explained(error));
            // The file is named beside it.
            let told = told.strip_prefix(&format!("{}: ", file.address)).unwrap_or(&told);
            FileKind::Unclear(told.to_owned())
        }
    };
    if let Some(folder) = manifest(file) {
        FileKind::ShardManifest(folder)
    } else if ends(shard::Shard.endings()) {
        clear(store.cache.unpacked(file).and_then(|file| archive(&file, given)))
    } else if ends(parquet::ENDINGS) {
        clear(columns(file, given))
    } else if ends(json::ENDINGS) {
        clear(store.cache.unpacked(file).and_then(|file| values(&file, given)))
    } else if ends(html::ENDINGS) {
        FileKind::Format(Evidence::of("html"))
    } else if ends(&[".csv", ".tsv", "captions.txt"]) && caption_list::is_list(file) {
        clear(caption_list::check_list(Path::new(&file.address)).map(|()| Evidence::of("folder")))
    } else if ends(text::ENDINGS) {
        FileKind::Text
    } else if has_ending(&name, &PICTURES) {
        FileKind::Picture
    } else if has_ending(&name, &PICTURES_NOT_READ) {
        FileKind::PictureNotRead
    } else {
        FileKind::Nothing
    }
}

/// The folder of a manifest of shards.
fn manifest(file: &Blob) -> Option<PathBuf> {
    let path = Path::new(&file.address);
    let folder = path.parent().filter(|_| path.file_name().is_some_and(|name| name == MANIFEST))?;
    ShardManifest::read(folder).ok().map(|_| folder.to_owned())
}

/// Whether a name ends with one of these, which are in lower case.
pub(super) fn ends(name: &str, endings: &[&str]) -> bool {
    let name = name.to_lowercase();
    endings.iter().any(|ending| name.ends_with(ending))
}

/// Whether a name ends with a dot and one of these.
pub(super) fn has_ending(name: &str, endings: &[&str]) -> bool {
    let ending = Path::new(name).extension().unwrap_or_default().to_string_lossy().to_lowercase();
    endings.contains(&ending.as_str())
}

/// The endings of the files of a kind.
pub(super) fn endings(kind: &str) -> &'static [&'static str] {
    match kind {
        "shards" | "webdataset" => shard::Shard.endings(),
        "parquet-captioned" | "parquet-text" | "parquet-conversations" | "obelics" => parquet::ENDINGS,
        "html" => html::ENDINGS,
        "text" => text::ENDINGS,
        _ => json::ENDINGS,
    }
}
