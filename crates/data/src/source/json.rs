//! [`JsonFormat`]: files of JSON values, one in each line or all in one array, each of them a document.
//! Values are found without being read into memory.

use std::io::{BufRead as _, BufReader};

use anyhow::{Error, Result, anyhow, bail, ensure};
use serde_json::Value;
use xxhash_rust::xxh3::Xxh3Default;

use super::files::{FileLayout, Format, ReadDocument, bytes};
use crate::index::IndexEntry;
use crate::store::Blob;
use crate::text_file::{check_encoding, without_mark};

/// Endings of such files.
pub(crate) const ENDINGS: &[&str] =
    &[".json", ".jsonl", ".ndjson", ".json.gz", ".jsonl.gz", ".json.zst", ".jsonl.zst"];

/// A format of JSON values, each of them a document.
pub(crate) trait JsonFormat: Send + Sync {
    /// The document of a value. Its id, where the value has none, is the byte at which it begins.
    ///
    /// # Errors
    /// A value without a document, by its fields.
    fn document(&self, value: &Value, id: String) -> Result<ReadDocument>;
}

impl<T: JsonFormat> Format for T {
    fn endings(&self) -> &'static [&'static str] {
        ENDINGS
    }

    fn layout(&self) -> FileLayout {
        FileLayout::Records("json".to_owned())
    }

    fn scan(&self, file: &Blob, add: &mut dyn FnMut(IndexEntry)) -> Result<()> {
        scan(file, add)
    }

    fn read(&self, file: &Blob, record: &IndexEntry, _: u64) -> Result<ReadDocument> {
        self.document(&read(file, record)?, record.at.to_string())
    }
}

/// Calls `add` for each value of the file. Whether a value is valid shows when it is read.
///
/// # Errors
/// An array that does not end; a value beyond the limit.
pub(crate) fn scan(file: &Blob, add: &mut dyn FnMut(IndexEntry)) -> Result<()> {
    let mut from = BufReader::with_capacity(1 << 18, file.file()?);
    let mut scanner = Scanner::default();
    loop {
        let chunk = from.fill_buf()?;
        if chunk.is_empty() {
            return scanner.finish(add);
        }
        scanner.chunk(chunk, add)?;
        let len = chunk.len();
        from.consume(len);
    }
}

/// The value of a record.
///
/// # Errors
/// JSON that is damaged.
pub(crate) fn read(file: &Blob, record: &IndexEntry) -> Result<Value> {
    parse(&format!("the value at byte {}", record.at), &bytes(file, record)?)
}

/// The value in `bytes`, which messages call `place`.
///
/// # Errors
/// As [`read`].
pub(crate) fn parse(place: &str, bytes: &[u8]) -> Result<Value> {
    let text = without_mark(bytes);
    serde_json::from_slice(text).map_err(|error| not_json(place, text, &error))
}

/// What stands where JSON ends to be JSON, in our words.
fn not_json(place: &str, text: &[u8], error: &serde_json::Error) -> Error {
    if error.is_eof() {
        return anyhow!("{place} is not JSON: it ends in its middle");
    }
    let mut lines = text.split_inclusive(|&byte| byte == b'\n');
    let before: usize = lines.by_ref().take(error.line().saturating_sub(1)).map(<[u8]>::len).sum();
    let at = (before + error.column().saturating_sub(1)).min(text.len());
    let letter = |byte: &&u8| byte.is_ascii_alphanumeric() || **byte == b'.';
    let start = at - text[..at].iter().rev().take_while(letter).count();
    let word = text[start..].iter().take_while(letter).count().clamp(1, 40).min(text.len() - start);
    let word = String::from_utf8_lossy(&text[start..start + word]).into_owned();
    let hint = match word.as_str() {
        "NaN" | "Infinity" => " (Python writes it, JSON has no such number)",
        "'" => " (JSON has its texts in \", not in ')",
        _ => "",
    };
    anyhow!("{place} is not JSON: `{word}` at its byte {start}{hint}")
}

#[derive(Default)]
struct Scanner {
    /// Bytes before the chunk that is looked at.
    at: u64,
    form: JsonForm,
    /// The value that is open: where it begins and the hash of its bytes so far.
    open: Option<(u64, Xxh3Default)>,
    /// Brackets that are open inside the value; in an array only.
    depth: u32,
    /// Inside of a text in quotes; in an array only.
    string: bool,
    /// The byte before was a backslash that escapes this one.
    escaped: bool,
}

#[derive(Clone, Copy, Default, PartialEq)]
enum JsonForm {
    #[default]
    Unknown,
    Lines,
    Array,
    /// The array has ended.
    Over,
}

impl Scanner {
    fn chunk(&mut self, chunk: &[u8], add: &mut dyn FnMut(IndexEntry)) -> Result<()> {
        let mut from = 0;
        let mut mark = 0;
        if self.at == 0 {
            check_encoding(chunk)?;
            mark = chunk.len() - without_mark(chunk).len();
        }
        for (i, &byte) in chunk.iter().enumerate().skip(mark) {
            let space = byte.is_ascii_whitespace();
            if self.form == JsonForm::Unknown && !space {
                self.form = if byte == b'[' { JsonForm::Array } else { JsonForm::Lines };
                if self.form == JsonForm::Array {
                    continue;
                }
            }
            ensure!(
                self.form != JsonForm::Over || space,
                "text after the end of the array at byte {}",
                self.at + i as u64
            );
            if self.ends(byte) {
                self.close(&chunk[from..i], self.at + i as u64, add)?;
                if self.form == JsonForm::Array && byte == b']' {
                    self.form = JsonForm::Over;
                }
            } else if self.open.is_none() && !space {
                self.open = Some((self.at + i as u64, Xxh3Default::new()));
                from = i;
            }
        }
        if let Some((_, hash)) = &mut self.open {
            hash.update(&chunk[from..]);
        }
        self.at += chunk.len() as u64;
        Ok(())
    }

    /// Whether the byte ends a value.
    fn ends(&mut self, byte: u8) -> bool {
        if self.form == JsonForm::Lines {
            return byte == b'\n';
        }
        // Brackets inside of texts do not count. Nothing is parsed: whether a value is valid shows when it is
        // read.
        if self.string {
            (self.string, self.escaped) = (self.escaped || byte != b'"', !self.escaped && byte == b'\\');
            return false;
        }
        match byte {
            b'"' => self.string = true,
            b'[' | b'{' => self.depth += 1,
            b']' | b'}' if self.depth > 0 => self.depth -= 1,
            b',' | b']' => return self.depth == 0,
            _ => {}
        }
        false
    }

    fn close(&mut self, rest: &[u8], end: u64, add: &mut dyn FnMut(IndexEntry)) -> Result<()> {
        if let Some((start, mut hash)) = self.open.take() {
            hash.update(rest);
            add(IndexEntry::new(hash.digest(), start, end - start)?);
        }
        Ok(())
    }

    fn finish(mut self, add: &mut dyn FnMut(IndexEntry)) -> Result<()> {
        match self.form {
            JsonForm::Array => bail!("the array does not end: is the file whole?"),
            _ => self.close(&[], self.at, add),
        }
    }
}
