//! Regular files only, wherever a person or a manifest names a file: a named pipe would wait for ever, a
//! device give bytes without end.

use std::fs::File;
use std::io::Read as _;
use std::path::Path;

use anyhow::{Context as _, Result, ensure};

/// The bytes of a regular file of at most `limit` bytes.
///
/// # Errors
/// What is no regular file, can't be read or is too large. They do not name the file.
pub fn read(path: &Path, limit: u64) -> Result<Vec<u8>> {
    let mut file = open(path)?;
    let len = file.metadata().context("can't be read")?.len();
    ensure!(len <= limit, "a file of {len} bytes; the limit is {limit}");
    let mut bytes = Vec::with_capacity(len as usize);
    // One byte beyond the limit: a file that grows while it is read does not fill memory.
    file.by_ref().take(limit + 1).read_to_end(&mut bytes).context("can't be read")?;
    ensure!(bytes.len() as u64 <= limit, "it grew beyond {limit} bytes while it was read");
    Ok(bytes)
}

/// Opens a file, which has to be a regular one.
///
/// # Errors
/// A folder, a pipe, a device, a socket; a file that can't be opened. They do not name the file.
pub fn open(path: &Path) -> Result<File> {
    // Looked at before it is opened: opening a pipe waits for somebody who writes.
    let metadata = path.metadata().context("can't be read")?;
    ensure!(metadata.is_file(), "{}, not a regular file", what(&metadata));
    File::open(path).context("can't be read")
}

/// What a path leads to that is no regular file.
#[cfg(unix)]
pub(crate) fn what(metadata: &std::fs::Metadata) -> &'static str {
    use std::os::unix::fs::FileTypeExt as _;
    let kind = metadata.file_type();
    match () {
        () if kind.is_dir() => "a folder",
        () if kind.is_fifo() => "a named pipe",
        () if kind.is_socket() => "a socket",
        () => "a device",
    }
}

#[cfg(not(unix))]
pub(crate) fn what(metadata: &std::fs::Metadata) -> &'static str {
    if metadata.is_dir() { "a folder" } else { "a device" }
}
