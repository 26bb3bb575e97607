//! [`Leases`]: which files of the cache are in use, by any process of this machine.
//!
//! Each user of a cache has a list of its files in `use/`, which it keeps locked while it lives. So a list
//! without a lock is of a process that has ended, in whatever way. Lists are read and changed under the lock
//! of `use/guard`.

use std::collections::BTreeSet;
use std::fs::{self, File, TryLockError};
use std::io::Write as _;
use std::path::{Path, PathBuf};
use std::sync::{Mutex, PoisonError};

use anyhow::{Context as _, Result};
use tempfile::NamedTempFile;

/// The files that one user of a cache uses. Its drop releases them.
pub(crate) struct Leases {
    folder: PathBuf,
    /// The list of this user, made and locked with its first file.
    mine: Mutex<Option<NamedTempFile>>,
}

/// While it lives, no other user of the cache looks for files, marks them or removes them.
pub(crate) struct Guard(#[expect(dead_code, reason = "its drop ends the lock")] File);

impl Leases {
    pub(crate) fn new(root: &Path) -> Self {
        Self { folder: root.join("use"), mine: Mutex::new(None) }
    }

    /// Waits for the others to be done.
    ///
    /// # Errors
    /// A folder that can't be written, a file system without locks.
    pub(crate) fn guard(&self) -> Result<Guard> {
        let guard = || {
            fs::create_dir_all(&self.folder)?;
            let file = File::options().create(true).append(true).open(self.folder.join("guard"))?;
            file.lock()?;
            anyhow::Ok(Guard(file))
        };
        guard().with_context(|| {
            format!("{}: the cache can't be written or locked; set MM1_CACHE", self.folder.display())
        })
    }

    /// Marks a file as in use, or as no longer in use.
    ///
    /// # Errors
    /// A list that can't be written.
    pub(crate) fn mark(&self, _: &Guard, name: &str, used: bool) -> Result<()> {
        let mut mine = self.mine.lock().unwrap_or_else(PoisonError::into_inner);
        if mine.is_none() {
            let list = NamedTempFile::new_in(&self.folder)?;
            list.as_file().lock()?;
            *mine = Some(list);
        }
        if let Some(list) = &mut *mine {
            writeln!(list, "{}{name}", if used { '+' } else { '-' })?;
        }
        Ok(())
    }

    /// The files in use. Lists of users that have ended are removed.
    ///
    /// # Errors
    /// A list that can't be read.
    pub(crate) fn used(&self, _: &Guard) -> Result<BTreeSet<String>> {
        let mut used = BTreeSet::new();
        for entry in fs::read_dir(&self.folder)? {
            let path = entry?.path();
            if path.ends_with("guard") {
                continue;
            } else if ended(&path) {
                // It may be gone already.
                let _ = fs::remove_file(&path);
                continue;
            }
            let mut own = BTreeSet::new();
            for line in fs::read_to_string(&path).unwrap_or_default().lines() {
                match line.split_at_checked(1) {
                    Some(("+", name)) => drop(own.insert(name.to_owned())),
                    Some((_, name)) => drop(own.remove(name)),
                    None => {}
                }
            }
            used.append(&mut own);
        }
        Ok(used)
    }
}

/// Whether nobody holds the lock of a file that its writer keeps locked.
// A lock ends with its process, whatever ended it. Rejected: process ids in the file, which are used again.
pub(crate) fn ended(path: &Path) -> bool {
    File::open(path).is_ok_and(|file| !matches!(file.try_lock(), Err(TryLockError::WouldBlock)))
}
