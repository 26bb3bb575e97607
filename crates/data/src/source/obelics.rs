//! OBELICS: Parquet with parallel lists of texts and pictures; at each place one of them is null.

use anyhow::{Context as _, Result, bail, ensure};
use parquet::record::Field;

use super::album::Album;
use super::files::{FileLayout, Format, ReadDocument};
use super::page::DocumentBuilder;
use super::parquet::{ENDINGS, kind, picture, row_id};
use super::table::ParquetColumns;
use crate::document::DocumentKind;
use crate::index::IndexEntry;
use crate::store::Blob;

/// Pages of texts and pictures in reading order.
pub struct Obelics {
    /// The columns of pictures and of texts.
    pub(crate) table: ParquetColumns,
    /// Where the pictures are that the cells name by a path.
    pub(crate) album: Album,
}

impl Format for Obelics {
    fn endings(&self) -> &'static [&'static str] {
        ENDINGS
    }

    fn layout(&self) -> FileLayout {
        self.table.layout()
    }

    fn memory(&self, documents: u64) -> u64 {
        self.table.memory(documents)
    }

    fn scan(&self, file: &Blob, add: &mut dyn FnMut(IndexEntry)) -> Result<()> {
        self.table.scan(file, add)
    }

    fn read(&self, file: &Blob, record: &IndexEntry, _: u64) -> Result<ReadDocument> {
        let id = row_id(record);
        let row = self.table.row(file, record)?;
        let [Field::ListInternal(images), Field::ListInternal(texts)] = &row[..] else {
            let kinds: Vec<_> = row.iter().map(kind).collect();
            bail!("{id}: two lists are wanted, pictures and texts, but these are {}", kinds.join(" and "))
        };
        let (images, texts) = (images.elements(), texts.elements());
        // Their places are the reading order, so lists of different lengths have none.
        ensure!(images.len() == texts.len(), "{id}: {} pictures beside {} texts", images.len(), texts.len());
        let mut page = DocumentBuilder::default();
        for (image, text) in images.iter().zip(texts) {
            if !matches!(image, Field::Null) {
                let found = picture(image).and_then(|cell| self.album.cell(&cell));
                page.found(found.with_context(|| id.clone())?);
            }
            match text {
                Field::Null => {}
                Field::Str(text) => page.joined("\n\n", text),
                other => bail!("{id}: a text is {}", kind(other)),
            }
        }
        page.end(id, DocumentKind::Interleaved)
    }
}
