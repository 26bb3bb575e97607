//! [`Cells`]: rows of Parquet files as JSON, and their pictures one at a time, as benchmarks on Hugging Face
//! have them.

use std::path::PathBuf;

use anyhow::{Context as _, Result};
use parquet::record::Field;
use serde_json::{Map, Value};

use super::parquet::{json, picture, row_id};
use super::table::{DEFAULT_MEMORY_MIB, ParquetColumns};
use crate::document::Image;
use crate::index::IndexEntry;
use crate::store::Blob;

/// Some columns of Parquet files. Nothing but the number of rows is read until a row is wanted.
pub struct Cells {
    table: ParquetColumns,
    columns: Vec<String>,
    files: Vec<Blob>,
    /// Each row's file and its place there.
    rows: Vec<(usize, IndexEntry)>,
}

impl Cells {
    /// The rows of `files`, in order.
    ///
    /// # Errors
    /// A file that is no Parquet, or lacks a column.
    pub fn open(files: &[PathBuf], columns: &[&str]) -> Result<Self> {
        let table = ParquetColumns::new(columns, DEFAULT_MEMORY_MIB)?;
        let (mut blobs, mut rows) = (Vec::new(), Vec::new());
        for (at, path) in files.iter().enumerate() {
            let blob = Blob::open(path, path.display().to_string())?;
            let scanned = table.scan(&blob, &mut |record| rows.push((at, record)));
            scanned.with_context(|| blob.address.clone())?;
            blobs.push(blob);
        }
        let columns = columns.iter().map(|&name| name.to_owned()).collect();
        Ok(Self { table, columns, files: blobs, rows })
    }

    /// Number of rows.
    pub fn rows(&self) -> usize {
        self.rows.len()
    }

    /// The row as an object of its columns.
    ///
    /// # Errors
    /// A damaged file; a cell that JSON has no form for.
    pub fn json(&self, row: usize) -> Result<Value> {
        let fields = self.read(row)?;
        let named = self.columns.iter().zip(&fields).map(|(name, field)| Ok((name.clone(), json(field)?)));
        let object = named.collect::<Result<Map<_, _>>>().with_context(|| self.place(row))?;
        Ok(Value::Object(object))
    }

    /// The picture in a cell: a struct of `bytes` and `path`, or bytes.
    ///
    /// # Errors
    /// A damaged file; a cell without the bytes of a picture.
    pub fn picture(&self, row: usize, column: &str) -> Result<Image> {
        let at = self.columns.iter().position(|name| name == column);
        let at = at.with_context(|| format!("the column {column:?} was not opened"))?;
        let cell = picture(&self.read(row)?[at]).with_context(|| self.place(row))?;
        let bytes = cell.bytes.with_context(|| {
            format!("{}: the picture in {column:?} has no bytes, only a path", self.place(row))
        })?;
        Ok(Image::from(bytes))
    }

    /// Where a row is, for errors: `FILE: GROUP/ROW`.
    pub fn place(&self, row: usize) -> String {
        self.rows.get(row).map_or_else(
            || format!("row {row} of {}", self.rows.len()),
            |(file, record)| format!("{}: {}", self.files[*file].address, row_id(record)),
        )
    }

    fn read(&self, row: usize) -> Result<Vec<Field>> {
        let (file, record) = self.rows.get(row).with_context(|| self.place(row))?;
        self.table.row(&self.files[*file], record).with_context(|| self.place(row))
    }
}
