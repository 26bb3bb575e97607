//! Our own shards: WebDataset archives of documents of every kind, as [`crate::shard`] writes them.

use anyhow::{Context as _, Result, ensure};

use super::files::{FileLayout, Format, ReadDocument};
use super::tar;
use crate::document::{Document, Image, Segment};
use crate::index::IndexEntry;
use crate::left_out::LeftOut;
use crate::shard::{self, StoredDocument, StoredSegment};
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
        let written: StoredDocument = serde_json::from_slice(json).with_context(|| format!("{key}.json"))?;
        let mut segments = Vec::new();
        for piece in written.segments {
            segments.push(match piece {
                StoredSegment::Text { text, learn } => Segment::Text { text, learn },
                StoredSegment::Token { token, learn } => Segment::Token { token, learn },
                StoredSegment::Image { image, name: source_name } => {
                    let name = image.strip_prefix(&format!("{key}.")).map(str::to_lowercase);
                    let taken = sample.take(|extension| name.as_deref() == Some(extension)).pop();
                    let (_, bytes) =
                        taken.with_context(|| format!("{key}.json: no picture {image:?} beside it"))?;
                    Segment::Image(Image::named(&source_name, bytes))
                }
            });
        }
        ensure!(!segments.is_empty(), "{key}.json: a document without segments");
        let document = Document { id: written.id, kind: written.kind, segments };
        Ok(ReadDocument { document, origin: written.origin, left_out: LeftOut::default() })
    }
}
