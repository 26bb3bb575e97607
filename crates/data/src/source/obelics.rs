//! OBELICS: Parquet with parallel lists of texts and pictures; at each place one of them is null.

use anyhow::{Context as _, Result, bail, ensure};
use parquet::record::Field;

use super::album::Album;
use super::files::ReadDocument;
use super::page::DocumentBuilder;
use super::parquet::{RowFormat, kind, picture};
use crate::document::DocumentKind;

/// Pages of texts and pictures in reading order.
pub(crate) struct Obelics {
    /// Where the pictures are that the cells name by a path.
    pub(crate) album: Album,
}

impl RowFormat for Obelics {
    fn document(&self, row: &[Field], id: String, _: u64) -> Result<ReadDocument> {
        let [Field::ListInternal(images), Field::ListInternal(texts)] = row else {
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
