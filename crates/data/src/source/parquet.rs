//! Parquet: captioned pictures as Hugging Face's `datasets` writes them, and text.

use anyhow::{Context as _, Result, bail, ensure};
use base64::Engine as _;
use base64::prelude::BASE64_STANDARD;
use parquet::record::Field;
use serde_json::Value;

use super::album::PictureCell;
use super::files::{FileLayout, Format, ReadDocument};
use super::page::DocumentBuilder;
use super::table::ParquetColumns;
use super::text;
use crate::document::{DocumentKind, Image};
use crate::index::IndexEntry;
use crate::store::Blob;

/// Endings of Parquet files.
pub(crate) const ENDINGS: &[&str] = &[".parquet"];

/// What a row is, of which some columns are read.
pub(crate) trait RowFormat: Send + Sync {
    /// The document of `row`, the columns in the order in which they were named; `id` is `GROUP/ROW`. `visit`
    /// is as in [`Format::read`].
    ///
    /// # Errors
    /// One line that begins with `id`: a cell that is missing, or of a type that is not read.
    fn document(&self, row: &[Field], id: String, visit: u64) -> Result<ReadDocument>;
}

/// Parquet files, of which each row is a document.
pub(crate) struct ParquetRows<F> {
    pub(crate) columns: ParquetColumns,
    pub(crate) format: F,
}

impl<F: RowFormat> Format for ParquetRows<F> {
    fn endings(&self) -> &'static [&'static str] {
        ENDINGS
    }

    fn layout(&self) -> FileLayout {
        self.columns.layout()
    }

    fn memory(&self, documents: u64) -> u64 {
        self.columns.memory(documents)
    }

    fn scan(&self, file: &Blob, add: &mut dyn FnMut(IndexEntry)) -> Result<()> {
        self.columns.scan(file, add)
    }

    fn read(&self, file: &Blob, record: &IndexEntry, visit: u64) -> Result<ReadDocument> {
        self.format.document(&self.columns.row(file, record)?, row_id(record), visit)
    }
}

/// Pictures with captions: a column of pictures (a struct of `bytes` and `path`, or bytes) and one of
/// texts. Of a list of pictures all stand before the text; of a list of captions each visit shows one.
pub(crate) struct ParquetCaptioned;

impl RowFormat for ParquetCaptioned {
    fn document(&self, row: &[Field], id: String, visit: u64) -> Result<ReadDocument> {
        let [image, text] = row else { bail!("{id}: two columns were asked for") };
        let caption = caption(text, visit).with_context(|| id.clone())?;
        let mut page = DocumentBuilder::default();
        let cells = match image {
            Field::ListInternal(list) => list.elements(),
            one => std::slice::from_ref(one),
        };
        for cell in cells {
            if matches!((image, cell), (Field::ListInternal(_), Field::Null)) {
                page.found(None);
                continue;
            }
            let PictureCell { bytes, path } = picture(cell).with_context(|| id.clone())?;
            let bytes = bytes.with_context(|| format!("{id}: the picture has no bytes, only a path"))?;
            page.picture(Image::named(&path.unwrap_or_default(), bytes));
        }
        ensure!(page.pictures(), "{id}: no picture");
        page.text(caption.trim());
        let kind = if cells.len() == 1 { DocumentKind::Captioned } else { DocumentKind::Interleaved };
        let mut read = page.end(id, kind)?;
        read.left_out.add(OTHER_CAPTIONS, captions(text).len().saturating_sub(1) as u64);
        Ok(read)
    }
}

/// Captions of a picture beside the one that a visit shows.
const OTHER_CAPTIONS: &str = "a caption beside the one that is drawn at each visit";

/// The captions of a cell that are not empty.
fn captions(field: &Field) -> Vec<&str> {
    let cells = match field {
        Field::ListInternal(list) => list.elements(),
        one => std::slice::from_ref(one),
    };
    let texts = cells.iter().filter_map(|cell| match cell {
        Field::Str(text) => Some(text.as_str()),
        _ => None,
    });
    texts.filter(|text| !text.trim().is_empty()).collect()
}

