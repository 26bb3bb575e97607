//! [`FileSum`]: whether a file of the cache is what was written.

use std::fmt;
use std::fs::File;
use std::io::{self, Read as _};
use std::path::Path;
use std::time::UNIX_EPOCH;

use xxhash_rust::xxh3::Xxh3;

/// Length, time and hash of a file.
#[derive(Debug, PartialEq, Eq)]
pub(super) struct FileSum {
    bytes: u64,
    /// When it was written, in nanoseconds of Unix time.
    written: u128,
    xxh3: u128,
}

impl FileSum {
    /// Reads the whole file.
    pub(super) fn of(path: &Path) -> io::Result<Self> {
        let (mut file, mut hash, mut buffer, mut bytes) =
            (File::open(path)?, Xxh3::new(), vec![0; 1 << 20], 0);
        loop {
            match file.read(&mut buffer)? {
                0 => break,
                n => {
                    hash.update(&buffer[..n]);
                    bytes += n as u64;
                }
            }
        }
        Ok(Self { bytes, written: time(&file)?, xxh3: hash.digest128() })
    }

    /// Whether the file at `path` is the one of which `written` tells. Its bytes are read only where it was
    /// written at another time, as a copy of the cache is.
    // Rejected: reading all of them each time. A cache of 100 GiB would hold up each start for minutes.
    pub(super) fn holds(written: &str, path: &Path) -> bool {
        let mut fields = written.split_whitespace();
        let (Some(bytes), Some(time_then), Some(hash), None) =
            (fields.next(), fields.next(), fields.next(), fields.next())
        else {
            return false;
        };
        let there = File::open(path).and_then(|file| Ok((file.metadata()?.len(), time(&file)?)));
        let Ok((len, time_now)) = there else { return false };
        len.to_string() == bytes
            && (time_now.to_string() == time_then
                || Self::of(path).is_ok_and(|sum| format!("{:032x}", sum.xxh3) == hash))
    }
}

impl fmt::Display for FileSum {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "{} {} {:032x}", self.bytes, self.written, self.xxh3)
    }
}

fn time(file: &File) -> io::Result<u128> {
    let time = file.metadata()?.modified()?;
    Ok(time.duration_since(UNIX_EPOCH).unwrap_or_default().as_nanos())
}
