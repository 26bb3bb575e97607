//! Text without pictures: plain files and JSON lines. (Parquet: see `parquet`.)

use std::io::{BufRead as _, BufReader, Read as _};

use anyhow::{Context as _, Result, bail, ensure};
use schemars::JsonSchema;
use serde::{Deserialize, Serialize};
use serde_json::Value;
use xxhash_rust::xxh3::Xxh3Default;

use super::files::{FileLayout, Format, ReadDocument, bytes};
use super::json::JsonFormat;
use super::page::DocumentBuilder;
use crate::document::DocumentKind;
use crate::index::{IndexEntry, MAX_DOCUMENT};
use crate::store::Blob;
use crate::text_file;
use crate::wrong_content::lfs_pointer;

/// Endings of plain text files.
pub(crate) const ENDINGS: &[&str] = &[".txt", ".md", ".txt.gz", ".md.gz", ".txt.zst", ".md.zst"];

/// What a document is in a plain text file.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq, Serialize, Deserialize, JsonSchema)]
#[serde(rename_all = "kebab-case")]
pub enum TextUnit {
    /// The whole file.
    #[default]
    File,
    /// The lines between two blank lines.
    BlankLines,
}

/// Plain text.
pub struct PlainText {
    /// What a document is.
    pub documents: TextUnit,
}

impl Format for PlainText {
    fn endings(&self) -> &'static [&'static str] {
        ENDINGS
    }

    fn layout(&self) -> FileLayout {
        match self.documents {
            TextUnit::File => FileLayout::Whole,
            TextUnit::BlankLines => FileLayout::Records("text between blank lines".to_owned()),
        }
    }

    fn scan(&self, file: &Blob, add: &mut dyn FnMut(IndexEntry)) -> Result<()> {
        let mut from = BufReader::with_capacity(1 << 16, file.file()?);
        let (mut line, mut at) = (Vec::new(), 0);
        let mut open: Option<(u64, Xxh3Default)> = None;
        loop {
            line.clear();
            let len = from.by_ref().take(MAX_DOCUMENT + 1).read_until(b'\n', &mut line)? as u64;
            ensure!(len <= MAX_DOCUMENT, "a line of more than {MAX_DOCUMENT} bytes at byte {at}");
            if at == 0 {
                text_file::check_encoding(&line)?;
            }
            let content = if at == 0 { text_file::without_mark(&line) } else { &line };
            if !content.trim_ascii().is_empty() {
                open.get_or_insert_with(|| (at, Xxh3Default::new())).1.update(&line);
            } else if let Some((start, hash)) = open.take() {
                add(IndexEntry::new(hash.digest(), start, at - start)?);
            }
            at += len;
            if len == 0 {
                return Ok(());
            }
        }
    }

    fn read(&self, file: &Blob, record: &IndexEntry, _: u64) -> Result<ReadDocument> {
        let id = match self.documents {
            TextUnit::File => String::new(),
            TextUnit::BlankLines => record.at.to_string(),
        };
        let text = text_file::text(bytes(file, record)?)?;
        if let Some(told) = lfs_pointer(text.as_bytes()) {
            bail!("{told}");
        }
        document(id, &text)
    }
}

/// A text in each JSON value.
pub struct JsonText {
    /// The field with the text.
    pub field: String,
}

impl JsonFormat for JsonText {
    fn document(&self, value: &Value, id: String) -> Result<ReadDocument> {
        let text = value.get(&self.field).and_then(Value::as_str);
        let text = text.with_context(|| format!("no text in the field {:?} at byte {id}", self.field))?;
        document(id, text)
    }
}

/// A text-only document.
pub(crate) fn document(id: String, text: &str) -> Result<ReadDocument> {
    let mut page = DocumentBuilder::default();
    page.text(text.trim());
    page.end(id, DocumentKind::TextOnly)
}
