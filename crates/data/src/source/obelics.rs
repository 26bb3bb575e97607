//! OBELICS: Parquet with parallel lists of texts and pictures; at each place one of them is null.

use anyhow::{Context as _, Result, bail, ensure};
use parquet::record::Field;

use super::album::Album;
use super::files::{Format, Layout};
use super::page::Page;
use super::parquet::{ENDINGS, kind, picture, row_id};
use super::table::Table;
use crate::document::{Document, Image, Kind};
use crate::index::Record;
use crate::memory::Held;
use crate::store::Blob;

/// Pages of texts and pictures in reading order.
pub struct Obelics {
    /// The columns of pictures and of texts.
    pub(crate) table: Table,
    /// Where the pictures are that the cells name by a path.
    pub(crate) album: Album,
}

impl Format for Obelics {
    fn endings(&self) -> &'static [&'static str] {
        ENDINGS
    }

    fn layout(&self) -> Layout {
        self.table.layout()
    }

    fn memory(&self, documents: u64) -> Held {
        self.table.memory(documents)
    }

    fn scan(&self, file: &Blob, add: &mut dyn FnMut(Record)) -> Result<()> {
        self.table.scan(file, add)
    }

    fn read(&self, file: &Blob, record: &Record) -> Result<Document> {
        let id = row_id(record);
        let row = self.table.row(file, record)?;
        let [Field::ListInternal(images), Field::ListInternal(texts)] = &row[..] else {
            let kinds: Vec<_> = row.iter().map(kind).collect();
            bail!("{id}: two lists are wanted, pictures and texts, but these are {}", kinds.join(" and "))
        };
        let (images, texts) = (images.elements(), texts.elements());
        ensure!(images.len() == texts.len(), "{id}: {} pictures beside {} texts", images.len(), texts.len());
        let mut page = Page::default();
        for (image, text) in images.iter().zip(texts) {
            if !matches!(image, Field::Null) {
                let picture = self.picture(image).with_context(|| id.clone())?;
                picture.into_iter().for_each(|picture| page.picture(picture));
            }
            match text {
                Field::Null => {}
                Field::Str(text) => page.joined("\n\n", text),
                other => bail!("{id}: a text is {}", kind(other)),
            }
        }
        page.end(id, Kind::Interleaved)
    }
}

impl Obelics {
    fn picture(&self, field: &Field) -> Result<Option<Image>> {
        let cell = picture(field)?;
        match (cell.bytes, cell.path) {
            (Some(bytes), path) => Ok(Some(Image::named(&path.unwrap_or_default(), bytes))),
            (None, Some(path)) => self.album.picture(&path),
            (None, None) => Ok(None),
        }
    }
}
