//! [`replace`]: the one way in which a file that is read again is written.

use std::fs::{self, File};
use std::io::{self, Write as _};
use std::path::Path;

/// Puts `bytes` in the place of the file at `path`. Whatever stops the writer, a kill, a full disk or a loss
/// of power, the old file or the new one is there afterwards, never a part of one.
///
/// The bytes go into `.NAME.new` beside it, are flushed to the disk, and take the name then. Two processes
/// never replace files of one folder: its lock is theirs to hold.
///
/// # Errors
/// A folder that can't be written, a disk that is full. What was begun is removed.
// Rejected: a name beside it that is drawn at random. Each kill would leave another file.
pub fn replace(path: &Path, bytes: &[u8]) -> io::Result<()> {
    let name = path.file_name().ok_or(io::ErrorKind::InvalidInput)?;
    let beside = path.with_file_name(format!(".{}.new", name.to_string_lossy()));
    let put = || {
        let mut file = File::create(&beside)?;
        file.write_all(bytes)?;
        // Before the rename: else the name may reach the disk and the bytes may not.
        file.sync_all()?;
        fs::rename(&beside, path)?;
        flush_folder(path)
    };
    // The first error is the one to report.
    put().inspect_err(|_| drop(fs::remove_file(&beside)))
}

/// Waits until the name of the file at `path` is on the disk.
///
/// # Errors
/// A folder that can't be opened.
pub(crate) fn flush_folder(path: &Path) -> io::Result<()> {
    let folder = path.parent().filter(|folder| !folder.as_os_str().is_empty());
    // Elsewhere a folder can't be opened as a file; a rename is flushed with the file system's journal.
    if cfg!(unix) { File::open(folder.unwrap_or(Path::new(".")))?.sync_all() } else { Ok(()) }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn the_old_file_or_the_new_one_is_there() {
        let folder = tempfile::tempdir().unwrap();
        let path = folder.path().join("x.json");
        replace(&path, b"old").unwrap();
        // What a killed writer has left is no obstacle, and is never taken for the file.
        fs::write(folder.path().join(".x.json.new"), b"ne").unwrap();
        assert_eq!(fs::read(&path).unwrap(), b"old");
        replace(&path, b"new").unwrap();
        assert_eq!(fs::read(&path).unwrap(), b"new");
        assert_eq!(folder.path().read_dir().unwrap().count(), 1, "nothing is left beside it");
        assert!(replace(&folder.path().join("missing/x"), b"").is_err());
    }

    /// `/dev/full` answers every write as a full disk does.
    #[cfg(target_os = "linux")]
    #[test]
    fn a_full_disk_leaves_the_old_file() {
        let folder = tempfile::tempdir().unwrap();
        let path = folder.path().join("x.json");
        replace(&path, b"old").unwrap();
        std::os::unix::fs::symlink("/dev/full", folder.path().join(".x.json.new")).unwrap();
        assert_eq!(replace(&path, b"new").unwrap_err().kind(), io::ErrorKind::StorageFull);
        assert_eq!(fs::read(&path).unwrap(), b"old");
    }
}
