//! [`read`]: a list of captions, each with the path of its picture, in JSON lines, a JSON array, CSV or
//! Parquet, as in the ImageFolder layout of Hugging Face's `datasets`.

use std::collections::{BTreeMap, BTreeSet};
use std::path::{Component, Path};

use anyhow::{Context as _, Result, anyhow, bail, ensure};
use serde_json::{Map, Value};

use super::caption_text::{is_picture_name, not_captions};
use super::evidence::spread;
use super::parquet::json;
use super::table::{self, DEFAULT_MEMORY_MIB, ParquetColumns};
use crate::error_line::error_line;
use crate::store::{Blob, file_name};
use crate::text_file::{self, without_mark};

/// Lists that are looked for in a folder.
pub(super) const LISTS: [&str; 6] =
    ["captions.jsonl", "captions.csv", "captions.txt", "metadata.jsonl", "metadata.csv", "metadata.parquet"];
/// What stands between the columns of a table in text, by its first line.
const DELIMITERS: [char; 3] = [',', '\t', ';'];
/// Captions of a list that are looked at.
const LOOKED_AT: usize = 64;
/// Fields of the path of a picture.
pub(super) const PATHS: [&str; 7] =
    ["path", "file_name", "filename", "image", "file", "image_path", "image_file"];
/// Fields of a caption, or of a list of captions.
pub(super) const CAPTIONS: [&str; 7] =
    ["caption", "text", "captions", "alt_text", "description", "sentence", "sentences"];

/// What is said of a picture: its captions, at least one, or why there is none.
pub(super) type ListedCaptions = Result<Vec<String>, String>;

/// The captions by path. A line that can't be used stands under its place in the list.
///
/// # Errors
/// A list that can't be read or has no line that can be used; a path that leaves the list's folder.
pub(super) fn read(list: &Path) -> Result<BTreeMap<String, ListedCaptions>> {
    let name = list.file_name().unwrap_or_default().to_string_lossy().into_owned();
    let mut captions: BTreeMap<String, ListedCaptions> = BTreeMap::new();
    for (line, row) in rows(list).with_context(|| list.display().to_string())? {
        let place = format!("{name} line {line}");
        match row.and_then(|row| parse(&row)) {
            Ok((path, mut more)) => {
                // Hostile and not damaged: nothing of such a list is read.
                let path = inside(&path).with_context(|| format!("{} line {line}", list.display()))?;
                match captions.entry(path).or_insert_with(|| Ok(Vec::new())) {
                    Ok(known) => known.append(&mut more),
                    damaged => *damaged = Ok(more),
                }
            }
            Err(error) => drop(captions.insert(place, Err(error_line(&error)))),
        }
    }
    ensure!(!captions.is_empty(), "{} has no line", list.display());
    if captions.values().all(Result::is_err)
        && let Some((place, Err(reason))) = captions.first_key_value()
    {
        bail!("{}: {reason}", list.with_file_name(place).display());
    }
    Ok(captions)
}

/// The pictures that a list names.
///
/// # Errors
/// As [`read`].
pub(super) fn listed(list: &Path) -> Result<BTreeSet<String>> {
    Ok(read(list)?.into_iter().filter(|(_, captions)| captions.is_ok()).map(|(path, _)| path).collect())
}

/// Whether a file has the name of a list of its folder; a text has to begin as one too.
pub(super) fn is_list_by_name(file: &Blob) -> bool {
    let name = file_name(&file.address).to_lowercase();
    LISTS.contains(&name.as_str()) && (!name.ends_with(".txt") || is_list(file))
}

/// Whether a file of CSV begins with the names of a path and a caption.
pub(super) fn is_list(file: &Blob) -> bool {
    let start = file.read(0, file.size.min(1 << 16)).unwrap_or_default();
    delimiter(&String::from_utf8_lossy(without_mark(&start))).is_some()
}

/// What stands between the columns, where the first line names a path and a caption.
fn delimiter(text: &str) -> Option<char> {
    let line = text.lines().next().unwrap_or_default().to_lowercase();
    DELIMITERS.into_iter().find(|delimiter| {
        let has = |known: &[&str]| {
            line.split(*delimiter).any(|name| known.contains(&name.trim().trim_matches('"')))
        };
        has(&PATHS) && has(&CAPTIONS)
    })
}

/// Whether the texts of a list may be captions.
///
/// # Errors
/// What they are instead.
pub(super) fn check_captions(texts: &[&str]) -> Result<()> {
    match not_captions(texts) {
        Some(told) => {
            bail!("its captions are none, but {told}: say --kind folder to learn them all the same")
        }
        None => Ok(()),
    }
}

/// Whether a spread of the captions of a list in CSV may be captions.
///
/// # Errors
/// As [`read`] and [`check_captions`].
pub(super) fn check_list(list: &Path) -> Result<()> {
    let all = read(list)?;
    let texts: Vec<&str> = all.values().flatten().flatten().map(String::as_str).collect();
    check_captions(&spread(&texts, LOOKED_AT).copied().collect::<Vec<_>>())
}

/// The path of a picture in a record.
pub(super) fn path_of(record: &Value) -> Option<&str> {
    PATHS.iter().filter_map(|field| record.get(*field)?.as_str()).find(|path| is_picture_name(path))
}

