//! [`Blob`]: a file on disk or behind an address, read in ranges.

use std::fs::File;
use std::io::{Read as _, Seek as _, SeekFrom};
use std::path::{Path, PathBuf};
use std::sync::Arc;
use std::time::UNIX_EPOCH;

use anyhow::{Context as _, Result, anyhow, bail, ensure};

use super::lease::Leases;
use super::server::{Server, ServerFile};
use super::version::FileVersion;
use crate::regular_file;
use crate::wrong_content::{lfs_pointer, wrong_content};

/// First bytes of a file that show what it is.
const START: u64 = 1 << 10;

/// A file that can be read in ranges.
#[derive(Clone)]
pub struct Blob {
    /// Its path or address.
    pub address: String,
    /// Its name; below the folder, where a folder was named.
    pub name: String,
    /// Its bytes.
    pub size: u64,
    /// Another one when the file changes.
    pub(crate) version: FileVersion,
    /// Where its bytes are.
    pub(crate) location: BlobLocation,
    /// Keeps a file of the cache from being removed.
    pub(crate) lease: Option<Arc<Leases>>,
}

/// Where the bytes of a [`Blob`] are.
#[derive(Clone)]
pub(crate) enum BlobLocation {
    Disk(PathBuf),
    Server(Arc<Server>, object_store::path::Path),
}

impl Blob {
    /// A file on disk.
    ///
    /// # Errors
    /// A path that is not a readable file.
    pub fn open(path: &Path, name: String) -> Result<Self> {
        let metadata = path.metadata().with_context(|| format!("{}: can't be read", path.display()))?;
        ensure!(metadata.is_file(), "{} is not a file", path.display());
        let modified = metadata.modified().ok().and_then(|time| time.duration_since(UNIX_EPOCH).ok());
        Ok(Self {
            address: path.to_string_lossy().into_owned(),
            name,
            size: metadata.len(),
            version: FileVersion::Written(modified.unwrap_or_default().as_nanos()),
            location: BlobLocation::Disk(path.to_owned()),
            lease: None,
        })
    }

    /// A file of a server, as the server describes it.
    pub(super) fn of_server(remote: &Arc<Server>, file: ServerFile) -> Self {
        let ServerFile { address, path, size, version } = file;
        let name = file_name(&address);
        let location = BlobLocation::Server(Arc::clone(remote), path);
        Self { address, name, size, version, location, lease: None }
    }

    /// The bytes from `at` on. A file is never read as a whole: the caller has checked `len` against a limit.
    ///
    /// # Errors
    /// A range outside the file, a file that changed, a server that does not answer. They do not name the
    /// file.
    pub fn read(&self, at: u64, len: u64) -> Result<Vec<u8>> {
        let end = at.checked_add(len).filter(|&end| end <= self.size);
        let end = end.with_context(|| format!("{len} bytes at {at} of a file of {}", self.size))?;
        match &self.location {
            BlobLocation::Disk(path) => {
                let read = || {
                    let mut file = regular_file::open(path)?;
                    // Opened anew for each range: a file kept open for each shard would reach the limit of
                    // descriptors.
                    file.seek(SeekFrom::Start(at))?;
                    let mut bytes = vec![0; usize::try_from(len)?];
                    file.read_exact(&mut bytes)?;
                    anyhow::Ok(bytes)
                };
                read().with_context(|| format!("can't be read at {at}"))
            }
            BlobLocation::Server(remote, path) => Ok(remote.range(path, at..end, &self.version)?.to_vec()),
        }
    }

    /// Refuses a pointer that Git LFS leaves in place of a file. It is text, so that some formats would
    /// read it.
    ///
    /// # Errors
    /// Such a pointer; a file that can't be read.
    pub(crate) fn check_content(&self) -> Result<()> {
        match lfs_pointer(&if self.size <= START { self.read(0, self.size)? } else { Vec::new() }) {
            Some(told) => bail!("{told}"),
            None => Ok(()),
        }
    }

    /// What is wrong with a file that can't be used: what its first bytes show it to be, or else `error`.
    pub(crate) fn explained(&self, error: anyhow::Error) -> anyhow::Error {
        let name = self.name.to_lowercase();
        let packed = [".gz", ".tgz", ".zst"].iter().any(|ending| name.ends_with(ending));
        let start = self.read(0, self.size.min(START)).unwrap_or_default();
        // Of a file that is packed as its name says it is the unpacked content that is wrong.
        let told = wrong_content(&start).filter(|told| !(packed && told.starts_with("packed by")));
        told.map_or(error, |told| anyhow!("{told}"))
    }

    /// Its path, of one on disk.
    pub(crate) fn path(&self) -> Option<&Path> {
        match &self.location {
            BlobLocation::Disk(path) => Some(path),
            BlobLocation::Server(..) => None,
        }
    }

    /// The file itself, of one on disk.
    pub(crate) fn file(&self) -> Result<File> {
        match &self.location {
            BlobLocation::Disk(path) => regular_file::open(path),
            BlobLocation::Server(..) => bail!("the file is not on this machine"),
        }
    }
}

/// What follows the last `/`.
pub(crate) fn file_name(address: &str) -> String {
    address.rsplit(['/', std::path::MAIN_SEPARATOR]).next().unwrap_or(address).to_owned()
}
