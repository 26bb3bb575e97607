//! [`Listing`]: the files of a folder or pattern, and what is there that is no file to read.

use std::fs::DirEntry;
use std::path::{Path, PathBuf};

use anyhow::{Context as _, Result};

use super::blob::{Blob, file_name};
use crate::regular_file::what;
use crate::shard::lock::LOCK;

/// What a path stands for.
#[derive(Default)]
pub(crate) struct Listing {
    /// Regular files, and links to them.
    pub(crate) files: Vec<Blob>,
    /// All else.
    pub(crate) passed_over: Vec<PassedOver>,
}

/// Something that is there and is not read.
pub(crate) struct PassedOver {
    pub(crate) path: PathBuf,
    pub(crate) cause: PassedOverCause,
}

/// Why something is not read.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) enum PassedOverCause {
    /// A file or a whole folder, by its name.
    Hidden,
    /// Of a folder; followed, it could lead in circles, or to the same files twice.
    FolderLink,
    /// A folder among the files of a pattern.
    Folder,
    /// A link to nothing.
    BrokenLink,
    /// A pipe, a socket or a device, by its name.
    Special(&'static str),
}

impl PassedOverCause {
    /// In words, the same for all of the cause.
    pub(crate) fn reason(self) -> String {
        match self {
            Self::Hidden => "hidden: its name begins with a dot".to_owned(),
            Self::FolderLink => {
                "a link to a folder, which is not followed: name the folder itself".to_owned()
            }
            Self::Folder => "a folder, where a pattern names files: name the folder itself".to_owned(),
            Self::BrokenLink => "a link to nothing, not a regular file".to_owned(),
            Self::Special(what) => format!("{what}, not a regular file"),
        }
    }

    /// Whether it stands where a file is expected, so that a recipe is not to go on without it.
    pub(crate) fn is_in_place_of_a_file(self) -> bool {
        matches!(self, Self::BrokenLink | Self::Special(_))
    }
}

impl Listing {
    /// All that is below a folder, sorted by path. Links to folders are not followed.
    ///
    /// # Errors
    /// A folder that can't be read.
    pub(crate) fn of_folder(root: &Path) -> Result<Self> {
        let mut all = Self::default();
        all.walk(root, root)?;
        all.files.sort_by(|a, b| a.name.cmp(&b.name));
        all.passed_over.sort_by(|a, b| a.path.cmp(&b.path));
        Ok(all)
    }

    /// What a glob stands for, sorted by path.
    ///
    /// # Errors
    /// No pattern; a folder that can't be read.
    pub(super) fn of_pattern(pattern: &str) -> Result<Self> {
        let mut all = Self::default();
        for found in glob::glob(pattern).with_context(|| format!("{pattern} is not a pattern"))? {
            let found = found?;
            if found.is_dir() {
                all.passed_over.push(PassedOver { path: found, cause: PassedOverCause::Folder });
            } else {
                let name = file_name(&found.to_string_lossy());
                all.add(found, name)?;
            }
        }
        Ok(all)
    }

    fn walk(&mut self, root: &Path, folder: &Path) -> Result<()> {
        for entry in folder.read_dir().with_context(|| folder.display().to_string())? {
            let entry = entry?;
            let (path, kind) = (entry.path(), entry.file_type()?);
            if is_own(&entry) {
                // Neither data nor left out: nobody but this program has put it there.
            } else if entry.file_name().to_string_lossy().starts_with('.') {
                self.passed_over.push(PassedOver { path, cause: PassedOverCause::Hidden });
            } else if kind.is_dir() {
                self.walk(root, &path)?;
            } else if kind.is_symlink() && path.is_dir() {
                self.passed_over.push(PassedOver { path, cause: PassedOverCause::FolderLink });
            } else {
                let parts: Vec<_> =
                    path.strip_prefix(root)?.iter().map(|part| part.to_string_lossy()).collect();
                let name = parts.join("/");
                self.add(path, name)?;
            }
        }
        Ok(())
    }

    /// Adds what is no folder.
    fn add(&mut self, path: PathBuf, name: String) -> Result<()> {
        match path.metadata() {
            Ok(metadata) if metadata.is_file() => self.files.push(Blob::open(&path, name)?),
            Ok(metadata) => {
                let cause = PassedOverCause::Special(what(&metadata));
                self.passed_over.push(PassedOver { path, cause });
            }
            Err(_) => self.passed_over.push(PassedOver { path, cause: PassedOverCause::BrokenLink }),
        }
        Ok(())
    }
}

/// Whether an entry of a folder is the lock that an import leaves there.
fn is_own(entry: &DirEntry) -> bool {
    let empty = || entry.metadata().is_ok_and(|metadata| metadata.is_file() && metadata.len() == 0);
    entry.file_name() == LOCK && empty()
}
