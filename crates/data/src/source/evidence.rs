//! What one file shows of its format: the first sample of an archive, the columns of Parquet, the first JSON
//! values.

use std::path::{Path, PathBuf};

use anyhow::{Context as _, Result, bail, ensure};
use parquet::record::Field;
use serde_json::{Map, Value};

use super::messages::{self, TURNS, are_turns};
use super::parquet::picture;
use super::table::{self, ColumnKind, DEFAULT_MEMORY_MIB, ParquetColumns};
use super::webdataset::PICTURES;
use super::{json, tar};
use crate::index::IndexEntry;
use crate::store::Blob;

/// The fields of a source that a person or a file sets.
pub(crate) type SourceFields = Map<String, Value>;

/// JSON values, or rows, that are looked at for the names of pictures.
// The first values of a set may have no pictures.
const LOOKED_AT: usize = 16;
/// Folders beside a file in which its pictures are looked for, after the file's own.
const ALBUMS: [&str; 3] = ["images", "pictures", "imgs"];

/// A kind of source and the fields that the file decides.
#[derive(Clone, Debug, PartialEq)]
pub(crate) struct Evidence {
    pub(crate) kind: &'static str,
    pub(crate) settings: SourceFields,
}

impl Evidence {
    fn of(kind: &'static str) -> Self {
        Self { kind, settings: SourceFields::new() }
    }

    fn with(mut self, field: &str, value: impl Into<Value>) -> Self {
        self.settings.insert(field.to_owned(), value.into());
        self
    }
}

/// Of an archive: ours, where its first sample has a document, or else a picture with a caption.
///
/// # Errors
/// A damaged archive; a first sample that is neither.
pub(crate) fn archive(file: &Blob, given: &SourceFields) -> Result<Evidence> {
    let sample = tar::first(file)?;
    let json: Value =
        sample.member("json").and_then(|bytes| serde_json::from_slice(bytes).ok()).unwrap_or_default();
    if json.get("segments").is_some() && json.get("kind").is_some() {
        return Ok(Evidence::of("shards"));
    }
    ensure!(
        sample.names().any(|name| PICTURES.contains(&name)),
        "its first sample {} has no picture ({}) and no document of ours, but {}; \
         --kind fits: shards, webdataset",
        sample.key,
        PICTURES.join(", "),
        sample.extensions()
    );
    if given.contains_key("caption") {
        return Ok(Evidence::of("webdataset"));
    }
    let member = ["txt", "caption", "text"].into_iter().find(|name| sample.member(name).is_some());
    let field = ["caption", "text"].into_iter().find(|field| json.get(field).is_some_and(Value::is_string));
    let caption = member.map(str::to_owned).or_else(|| field.map(|field| format!("json.{field}")));
    let caption = caption.with_context(|| {
        let extensions = sample.extensions();
        format!(
            "no member of its first sample is known as a caption ({extensions}): add --set caption=MEMBER, \
             such as json.FIELD"
        )
    })?;
    Ok(Evidence::of("webdataset").with("caption", caption))
}