/// The caption of a cell at a visit.
fn caption(field: &Field, visit: u64) -> Result<&str> {
    let texts = captions(field);
    match (&texts[..], field) {
        ([], Field::Str(_)) => bail!("the caption is empty"),
        ([], Field::ListInternal(_)) => bail!("no caption in its list"),
        ([], other) => bail!("the caption is {}, not text", kind(other)),
        (several, _) => Ok(several[(visit % several.len() as u64) as usize]),
    }
}

/// Documents without pictures: a column of texts.
pub(crate) struct ParquetText;

impl RowFormat for ParquetText {
    fn document(&self, row: &[Field], id: String, _: u64) -> Result<ReadDocument> {
        match row {
            [Field::Str(text)] => text::document(id, text),
            [other] => bail!("{id}: the text is {}", kind(other)),
            _ => bail!("{id}: one column was asked for"),
        }
    }
}

/// `GROUP/ROW`, both from 0.
pub(crate) fn row_id(record: &IndexEntry) -> String {
    format!("{}/{}", record.group.saturating_sub(1), record.at)
}

/// The picture of a cell.
///
/// # Errors
/// A cell that is neither bytes, nor a path, nor a struct of them.
pub(crate) fn picture(field: &Field) -> Result<PictureCell> {
    let mut cell = PictureCell { bytes: None, path: None };
    match field {
        Field::Bytes(bytes) => cell.bytes = Some(bytes.data().to_vec()),
        Field::Str(path) => cell.path = Some(path.clone()),
        Field::Group(row) => {
            for (name, field) in row.get_column_iter() {
                match (name.as_str(), field) {
                    ("bytes", Field::Bytes(bytes)) => cell.bytes = Some(bytes.data().to_vec()),
                    ("path", Field::Str(path)) => cell.path = Some(path.clone()),
                    _ => {}
                }
            }
        }
        other => bail!("the picture is {}, not bytes, a path or a struct of them", kind(other)),
    }
    if cell.bytes.is_none() && cell.path.is_none() {
        bail!("the picture has neither bytes nor a path");
    }
    Ok(cell)
}

pub(crate) fn kind(field: &Field) -> &'static str {
    match field {
        Field::Null => "missing",
        Field::Str(_) => "text",
        Field::Bytes(_) => "bytes",
        Field::Group(_) => "a struct",
        Field::ListInternal(_) => "a list",
        _ => "a number",
    }
}

/// A cell as JSON; bytes in Base64.
///
/// # Errors
/// A cell that JSON has no form for.
pub(super) fn json(field: &Field) -> Result<Value> {
    Ok(match field {
        Field::Null => Value::Null,
        Field::Bool(value) => (*value).into(),
        Field::Byte(number) => (*number).into(),
        Field::Short(number) => (*number).into(),
        Field::Int(number) => (*number).into(),
        Field::Long(number) => (*number).into(),
        Field::UByte(number) => (*number).into(),
        Field::UShort(number) => (*number).into(),
        Field::UInt(number) => (*number).into(),
        Field::ULong(number) => (*number).into(),
        Field::Float(number) => (*number).into(),
        Field::Double(number) => (*number).into(),
        Field::Str(text) => text.as_str().into(),
        Field::Bytes(bytes) => BASE64_STANDARD.encode(bytes.data()).into(),
        Field::ListInternal(list) => list.elements().iter().map(json).collect::<Result<_>>()?,
        Field::Group(row) => {
            let named = row.get_column_iter().map(|(name, field)| Ok((name.clone(), json(field)?)));
            Value::Object(named.collect::<Result<_>>()?)
        }
        other => bail!("a cell is {}, which JSON has no form for", kind(other)),
    })
}