/// The captions of a record.
///
/// # Errors
/// None, or several fields that differ.
pub(super) fn caption_of(record: &Value) -> Result<Vec<String>> {
    let texts = |value: &Value| match value {
        Value::String(text) => Some(vec![text.clone()]),
        Value::Array(list) if !list.is_empty() => {
            list.iter().map(|text| text.as_str().map(str::to_owned)).collect()
        }
        _ => None,
    };
    let found = CAPTIONS.iter().filter_map(|field| Some((*field, texts(record.get(*field)?)?)));
    let mut found: Vec<(&str, Vec<String>)> = found.collect();
    found.dedup_by(|one, other| one.1 == other.1);
    match found.as_mut_slice() {
        [(_, captions)] => Ok(std::mem::take(captions)),
        [] => bail!("no caption: `caption` or `text` is a text or a list of them"),
        several => {
            let fields: Vec<&str> = several.iter().map(|(field, _)| *field).collect();
            bail!("captions in several fields: {}", fields.join(", "))
        }
    }
}

fn parse(record: &Value) -> Result<(String, Vec<String>)> {
    ensure!(record.is_object(), "not an object with the path of a picture and a caption");
    let path = path_of(record).or_else(|| PATHS.iter().find_map(|field| record.get(*field)?.as_str()));
    let path = path.context("no path of a picture: `path` or `file_name` is one")?.to_owned();
    let captions = caption_of(record)?;
    let trimmed = captions.iter().map(|caption| caption.trim().to_owned()).filter(|text| !text.is_empty());
    let captions: Vec<String> = trimmed.collect();
    ensure!(!captions.is_empty(), "the caption of {path} is empty");
    Ok((path, captions))
}

/// The path below the folder, with `/`.
fn inside(path: &str) -> Result<String> {
    let part = |part| match part {
        Component::Normal(name) => name.to_str().map(Some),
        Component::CurDir => Some(None),
        _ => None,
    };
    let parts: Option<Vec<_>> = Path::new(path).components().map(part).collect();
    let name = parts.unwrap_or_default().into_iter().flatten().collect::<Vec<_>>().join("/");
    ensure!(!name.is_empty(), "path {path:?} must name a file inside the folder");
    Ok(name)
}

/// The rows of a list with the lines where they stand, from 1.
fn rows(list: &Path) -> Result<Vec<(usize, Result<Value>)>> {
    let ending = list.extension().unwrap_or_default().to_string_lossy().to_lowercase();
    match ending.as_str() {
        "csv" | "tsv" | "txt" => csv_rows(list),
        "parquet" => parquet_rows(list),
        _ => {
            let text = text_file::read(list)?;
            let array = serde_json::from_str::<Vec<Value>>(&text).ok().filter(|all| !all.is_empty());
            if let Some(all) = array {
                return Ok(all.into_iter().enumerate().map(|(i, row)| (i + 1, Ok(row))).collect());
            }
            let lines = text.lines().enumerate().filter(|(_, line)| !line.trim().is_empty());
            let parse = |line: &str| {
                serde_json::from_str(line).context("not an object with the path of a picture and a caption")
            };
            Ok(lines.map(|(i, line)| (i + 1, parse(line))).collect())
        }
    }
}

fn csv_rows(list: &Path) -> Result<Vec<(usize, Result<Value>)>> {
    let text = text_file::read(list)?;
    let delimiter =
        delimiter(&text).context("its first line does not name the columns of a path and a caption")?;
    let mut reader = csv::ReaderBuilder::new().delimiter(delimiter as u8).from_reader(text.as_bytes());
    let names = reader.headers().context("its first line is not the names of columns")?.clone();
    let row = |record: csv::StringRecord| {
        let fields = names.iter().zip(&record);
        Value::Object(fields.map(|(name, value)| (name.trim().to_owned(), value.into())).collect())
    };
    let rows = reader.records().enumerate().map(|(number, record)| {
        let line = match &record {
            Ok(record) => record.position().map_or(number + 2, |at| at.line() as usize),
            Err(error) => error.position().map_or(number + 2, |at| at.line() as usize),
        };
        let fields = || anyhow!("a row that has more or fewer fields than the first line");
        (line, record.map(row).map_err(|_| fields()))
    });
    Ok(rows.collect())
}

/// The rows of the columns that may be paths and captions.
fn parquet_rows(list: &Path) -> Result<Vec<(usize, Result<Value>)>> {
    let blob = Blob::open(list, list.display().to_string())?;
    let columns = table::columns(&blob)?;
    let wanted = |name: &str| PATHS.contains(&name) || CAPTIONS.contains(&name);
    let names: Vec<&str> =
        columns.iter().map(|(name, _)| name.as_str()).filter(|name| wanted(name)).collect();
    let table = ParquetColumns::new(&names, DEFAULT_MEMORY_MIB)?;
    let mut records = Vec::new();
    table.scan(&blob, &mut |record| records.push(record))?;
    let row = |record| {
        let fields = table.row(&blob, record)?;
        let named = names.iter().zip(&fields).map(|(name, field)| Ok(((*name).to_owned(), json(field)?)));
        Ok(Value::Object(named.collect::<Result<Map<_, _>>>()?))
    };
    Ok(records.iter().enumerate().map(|(i, record)| (i + 1, row(record))).collect())
}
