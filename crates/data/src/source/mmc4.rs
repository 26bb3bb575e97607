//! MMC4: JSON lines of sentences, and pictures that each belong to one of them.

use anyhow::{Context as _, Result, bail};
use serde_json::Value;

use super::album::Album;
use super::files::ReadDocument;
use super::json::JsonFormat;
use super::messages::shown;
use super::page::DocumentBuilder;
use crate::document::DocumentKind;

/// Documents of MMC4; a picture stands before its sentence.
pub struct Mmc4 {
    pub(crate) album: Album,
}

/// A picture of a line. Its other fields are not read.
struct Mmc4Picture<'a> {
    /// Its file.
    name: &'a str,
    /// The number of its sentence.
    sentence: usize,
}

impl JsonFormat for Mmc4 {
    fn document(&self, value: &Value, id: String) -> Result<ReadDocument> {
        let (sentences, mut pictures) = (sentences(value)?, pictures(value)?);
        // Stable: pictures of one sentence stay in the order of the file.
        pictures.sort_by_key(|picture| picture.sentence);
        let mut pictures = pictures.into_iter().peekable();
        let mut page = DocumentBuilder::default();
        for (i, sentence) in sentences.iter().enumerate() {
            while let Some(Mmc4Picture { name, .. }) = pictures.next_if(|picture| picture.sentence == i) {
                page.found(self.album.picture(name)?);
            }
            page.joined(" ", sentence.trim());
        }
        if let Some(Mmc4Picture { name, sentence }) = pictures.next() {
            bail!("{id}: {name} belongs to sentence {sentence} of {}", sentences.len());
        }
        page.end(id, DocumentKind::Interleaved)
    }
}

fn list<'a>(value: &'a Value, field: &str) -> Result<&'a Vec<Value>> {
    let there = value.get(field).unwrap_or(&Value::Null);
    there.as_array().with_context(|| format!("`{field}` is {}, not a list", shown(there)))
}

fn sentences(value: &Value) -> Result<Vec<&str>> {
    let numbered = list(value, "text_list")?.iter().enumerate();
    numbered
        .map(|(i, sentence)| {
            sentence.as_str().with_context(|| format!("`text_list[{i}]` is {}, not a text", shown(sentence)))
        })
        .collect()
}

fn pictures(value: &Value) -> Result<Vec<Mmc4Picture<'_>>> {
    list(value, "image_info")?.iter().enumerate().map(|(i, info)| picture(i, info)).collect()
}

fn picture(number: usize, info: &Value) -> Result<Mmc4Picture<'_>> {
    let field = |name: &str| info.get(name).unwrap_or(&Value::Null);
    let wrong = |name: &str, wanted: &str| {
        format!("`image_info[{number}].{name}` is {}, not {wanted}", shown(field(name)))
    };
    let name = info.get("image_name").and_then(Value::as_str);
    let name = name.with_context(|| wrong("image_name", "the name of a file"))?;
    let sentence = field("matched_text_index").as_u64();
    let sentence = sentence.with_context(|| wrong("matched_text_index", "the number of a sentence"))?;
    Ok(Mmc4Picture { name, sentence: usize::try_from(sentence)? })
}
