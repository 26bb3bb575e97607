//! Text that a person writes, read in one place: data, captions, tasks, recipes, configs, references.
//!
//! A byte order mark is no content and is taken off. Line ends stay as they are. UTF-16 is refused by name.

use std::path::Path;

use anyhow::{Result, bail, ensure};

use crate::regular_file;

/// The largest text file that is held in memory as a whole.
// The answers of VQAv2's training split, the largest such file of a benchmark, take 366 MB.
pub const MAX_TEXT: u64 = 1 << 30;

/// The byte order mark in UTF-8.
pub(crate) const MARK: [u8; 3] = [0xEF, 0xBB, 0xBF];

/// The text of a file of at most [`MAX_TEXT`] bytes.
///
/// # Errors
/// What is no regular file, can't be read, is too large or is not UTF-8. They do not name the file.
pub fn read(path: &Path) -> Result<String> {
    text(regular_file::read(path, MAX_TEXT)?)
}

/// The text of bytes that were read as a whole.
///
/// # Errors
/// UTF-16, by its mark or its zeros; other bytes that are not UTF-8.
pub fn text(mut bytes: Vec<u8>) -> Result<String> {
    if bytes.starts_with(&MARK) {
        bytes.drain(..MARK.len());
    }
    match String::from_utf8(bytes) {
        // UTF-16 of Latin letters without a mark is UTF-8 too, with a zero beside each letter.
        Ok(text) if !is_utf16(text.as_bytes()) => Ok(text),
        Ok(_) => bail!("{UTF16}"),
        Err(error) if is_utf16(error.as_bytes()) => bail!("{UTF16}"),
        Err(error) => bail!(
            "not UTF-8 at byte {}: save it as UTF-8 (iconv -f LATIN1 -t UTF-8, if it is Latin-1)",
            error.utf8_error().valid_up_to()
        ),
    }
}

/// Bytes of UTF-8 without the byte order mark.
pub(crate) fn without_mark(bytes: &[u8]) -> &[u8] {
    bytes.strip_prefix(&MARK).unwrap_or(bytes)
}

/// Refuses text in UTF-16, of which these are the first bytes.
///
/// # Errors
/// UTF-16, by its mark or its zeros.
pub(crate) fn check_encoding(start: &[u8]) -> Result<()> {
    ensure!(!is_utf16(start), "{UTF16}");
    Ok(())
}

const UTF16: &str = "text in UTF-16: save it as UTF-8 (iconv -f UTF-16 -t UTF-8)";

fn is_utf16(bytes: &[u8]) -> bool {
    let marked = bytes.starts_with(&[0xFF, 0xFE]) || bytes.starts_with(&[0xFE, 0xFF]);
    // Without a mark: what is ASCII, such as the braces and quotes of JSON, has a zero on one side of each.
    let zero = |first: usize| bytes[..4].iter().skip(first).step_by(2).all(|&byte| byte == 0);
    let letter = |first: usize| bytes[..4].iter().skip(first).step_by(2).all(|&byte| byte != 0);
    marked || (bytes.len() >= 4 && ((zero(0) && letter(1)) || (zero(1) && letter(0))))
}
