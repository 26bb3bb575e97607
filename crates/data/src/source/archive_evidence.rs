//! What an archive shows: the members of a spread of its samples.

use std::collections::BTreeSet;

use anyhow::{Context as _, Result, anyhow, bail};
use serde_json::Value;

use super::caption_text::{is_json, is_picture_name};
use super::evidence::{Evidence, SourceFields, spread};
use super::json::parse;
use super::tar::{self, TarSample};
use super::webdataset::{PICTURES, PICTURES_NOT_READ};
use crate::index::IndexEntry;
use crate::store::Blob;

/// Samples that are looked at.
const LOOKED_AT: usize = 16;
/// Where captions are looked for, the first that most samples have: a member, or a field of the JSON.
const CAPTIONS: [&str; 5] = ["txt", "caption", "text", "json.caption", "json.text"];

/// Of an archive: ours, where most of its samples have a document, or else a picture with a caption.
///
/// # Errors
/// A damaged archive; samples that are neither.
pub(crate) fn archive(file: &Blob, given: &SourceFields) -> Result<Evidence> {
    let mut records: Vec<IndexEntry> = Vec::new();
    let scanned = tar::scan(file, |key| key, &mut |record| records.push(record));
    if records.is_empty() {
        scanned?;
        bail!("an archive without samples");
    }
    let found = of_samples(file, given, &records);
    // Damage further on is reported when the archive is opened: what comes before it shows what it is.
    // Where that shows nothing, the damage is the cause.
    match (found, scanned) {
        (Err(_), Err(damage)) => Err(damage),
        (found, _) => found,
    }
}

fn of_samples(file: &Blob, given: &SourceFields, records: &[IndexEntry]) -> Result<Evidence> {
    let read: Vec<Result<TarSample>> = spread(records, LOOKED_AT).map(|r| tar::read(file, r)).collect();
    let samples: Vec<&TarSample> = read.iter().flatten().collect();
    if samples.is_empty() {
        return read.into_iter().next().context("an archive without samples")?.and(Err(anyhow!("no sample")));
    }
    let ours = samples.iter().filter(|sample| is_ours(sample)).count();
    if 2 * ours > samples.len() {
        return Ok(Evidence::of("shards"));
    }
    let pictured: Vec<&TarSample> = samples.iter().copied().filter(|sample| has_picture(sample)).collect();
    if pictured.is_empty() {
        bail!("{}", without_pictures(&samples));
    }
    if given.contains_key("caption") {
        return Ok(Evidence::of("webdataset"));
    }
    match caption(&pictured) {
        Some(caption) => Ok(Evidence::of("webdataset").with("caption", caption)),
        None => bail!(
            "no member of its samples is known as a caption (they have {}): add --set caption=MEMBER, such \
             as json.FIELD",
            extensions(&pictured)
        ),
    }
}

fn is_ours(sample: &TarSample) -> bool {
    let json = json(sample);
    json.get("segments").is_some() && json.get("kind").is_some()
}

fn json(sample: &TarSample) -> Value {
    sample.member("json").and_then(|bytes| parse(".json", bytes).ok()).unwrap_or_default()
}

fn has_picture(sample: &TarSample) -> bool {
    sample.names().any(|name| PICTURES.contains(&name))
}

/// The place that gives most of the samples a caption; of equals the first.
fn caption(samples: &[&TarSample]) -> Option<&'static str> {
    let count = |place: &str| samples.iter().filter(|sample| says(sample, place)).count();
    let counts = CAPTIONS.map(count);
    let most = counts.iter().copied().max().filter(|&most| most > 0)?;
    counts.iter().position(|&count| count == most).map(|at| CAPTIONS[at])
}

/// Whether a sample has a text at a place that may be a caption.
fn says(sample: &TarSample, place: &str) -> bool {
    let text = match place.strip_prefix("json.") {
        Some(field) => json(sample).get(field).and_then(Value::as_str).map(str::to_owned),
        None => sample.member(place).map(|bytes| String::from_utf8_lossy(bytes).into_owned()),
    };
    text.is_some_and(|text| !is_json(text.trim()) && !is_picture_name(text.trim()))
}

fn without_pictures(samples: &[&TarSample]) -> String {
    let names: BTreeSet<&str> = samples.iter().flat_map(|sample| sample.names()).collect();
    if let Some(name) = names.iter().find(|name| PICTURES_NOT_READ.contains(name)) {
        return format!(
            "its pictures are .{name}, a format that is not read: write JPEG, PNG or WebP into the archive"
        );
    }
    format!(
        "its samples have no picture ({}) and no document of ours, but {}; --kind fits: shards, webdataset",
        PICTURES.join(", "),
        extensions(samples)
    )
}

/// All extensions, for messages.
fn extensions(samples: &[&TarSample]) -> String {
    let names: BTreeSet<&str> = samples.iter().flat_map(|sample| sample.names()).collect();
    names.into_iter().map(|name| format!(".{name}")).collect::<Vec<_>>().join(", ")
}