/// Of the columns of a Parquet file.
///
/// # Errors
/// A file that is no Parquet; columns of which none or several would do.
pub(crate) fn columns(file: &Blob, given: &SourceFields) -> Result<Evidence> {
    let columns = table::columns(file)?;
    let of = |shapes: &[ColumnKind]| -> Vec<&str> {
        columns.iter().filter(|(_, shape)| shapes.contains(shape)).map(|(name, _)| name.as_str()).collect()
    };
    let pick = |field: &str, fitting: &[&str], known: &[&str]| pick(field, fitting, known, given);
    let (texts, lists) = (of(&[ColumnKind::Text]), of(&[ColumnKind::Texts]));
    let named = |name: &str| lists.contains(&name);
    let (single, several) = (of(&[ColumnKind::Picture, ColumnKind::Bytes]), of(&[ColumnKind::Pictures]));
    if !lists.is_empty() && (!several.is_empty() || named("images")) {
        // Pictures that are named by a path are texts too.
        let pictures = if several.is_empty() { vec!["images"] } else { several };
        let images = pick("images", &pictures, &["images"])?;
        let others: Vec<&str> = lists.into_iter().filter(|&name| name != images).collect();
        let texts = pick("texts", &others, &["texts"])?;
        let found = Evidence::of("obelics").with("images", images.clone()).with("texts", texts);
        let names = cells(file, &images)?;
        return with_album(found, file, &names, given);
    }
    if !single.is_empty() {
        let image = pick("image", &single, &["image", "img", "picture", "jpg"])?;
        let text = pick("text", &texts, &["text", "caption", "captions"])?;
        return Ok(Evidence::of("parquet-captioned").with("image", image).with("text", text));
    }
    if !texts.is_empty() {
        let text = pick("text", &texts, &["text", "content"])?;
        return Ok(Evidence::of("parquet-text").with("text", text));
    }
    let names: Vec<&str> = columns.iter().map(|(name, _)| name.as_str()).collect();
    bail!(
        "no column of texts or pictures among {}; --kind fits: parquet-captioned, parquet-text, obelics",
        names.join(", ")
    )
}

/// The column for a field: the one that was said, one with a known name, or the only one.
fn pick(field: &str, fitting: &[&str], known: &[&str], given: &SourceFields) -> Result<String> {
    if let Some(name) = given.get(field).and_then(Value::as_str) {
        return Ok(name.to_owned());
    }
    let known = known.iter().find(|name| fitting.contains(name));
    match (known, fitting) {
        (Some(name), _) => Ok((*name).to_owned()),
        (None, [only]) => Ok((*only).to_owned()),
        (None, []) => bail!("no column fits `{field}`: add --set {field}=COLUMN, or another --kind"),
        (None, several) => {
            bail!(
                "{} columns fit `{field}` ({}): add --set {field}=COLUMN",
                several.len(),
                several.join(", ")
            )
        }
    }
}

/// The paths of pictures in the first rows of a column of lists, of those without bytes.
fn cells(file: &Blob, column: &str) -> Result<Vec<String>> {
    let table = ParquetColumns::new(&[column], DEFAULT_MEMORY_MIB)?;
    let mut names = Vec::new();
    for row in 0..LOOKED_AT as u64 {
        // Fewer rows than are looked at, or a damaged group, which reading it tells.
        let record = IndexEntry { key: 0, at: row, len: 0, group: 1 };
        let Ok(fields) = table.row(file, &record) else { break };
        let [Field::ListInternal(list)] = &fields[..] else { continue };
        let cells = list.elements().iter().filter(|cell| !matches!(cell, Field::Null));
        for cell in cells.filter_map(|cell| picture(cell).ok()) {
            names.extend(cell.path.filter(|_| cell.bytes.is_none()));
        }
    }
    Ok(names)
}

/// Of the fields of the first JSON values.
///
/// # Errors
/// What is not JSON; fields of no kind, or of several.
pub(crate) fn values(file: &Blob, given: &SourceFields) -> Result<Evidence> {
    let values = json::first(file, LOOKED_AT)?;
    let first = &values[0];
    let fitting = fitting(first);
    match fitting[..] {
        ["json-text"] => Ok(Evidence::of("json-text")),
        ["folder"] => Ok(Evidence::of("folder")),
        [kind @ ("mmc4" | "conversations")] => with_album(Evidence::of(kind), file, &names(&values), given),
        [] if given.contains_key("text") => Ok(Evidence::of("json-text")),
        [] => {
            let fields = first.as_object().into_iter().flatten().filter(|(_, value)| value.is_string());
            let fields: Vec<&str> = fields.map(|(field, _)| field.as_str()).collect();
            bail!(
                "its first value has neither `text`, `messages`, `conversations`, `text_list` with \
                 `image_info`, nor `path` with `caption`; --kind fits: json-text with --set text=FIELD \
                 (texts are in: {}), conversations, mmc4",
                if fields.is_empty() { "none".to_owned() } else { fields.join(", ") }
            )
        }
        _ => bail!("its first value has fields of several kinds; --kind fits: {}", fitting.join(", ")),
    }
}

