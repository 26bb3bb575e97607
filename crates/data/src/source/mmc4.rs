//! MMC4: JSON lines of sentences, and pictures that each belong to one of them.

use anyhow::{Result, bail};
use serde::Deserialize;

use super::album::Album;
use super::files::{FileLayout, Format, ReadDocument};
use super::json;
use super::page::DocumentBuilder;
use crate::document::DocumentKind;
use crate::index::IndexEntry;
use crate::store::Blob;

/// Documents of MMC4; a picture stands before its sentence.
pub struct Mmc4 {
    pub(crate) album: Album,
}

/// A line. Other fields are not read.
#[derive(Deserialize)]
struct Mmc4Document {
    text_list: Vec<String>,
    image_info: Vec<Mmc4Picture>,
}

#[derive(Deserialize)]
struct Mmc4Picture {
    image_name: String,
    matched_text_index: usize,
}

impl Format for Mmc4 {
    fn endings(&self) -> &'static [&'static str] {
        json::ENDINGS
    }

    fn layout(&self) -> FileLayout {
        FileLayout::Records("json".to_owned())
    }

    fn scan(&self, file: &Blob, add: &mut dyn FnMut(IndexEntry)) -> Result<()> {
        json::scan(file, add)
    }

    fn read(&self, file: &Blob, record: &IndexEntry, _: u64) -> Result<ReadDocument> {
        let Mmc4Document { text_list, mut image_info } = json::read(file, record)?;
        let id = record.at.to_string();
        // Stable: pictures of one sentence stay in the order of the file.
        image_info.sort_by_key(|info| info.matched_text_index);
        let mut pictures = image_info.into_iter().peekable();
        let mut page = DocumentBuilder::default();
        for (i, sentence) in text_list.iter().enumerate() {
            while let Some(info) = pictures.next_if(|info| info.matched_text_index == i) {
                page.found(self.album.picture(&info.image_name)?);
            }
            page.joined(" ", sentence.trim());
        }
        if let Some(Mmc4Picture { image_name, matched_text_index }) = pictures.next() {
            bail!("{id}: {image_name} belongs to sentence {matched_text_index} of {}", text_list.len());
        }
        page.end(id, DocumentKind::Interleaved)
    }
}
