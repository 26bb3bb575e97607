//! The index of a file: where each of its documents lies. Made in one streaming pass and kept in the cache,
//! so that any document can be read by itself.

use anyhow::{Context as _, Result, ensure};
use xxhash_rust::xxh3::xxh3_64;

use crate::store::{Blob, Store, cache_key};

/// The most bytes that one document may take, pictures and all.
pub const MAX_DOCUMENT: u64 = 256 << 20;

/// Raised when what an index holds changes.
const HEADER: &[u8; 16] = b"mm1-data index 2";
const RECORD: usize = 32;

/// Where a document lies in its file.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct IndexEntry {
    /// What decides whether it is held out: a hash of its name or content.
    pub key: u64,
    /// Its first byte, or its row in the group.
    pub at: u64,
    /// Its bytes; at most [`MAX_DOCUMENT`].
    pub len: u64,
    /// The part of the file that is opened as a whole; 0 where documents are opened one by one.
    pub group: u64,
}

impl IndexEntry {
    /// A document that is opened by itself.
    ///
    /// # Errors
    /// One of more than [`MAX_DOCUMENT`] bytes.
    pub fn new(key: u64, at: u64, len: u64) -> Result<Self> {
        ensure!(len <= MAX_DOCUMENT, "a document of {len} bytes at {at}; the limit is {MAX_DOCUMENT}");
        Ok(Self { key, at, len, group: 0 })
    }
}

/// The records of `blob`, from the cache or by `scan`. `what` names all that the scan depends on besides the
/// file.
pub(crate) fn index(
    store: &Store,
    what: &str,
    blob: &Blob,
    scan: impl Fn(&mut dyn FnMut(IndexEntry)) -> Result<()>,
) -> Result<Vec<IndexEntry>> {
    let key = cache_key(&format!("index {what}"), blob);
    if let Some(records) = store.cache.read_index(&key).and_then(|bytes| decode(&bytes)) {
        // Checked by a hash: a cache that was cut short is made again, not believed.
        return Ok(records);
    }
    let mut records = Vec::new();
    let scanned = scan(&mut |record| records.push(record)).map_err(|error| blob.explained(error));
    scanned.with_context(|| blob.address.clone())?;
    store.cache.write_index(&key, &encode(&records))?;
    Ok(records)
}

fn encode(records: &[IndexEntry]) -> Vec<u8> {
    let fields = records.iter().flat_map(|r| [r.key, r.at, r.len, r.group]);
    let body: Vec<u8> = fields.flat_map(u64::to_le_bytes).collect();
    [HEADER.as_slice(), &xxh3_64(&body).to_le_bytes(), &body].concat()
}

/// `None` for another version or a damaged file: the index is made again.
fn decode(bytes: &[u8]) -> Option<Vec<IndexEntry>> {
    let (sum, body) = bytes.strip_prefix(HEADER.as_slice())?.split_first_chunk()?;
    if u64::from_le_bytes(*sum) != xxh3_64(body) || body.len() % RECORD != 0 {
        return None;
    }
    let record = |chunk: &[u8]| {
        let field = |i: usize| chunk[i * 8..].first_chunk().copied().map(u64::from_le_bytes);
        Some(IndexEntry { key: field(0)?, at: field(1)?, len: field(2)?, group: field(3)? })
    };
    body.chunks_exact(RECORD).map(record).collect()
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn an_index_is_read_back_or_refused() {
        let records: Vec<IndexEntry> =
            (0..5).map(|i| IndexEntry { key: i, at: i * 7, len: 3, group: i / 2 }).collect();
        let bytes = encode(&records);
        assert_eq!(decode(&bytes), Some(records));
        for i in 0..bytes.len() {
            let mut damaged = bytes.clone();
            damaged[i] ^= 1;
            assert_eq!(decode(&damaged), None, "byte {i}");
            assert_eq!(decode(&bytes[..i]), None, "{i} bytes");
        }
    }
}
