//! [`Chunks`]: a Parquet file as the library reads it, with a limit on the memory that its headers and pages
//! may take.

use std::collections::BTreeMap;
use std::io::{self, Cursor, Read};
use std::sync::{Arc, Mutex, PoisonError};

use anyhow::{Result, ensure};
use bytes::Bytes;
use flate2::bufread::MultiGzDecoder;
use parquet::errors::{ParquetError, Result as ParquetResult};
use parquet::file::reader::{ChunkReader, Length};
use parquet::record::Field;

use super::page_header::{PageHeader, check_footer};
use crate::store::Blob;

/// Page headers are read in pieces of this size, and are no longer.
const PIECE: u64 = 256 << 10;
/// What ends a file: the length of the footer and `PAR1`.
const TAIL: u64 = 8;
/// The first bytes of what gzip packs.
const GZIP: [u8; 2] = [0x1F, 0x8B];

/// A file, for one reader.
pub(super) struct Chunks {
    file: Blob,
    pages: Arc<PageChecks>,
}

/// What the page headers that were read so far say.
struct PageChecks {
    /// Bytes of memory.
    limit: u64,
    totals: Mutex<PageTotals>,
}

#[derive(Default)]
struct PageTotals {
    /// Values in all data pages.
    values: u64,
    /// The bytes that come first and are not packed, for the page that begins at a place.
    plain: BTreeMap<u64, u64>,
}

impl Chunks {
    /// `limit` is in bytes.
    pub(super) fn new(file: Blob, limit: u64) -> Self {
        Self { file, pages: Arc::new(PageChecks { limit, totals: Mutex::default() }) }
    }

    fn bytes(&self, start: u64, len: u64) -> Result<Vec<u8>> {
        let limit = self.pages.limit;
        ensure!(len <= limit, "a part of {len} bytes{}", above(limit));
        let bytes = self.file.read(start, len)?;
        if start.saturating_add(len).saturating_add(TAIL) == self.file.size {
            check_footer(&bytes)?;
        } else {
            self.pages.check_data(start, &bytes)?;
        }
        Ok(bytes)
    }
}

impl Length for Chunks {
    fn len(&self) -> u64 {
        self.file.size
    }
}

impl ChunkReader for Chunks {
    type T = Pieces;

    fn get_read(&self, start: u64) -> ParquetResult<Pieces> {
        // The library reads the tail and page headers in this way, and opens a reader at other places
        // without use.
        let pages = (start.saturating_add(TAIL) != self.file.size).then(|| Arc::clone(&self.pages));
        Ok(Pieces { file: self.file.clone(), at: start, piece: Cursor::default(), pages })
    }

    fn get_bytes(&self, start: u64, length: usize) -> ParquetResult<Bytes> {
        let bytes = self.bytes(start, length as u64);
        bytes.map(Bytes::from).map_err(|error| ParquetError::General(format!("{error:#}")))
    }
}

impl PageChecks {
    /// Checks the header at `start`, before the library reads it.
    fn check_header(&self, start: u64, bytes: &[u8]) -> Result<()> {
        let page = PageHeader::read(bytes)?;
        let PageHeader { unpacked, values, .. } = page;
        ensure!(unpacked <= self.limit, "a page of {unpacked} bytes when unpacked{}", above(self.limit));
        let mut totals = self.totals.lock().unwrap_or_else(PoisonError::into_inner);
        let all = if page.dictionary { values } else { totals.values.saturating_add(values) };
        // Each becomes a field, if only one that says that nothing is there.
        // Values of a whole group, not of a page: the library holds all fields of a group at a time.
        let memory = all.saturating_mul(size_of::<Field>() as u64);
        ensure!(memory <= self.limit, "{all} values{}", above(self.limit));
        if page.dictionary {
            ensure!(values <= unpacked, "damaged: {values} values in {unpacked} bytes");
        } else {
            totals.values = all;
        }
        totals.plain.insert(start + page.len, page.plain);
        Ok(())
    }

    /// Checks what gzip packed: the library does not hold it to what the header says.
    fn check_data(&self, start: u64, bytes: &[u8]) -> Result<()> {
        let plain = self.totals.lock().unwrap_or_else(PoisonError::into_inner).plain.remove(&start);
        let packed = plain.and_then(|plain| bytes.get(usize::try_from(plain).ok()?..));
        if let Some(packed) = packed.filter(|packed| packed.starts_with(&GZIP)) {
            let mut unpacked = MultiGzDecoder::new(packed).take(self.limit + 1);
            // What is damaged is the library's to tell.
            let len = io::copy(&mut unpacked, &mut io::sink()).unwrap_or(0);
            ensure!(
                len <= self.limit,
                "a page of more than {} bytes when unpacked{}",
                self.limit,
                above(self.limit)
            );
        }
        Ok(())
    }
}

fn above(limit: u64) -> String {
    format!(", above memory_mib = {}: raise it, or write smaller pages and row groups", limit >> 20)
}

/// Reads on from a place, a piece at a time.
pub(super) struct Pieces {
    file: Blob,
    at: u64,
    piece: Cursor<Vec<u8>>,
    /// Where the header that comes first is to be checked.
    pages: Option<Arc<PageChecks>>,
}

impl Read for Pieces {
    fn read(&mut self, out: &mut [u8]) -> io::Result<usize> {
        let n = self.piece.read(out)?;
        let len = PIECE.min(self.file.size.saturating_sub(self.at));
        if n > 0 || out.is_empty() || len == 0 {
            return Ok(n);
        }
        let failed = |error| io::Error::other(format!("{error:#}"));
        let piece = self.file.read(self.at, len).map_err(failed)?;
        if let Some(pages) = self.pages.take() {
            pages.check_header(self.at, &piece).map_err(failed)?;
        }
        self.at += len;
        self.piece = Cursor::new(piece);
        self.piece.read(out)
    }
}
