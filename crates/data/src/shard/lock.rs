//! [`FolderLock`]: one writer for a folder of shards.

use std::fs::{self, File, OpenOptions, TryLockError};
use std::path::Path;

use anyhow::{Context as _, Result, bail};

/// The file of a folder's lock. It has no bytes.
pub(crate) const LOCK: &str = ".lock";

/// The right to write into a folder: while it lives, no other process has it. It ends with its process,
/// whatever ends that.
// The file stays: one that is removed can be locked twice, by the one who has opened it before and by
// the one who makes it anew. Rejected: a lock of the folder itself, which NFS does not have.
#[derive(Debug)]
pub struct FolderLock {
    _file: File,
}

impl FolderLock {
    /// Makes the folder if it is missing, and locks it.
    ///
    /// # Errors
    /// Another process writes there; a folder that can't be written.
    pub fn take(folder: &Path) -> Result<Self> {
        let file = open(folder)?;
        match file.try_lock() {
            Ok(()) => Ok(Self { _file: file }),
            Err(TryLockError::WouldBlock) => {
                bail!(
                    "{}: another mm1 is writing there; wait for it, or take another folder",
                    folder.display()
                )
            }
            Err(TryLockError::Error(error)) => Err(error).with_context(|| folder.display().to_string()),
        }
    }

    /// The same, but waits for the other to be done: for what takes a moment.
    ///
    /// # Errors
    /// A folder that can't be written.
    pub fn wait(folder: &Path) -> Result<Self> {
        let file = open(folder)?;
        file.lock().with_context(|| folder.display().to_string())?;
        Ok(Self { _file: file })
    }
}

fn open(folder: &Path) -> Result<File> {
    let open = || {
        fs::create_dir_all(folder)?;
        OpenOptions::new().create(true).truncate(false).write(true).open(folder.join(LOCK))
    };
    open().with_context(|| format!("{}: can't be written", folder.display()))
}
