//! [`DataStamp`]: whether the files of a source are those of another day.

use anyhow::{Context as _, Result};
use serde::{Deserialize, Serialize};
use xxhash_rust::xxh3::Xxh3;

use super::blob::{Blob, BlobLocation};
use super::version::FileVersion;

/// Files on disk that are together no larger than this are read whole.
const WHOLE: u64 = 64 << 20;
/// Of larger ones so many blocks are read, evenly spread.
const BLOCKS: u64 = 256;
/// Bytes of a block.
const BLOCK: u64 = WHOLE / BLOCKS;

/// What the files of a source are like. Two that are equal are, as far as this is looked at, the same data.
#[derive(Clone, Debug, Default, PartialEq, Eq, Serialize, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct DataStamp {
    /// Files.
    pub files: u64,
    /// Bytes of all of them.
    pub bytes: u64,
    /// Hash of their names, lengths and dates; of files behind an address, of the server's tags.
    pub dates: String,
    /// Hash of what is in them: of all, up to 64 MiB together, and of 64 MiB evenly spread over larger ones.
    /// Empty, where a server is to be believed.
    pub content: String,
}

impl DataStamp {
    /// Reads at most 64 MiB.
    ///
    /// # Errors
    /// A file that can't be read.
    pub fn of(files: &[Blob]) -> Result<Self> {
        let mut dates = Xxh3::new();
        for file in files {
            dates.update(file.name.as_bytes());
            dates.update(&file.size.to_le_bytes());
            // Where there is neither tag nor date, the length has to do.
            if !matches!(file.version, FileVersion::Unknown(_)) {
                dates.update(file.version.to_string().as_bytes());
            }
        }
        Ok(Self {
            files: files.len() as u64,
            bytes: files.iter().map(|file| file.size).sum(),
            dates: format!("{:016x}", dates.digest()),
            content: content(files)?,
        })
    }

    /// What has changed since `old`, in words; `None` where the data is the same.
    pub fn changed_since(&self, old: &Self) -> Option<String> {
        if (self.files, self.bytes) != (old.files, old.bytes) {
            return Some(format!(
                "{} files of {} bytes then, {} files of {} bytes now",
                old.files, old.bytes, self.files, self.bytes
            ));
        }
        // A copy has other dates and the same content.
        let copy = !self.content.is_empty() && self.content == old.content;
        (self.dates != old.dates && !copy)
            .then(|| format!("{} files of {} bytes as then, but not the same ones", self.files, self.bytes))
    }
}

/// The hash of what is in the files; of those of a server nothing is read.
fn content(files: &[Blob]) -> Result<String> {
    if files.iter().any(|file| matches!(file.location, BlobLocation::Server(..))) {
        return Ok(String::new());
    }
    let total: u64 = files.iter().map(|file| file.size).sum();
    let mut hash = Xxh3::new();
    if total <= WHOLE {
        for file in files {
            hash.update(&file.read(0, file.size).with_context(|| file.address.clone())?);
        }
        return Ok(format!("{:016x}", hash.digest()));
    }
    // The blocks lie in the files as if these stood one after the other; one ends with its file.
    let (mut before, mut number) = (0, 0);
    for file in files {
        while number < BLOCKS && number * (total / BLOCKS) < before + file.size {
            let at = number * (total / BLOCKS) - before;
            hash.update(&file.read(at, BLOCK.min(file.size - at)).with_context(|| file.address.clone())?);
            number += 1;
        }
        before += file.size;
    }
    Ok(format!("{:016x}", hash.digest()))
}

#[cfg(test)]
mod tests {
    use std::fs;
    use std::path::Path;
    use std::time::{Duration, SystemTime};

    use super::*;

    fn stamp(folder: &Path) -> DataStamp {
        let blob = |name: &str| Blob::open(&folder.join(name), name.to_owned()).unwrap();
        DataStamp::of(&["a", "b"].map(blob)).unwrap()
    }

    #[test]
    fn a_copy_is_the_same_and_a_changed_byte_is_not() {
        let folder = tempfile::tempdir().unwrap();
        let write = |name: &str, bytes: &[u8], age: u64| {
            let path = folder.path().join(name);
            fs::write(&path, bytes).unwrap();
            let then = SystemTime::UNIX_EPOCH + Duration::from_secs(1_700_000_000 + age);
            fs::File::options().append(true).open(path).unwrap().set_modified(then).unwrap();
        };
        let long = vec![7; BLOCK as usize + 3];
        write("a", &long, 0);
        write("b", b"some text", 0);
        let before = stamp(folder.path());
        assert_eq!(stamp(folder.path()).changed_since(&before), None);
        write("a", &long, 9);
        assert_eq!(stamp(folder.path()).changed_since(&before), None, "a copy");
        for at in [0, BLOCK as usize - 1, BLOCK as usize, BLOCK as usize + 2] {
            let mut changed = long.clone();
            changed[at] = 8;
            write("a", &changed, 9);
            let said = stamp(folder.path()).changed_since(&before);
            assert!(said.is_some_and(|said| said.contains("not the same ones")), "byte {at}");
        }
        write("a", &long, 0);
        write("b", b"some other text", 0);
        let said = stamp(folder.path()).changed_since(&before).unwrap();
        assert!(said.contains("bytes then"), "{said}");
    }
}
