//! What a file of JSON shows: the fields of a spread of its values, and what they hold.

use std::collections::BTreeMap;

use anyhow::{Context as _, Result, bail, ensure};
use serde_json::Value;

use super::caption_list::{caption_of, check_captions, path_of};
use super::caption_text::not_captions;
use super::evidence::{Evidence, SourceFields, folder_of, is_path, is_there, spread, with_album};
use super::json;
use super::messages::{self, TURNS, are_turns};
use crate::index::IndexEntry;
use crate::store::Blob;

/// Values that are looked at.
const LOOKED_AT: usize = 32;

/// Of the fields of most of the values that are looked at; the others are damaged documents, told when they
/// are read.
///
/// # Errors
/// What is not JSON; fields of no kind, or of several.
pub(crate) fn values(file: &Blob, given: &SourceFields) -> Result<Evidence> {
    let values = looked_at(file)?;
    let mut kinds: BTreeMap<Vec<&str>, Vec<&Value>> = BTreeMap::new();
    for value in &values {
        kinds.entry(fitting(value)).or_default().push(value);
    }
    let most = kinds.iter().max_by_key(|(_, of_kind)| of_kind.len());
    let (kind, of_kind) = most.context("no value")?;
    ensure!(
        2 * of_kind.len() > values.len(),
        "its values are of several kinds ({}): write a file for each, or say --kind",
        counts(&kinds)
    );
    match kind[..] {
        ["folder"] => folder(file, of_kind),
        ["json-text"] if given.contains_key("text") => Ok(Evidence::of("json-text")),
        ["json-text"] => text(of_kind),
        [kind @ ("mmc4" | "conversations")] => {
            let known = if kind == "mmc4" { "mmc4" } else { "conversations" };
            with_album(Evidence::of(known), &file.address, &names(of_kind), given)
        }
        [] if given.contains_key("text") => Ok(Evidence::of("json-text")),
        [] => bail!("{}", unknown(of_kind[0])),
        _ => bail!("its values have fields of several kinds; --kind fits: {}", kind.join(", ")),
    }
}

/// Whether a file of JSON holds data of any kind.
pub(crate) fn is_data(file: &Blob) -> bool {
    looked_at(file).is_ok_and(|values| values.iter().any(|value| !fitting(value).is_empty()))
}

/// A spread of the values that can be read.
fn looked_at(file: &Blob) -> Result<Vec<Value>> {
    let mut records: Vec<IndexEntry> = Vec::new();
    // A file that ends too early is reported when it is opened: what comes before shows what it is.
    let scanned = json::scan(file, &mut |record| records.push(record));
    if records.is_empty() {
        scanned?;
        bail!("no value in its {} bytes", file.size);
    }
    let read: Vec<Result<Value>> =
        spread(&records, LOOKED_AT).map(|record| json::read(file, record)).collect();
    if read.iter().all(Result::is_err) {
        read.into_iter().next().context("no value")?.map(|value| vec![value])
    } else {
        Ok(read.into_iter().flatten().collect())
    }
}

/// The kinds that a value may be of.
fn fitting(value: &Value) -> Vec<&'static str> {
    let has = |fields: &[&str]| fields.iter().all(|field| value.get(field).is_some_and(Value::is_array));
    let turns = TURNS.iter().any(|field| value.get(field).is_some_and(may_be_turns));
    let listed = path_of(value).is_some() && caption_of(value).is_ok();
    let kinds = [
        (has(&["text_list", "image_info"]), "mmc4"),
        (turns, "conversations"),
        (listed && !turns, "folder"),
        // A text beside the name of a picture is its caption.
        (value.get("text").is_some_and(Value::is_string) && !listed, "json-text"),
    ];
    kinds.into_iter().filter_map(|(fits, kind)| fits.then_some(kind)).collect()
}

/// Whether a value is a list of turns, or of nothing.
fn may_be_turns(value: &Value) -> bool {
    value.as_array().is_some_and(Vec::is_empty) || are_turns(value)
}

fn counts(kinds: &BTreeMap<Vec<&str>, Vec<&Value>>) -> String {
    let name =
        |kind: &[&str]| if kind.is_empty() { "none that is known".to_owned() } else { kind.join(" or ") };
    kinds
        .iter()
        .map(|(kind, values)| format!("{} {}", values.len(), name(kind)))
        .collect::<Vec<_>>()
        .join(", ")
}

/// A list of captions, whose pictures are in its folder.
fn folder(file: &Blob, values: &[&Value]) -> Result<Evidence> {
    let names: Vec<String> = values.iter().filter_map(|value| path_of(value)).map(str::to_owned).collect();
    let folder = folder_of(std::path::Path::new(&file.address));
    ensure!(
        is_there(folder, &names),
        "its pictures, such as {}, are not in {}: put the list into the folder from which its paths begin",
        names.first().map_or("", String::as_str),
        folder.display()
    );
    let captions: Vec<String> = values.iter().filter_map(|value| caption_of(value).ok()).flatten().collect();
    check_captions(&captions.iter().map(String::as_str).collect::<Vec<_>>())?;
    Ok(Evidence::of("folder"))
}

fn text(values: &[&Value]) -> Result<Evidence> {
    let texts: Vec<&str> = values.iter().filter_map(|value| value.get("text")?.as_str()).collect();
    // What is never a caption is no text to learn either.
    match not_captions(&texts).filter(|told| *told != "empty") {
        Some(told) => bail!(
            "its field `text` holds {told}, not text: add --set text=FIELD, or --set text=text to learn it \
             all the same"
        ),
        None => Ok(Evidence::of("json-text")),
    }
}

fn unknown(value: &Value) -> String {
    let fields = value.as_object().into_iter().flatten().filter(|(_, value)| value.is_string());
    let fields: Vec<&str> = fields.map(|(field, _)| field.as_str()).collect();
    format!(
        "its values have neither `text`, turns in `messages` or `conversations`, `text_list` with \
         `image_info`, nor the path of a picture with its caption; --kind fits: json-text with --set \
         text=FIELD (texts are in: {}), conversations, mmc4",
        if fields.is_empty() { "none".to_owned() } else { fields.join(", ") }
    )
}

/// The paths of pictures in values of MMC4 or conversations; addresses are left out.
fn names(values: &[&Value]) -> Vec<String> {
    let mut names = Vec::new();
    for value in values {
        let pictures = value.get("image_info").and_then(Value::as_array).into_iter().flatten();
        names.extend(pictures.filter_map(|info| info.get("image_name")?.as_str()).map(str::to_owned));
        // A record that is not understood is reported when it is read.
        if let Ok(talk) = messages::talk(value) {
            names.extend(talk.paths().map(str::to_owned));
        }
    }
    names.retain(|name| is_path(name));
    names
}