/// The kinds that a JSON value may be of.
fn fitting(value: &Value) -> Vec<&'static str> {
    let has = |fields: &[&str]| fields.iter().all(|field| value.get(field).is_some());
    let texts = |fields: &[&str]| fields.iter().all(|field| value.get(field).is_some_and(Value::is_string));
    let kinds = [
        (has(&["text_list", "image_info"]), "mmc4"),
        (TURNS.iter().any(|field| value.get(field).is_some_and(may_be_turns)), "conversations"),
        (texts(&["path", "caption"]), "folder"),
        (texts(&["text"]), "json-text"),
    ];
    kinds.into_iter().filter_map(|(fits, kind)| fits.then_some(kind)).collect()
}

/// Whether a value is a list of turns, or of nothing.
fn may_be_turns(value: &Value) -> bool {
    value.as_array().is_some_and(Vec::is_empty) || are_turns(value)
}

/// Whether a file of JSON holds data of any kind.
pub(crate) fn is_data(file: &Blob) -> bool {
    json::first(file, 1).is_ok_and(|values| !fitting(&values[0]).is_empty())
}

/// The names of pictures in values of MMC4 or conversations; addresses are left out.
fn names(values: &[Value]) -> Vec<String> {
    let mut names = Vec::new();
    let mut add = |name: Option<&str>| {
        let name = name.filter(|name| !name.contains("://") && !name.starts_with("data:"));
        names.extend(name.map(str::to_owned));
    };
    let items = |value: Option<&Value>| value.and_then(Value::as_array).cloned().unwrap_or_default();
    for value in values {
        items(value.get("image_info"))
            .iter()
            .for_each(|info| add(info.get("image_name").and_then(Value::as_str)));
        // A record that is not understood is told when it is read.
        if let Ok(talk) = messages::talk(value) {
            talk.paths().for_each(|path| add(Some(path)));
        }
    }
    names
}

/// Sets the folder of the pictures, where the file names any: the first of these beside it in which one of
/// them is.
fn with_album(found: Evidence, file: &Blob, names: &[String], given: &SourceFields) -> Result<Evidence> {
    let Some(first) = names.first().filter(|_| !given.contains_key("pictures")) else { return Ok(found) };
    ensure!(
        !file.address.contains("://"),
        "its pictures, such as {first}, are read from a folder: add --set pictures=DIR"
    );
    let folders = albums(Path::new(&file.address));
    let inside =
        |name: &String| Path::new(name).components().all(|c| matches!(c, std::path::Component::Normal(_)));
    let there = |folder: &&PathBuf| names.iter().any(|name| inside(name) && folder.join(name).is_file());
    match folders.iter().find(there) {
        Some(folder) => Ok(found.with("pictures", folder.to_string_lossy())),
        None => {
            let places: Vec<_> = folders.iter().map(|folder| folder.display().to_string()).collect();
            bail!("its pictures, such as {first}, are not in {}: add --set pictures=DIR", places.join(", "))
        }
    }
}

/// The folder of the file, and those beside it that are named `images`, `pictures`, `imgs` or as the file.
fn albums(file: &Path) -> Vec<PathBuf> {
    let folder = file.parent().filter(|folder| !folder.as_os_str().is_empty()).unwrap_or(Path::new("."));
    let name = file.file_name().unwrap_or_default().to_string_lossy();
    let stem = name.split('.').next().unwrap_or_default();
    let beside = ALBUMS.into_iter().chain([stem]).map(|name| folder.join(name));
    std::iter::once(folder.to_owned()).chain(beside).collect()
}
