//! Our own shards: WebDataset archives of documents of every kind, as [`crate::shard`] writes them.

use anyhow::{Context as _, Result, bail, ensure};
use serde::de::DeserializeOwned;
use serde_json::{Map, Value};

use super::files::{FileLayout, Format, ReadDocument};
use super::messages::shown;
use super::{json, tar};
use crate::document::{Document, Image, Segment};
use crate::index::IndexEntry;
use crate::left_out::LeftOut;
use crate::shard::{self, Provenance};
use crate::store::Blob;

/// One `.json` a document, its pictures beside it.
pub struct Shard;

impl Format for Shard {
    fn endings(&self) -> &'static [&'static str] {
        &[".tar", ".tar.gz", ".tgz", ".tar.zst"]
    }

    fn layout(&self) -> FileLayout {
        FileLayout::Records("shard".to_owned())
    }

    fn scan(&self, file: &Blob, add: &mut dyn FnMut(IndexEntry)) -> Result<()> {
        tar::scan(file, shard::split_name, add)
    }

    fn left_out(&self, file: &Blob) -> Result<LeftOut> {
        tar::left_out(file)
    }

    fn read(&self, file: &Blob, record: &IndexEntry, _: u64) -> Result<ReadDocument> {
        let mut sample = tar::read(file, record)?;
        let key = sample.key.clone();
        let json =
            sample.member("json").with_context(|| format!("{key}: no .json; is this a shard of mm1?"))?;
        let place = format!("{key}.json");
        let value = json::parse(&place, json)?;
        let mut picture = |image: &str, name: &str| {
            let member = image.strip_prefix(&format!("{key}.")).map(str::to_lowercase);
            let taken = sample.take(|extension| member.as_deref() == Some(extension)).pop();
            let (_, bytes) = taken.with_context(|| format!("no picture {image:?} beside it"))?;
            Ok(Image::named(name, bytes))
        };
        let (document, origin) = document(&value, &mut picture).with_context(|| place.clone())?;
        // What is left beside the document itself.
        let others = (sample.names().count() as u64).saturating_sub(1);
        let left_out = LeftOut::of([("a member that the document does not name", others)]);
        Ok(ReadDocument { document, origin, left_out })
    }
}

/// Gives the picture of a file beside the document, and takes its name.
type Beside<'a> = dyn FnMut(&str, &str) -> Result<Image> + 'a;

// By hand and not by serde: what is refused is named by its field and value. Fields that other tools add are
// not read.
fn document(value: &Value, picture: &mut Beside<'_>) -> Result<(Document, Provenance)> {
    let fields = value.as_object().with_context(|| format!("it is {}, not a document", shown(value)))?;
    let segments = fields.get("segments").unwrap_or(&Value::Null);
    let segments =
        segments.as_array().with_context(|| format!("`segments` is {}, not a list", shown(segments)))?;
    ensure!(!segments.is_empty(), "a document without segments");
    let named = |(i, segment): (usize, &Value)| {
        let at = format!("segments[{i}]");
        let fields = segment.as_object();
        let fields = fields.with_context(|| format!("`{at}` is {}, not a segment", shown(segment)))?;
        self::segment(&at, fields, picture)
    };
    let segments = segments.iter().enumerate().map(named).collect::<Result<_>>()?;
    let id = text("id", fields)?.to_owned();
    let kinds = "captioned, synthetic, interleaved, text-only or conversation";
    let document = Document { id, kind: one_of("kind", fields, kinds)?, segments };
    let said = |field: &str| if fields.contains_key(field) { text(field, fields) } else { Ok("") };
    let [source, licence, attribution] =
        [said("source")?, said("licence")?, said("attribution")?].map(str::to_owned);
    Ok((document, Provenance { source, licence, attribution }))
}

fn segment(at: &str, fields: &Map<String, Value>, picture: &mut Beside<'_>) -> Result<Segment> {
    let kinds = ["text", "image", "token"].into_iter().filter(|kind| fields.contains_key(*kind));
    let learn = match fields.get("learn") {
        None => true,
        Some(learn) => {
            learn.as_bool().with_context(|| format!("`{at}.learn` is {}, not true or false", shown(learn)))?
        }
    };
    let read = match kinds.collect::<Vec<_>>()[..] {
        ["text"] => text("text", fields).map(|text| Segment::Text { text: text.to_owned(), learn }),
        ["image"] => {
            let name = if fields.contains_key("name") { text("name", fields) } else { Ok("") };
            name.and_then(|name| Ok(Segment::Image(picture(text("image", fields)?, name)?)))
        }
        ["token"] => {
            let tokens = "pad, end, image, user, assistant or system";
            one_of("token", fields, tokens).map(|token| Segment::Token { token, learn })
        }
        ref several => bail!(
            "`{at}` has {} of `text`, `image` and `token`, and must have one",
            if several.is_empty() { "none".to_owned() } else { several.join(" and ") }
        ),
    };
    read.with_context(|| at.to_owned())
}

fn text<'a>(field: &str, fields: &'a Map<String, Value>) -> Result<&'a str> {
    let value = fields.get(field).unwrap_or(&Value::Null);
    value.as_str().with_context(|| format!("`{field}` is {}, not a text", shown(value)))
}

/// A value out of a few names, which messages list.
fn one_of<T: DeserializeOwned>(field: &str, fields: &Map<String, Value>, names: &str) -> Result<T> {
    let value = fields.get(field).unwrap_or(&Value::Null);
    let known = serde_json::from_value(value.clone()).ok();
    known.with_context(|| format!("`{field}` is {}, not {names}", shown(value)))
}
