//! [`PictureLocation`]: where a set has a picture, which is read when its item is asked.

use std::fmt;
use std::fs::File;
use std::io::{BufReader, Seek as _, SeekFrom};
use std::path::{Path, PathBuf};
use std::sync::Arc;

use anyhow::{Context as _, Result, ensure};
use base64::Engine as _;
use base64::prelude::BASE64_STANDARD;
use csv::ByteRecord;
use mm1_data::document::Image;
use mm1_data::regular_file;
use mm1_data::source::cells::Cells;

/// The largest picture file that is read.
const MAX_FILE: u64 = 256 << 20;

/// Where a picture is.
#[derive(Clone)]
pub enum PictureLocation {
    /// A file of its own.
    File(PathBuf),
    /// A cell of Parquet files.
    Parquet {
        /// The opened files.
        cells: Arc<Cells>,
        /// The row, counted over all files.
        row: usize,
        /// The column's name.
        column: String,
    },
    /// Base64 in a file of tab-separated values.
    Tsv {
        /// The file.
        file: PathBuf,
        /// The byte where the picture's row begins.
        row_start: u64,
        /// The column, from 0.
        column: usize,
    },
}

impl PictureLocation {
    /// Reads the picture, without a name: the same picture at two places is the same.
    ///
    /// # Errors
    /// A file that can't be read, a cell that is not there, text that is not base64.
    pub(super) fn read(&self) -> Result<Image> {
        match self {
            Self::File(path) => {
                Ok(Image::from(regular_file::read(path, MAX_FILE).with_context(|| self.to_string())?))
            }
            Self::Parquet { cells, row, column } => cells.picture(*row, column),
            Self::Tsv { file, row_start, column } => {
                let text = tsv_cell(file, *row_start, *column).with_context(|| self.to_string())?;
                let bytes = BASE64_STANDARD.decode(text.trim()).with_context(|| self.to_string())?;
                Ok(Image::from(bytes))
            }
        }
    }
}

impl fmt::Display for PictureLocation {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            Self::File(path) => write!(f, "{}", path.display()),
            Self::Parquet { cells, row, column } => write!(f, "{}, {column}", cells.place(*row)),
            Self::Tsv { file, row_start, column } => {
                write!(f, "{}, column {column} of the row at byte {row_start}", file.display())
            }
        }
    }
}

/// One cell of a file of tab-separated values.
fn tsv_cell(file: &Path, row_start: u64, column: usize) -> Result<String> {
    let mut file = BufReader::new(File::open(file)?);
    file.seek(SeekFrom::Start(row_start))?;
    let mut reader = csv::ReaderBuilder::new().delimiter(b'\t').has_headers(false).from_reader(file);
    let mut row = ByteRecord::new();
    ensure!(reader.read_byte_record(&mut row)?, "no row");
    let cell = row.get(column).with_context(|| format!("a row of {} cells", row.len()))?;
    Ok(String::from_utf8(cell.to_vec())?)
}
