//! [`StoredSource`]: all documents of a source in the order of its files, without split or shuffle, for what
//! is done with data before training.

use std::ops::Range;
use std::path::Path;

use anyhow::{Context as _, Result, ensure};

use super::config::SourceConfig;
use super::detect::FoundSource;
use super::files::{Files, ReadDocument};
use super::folder::PictureFolder;
use crate::left_out::LeftOut;
use crate::store::Store;

/// An open source.
pub struct StoredSource {
    name: String,
    kind: &'static str,
    files: u64,
    bytes: u64,
    inner: Inner,
}

enum Inner {
    Files(Files),
    Folder(PictureFolder, Vec<(usize, usize)>),
}

impl StoredSource {
    /// Opens what was found: makes or loads the indexes of its files.
    ///
    /// # Errors
    /// One line that names the source: files that can't be used.
    pub fn open(found: &FoundSource, store: &Store) -> Result<Self> {
        let opened = Self::open_share(found, store)?;
        ensure!(opened.documents() > 0, "source `{}`: no document in {} files", opened.name, opened.files);
        Ok(opened)
    }

    /// The same of a share, which may have no document.
    pub(crate) fn open_share(found: &FoundSource, store: &Store) -> Result<Self> {
        if let Some(folder) = found.open_folder()? {
            let FoundSource { name, kind, pairs: share, .. } = found.clone();
            let mut pairs = folder.pairs();
            if let Some(share) = share {
                pairs = pairs.get(share).context("a folder of pictures has changed")?.to_vec();
            }
            let sizes = pairs.iter().filter(|(_, caption)| *caption == 0);
            let sizes = sizes.filter_map(|(entry, _)| folder.file(*entry).metadata().ok());
            let bytes = sizes.map(|metadata| metadata.len()).sum();
            let files = pairs.iter().filter(|(_, caption)| *caption == 0).count() as u64;
            return Ok(Self { name, kind, files, bytes, inner: Inner::Folder(folder, pairs) });
        }
        let FoundSource { name, kind, config, files, .. } = found.clone();
        let bytes = files.iter().map(|file| file.size).sum();
        let count = files.len() as u64;
        let inner = Inner::Files(config.open_found(&name, store, files)?);
        Ok(Self { name, kind, files: count, bytes, inner })
    }

    /// Its name among the sources of a command.
    pub fn name(&self) -> &str {
        &self.name
    }

    /// The kind of source, as a recipe writes it.
    pub fn kind(&self) -> &'static str {
        self.kind
    }

    /// The number of its files; of a folder of captioned pictures, the pictures.
    pub fn files(&self) -> u64 {
        self.files
    }

    /// The bytes of these files, packed as they are.
    pub fn bytes(&self) -> u64 {
        self.bytes
    }

    /// The number of documents, damaged ones too.
    pub fn documents(&self) -> u64 {
        match &self.inner {
            Inner::Files(files) => files.documents(),
            Inner::Folder(_, pairs) => pairs.len() as u64,
        }
    }

    /// The document at `index`, where it says that it comes from, and what it lacks. Its id is
    /// `NAME/FILE/ID IN THE FILE`, without the folders above; one of our shards keeps the id that it has
    /// there.
    ///
    /// # Errors
    /// A damaged document; an index beyond the end.
    pub fn document(&self, index: u64) -> Result<ReadDocument> {
        match &self.inner {
            Inner::Files(files) => {
                let mut read = files.read_stored(index)?;
                let document = &mut read.document;
                if self.kind != "shards" || document.id.is_empty() {
                    let file = files.file(index).map_or("", |file| &file.name);
                    let parts = [self.name.as_str(), file, &document.id];
                    document.id =
                        parts.into_iter().filter(|part| !part.is_empty()).collect::<Vec<_>>().join("/");
                }
                Ok(read)
            }
            Inner::Folder(folder, pairs) => {
                let pair = pairs.get(index as usize);
                let pair = pair.with_context(|| format!("source `{}` has no document {index}", self.name))?;
                folder.pair(*pair)
            }
        }
    }

    /// For each file of which something is in no document its address, and what that is.
    ///
    /// # Errors
    /// A file that has changed since it was opened.
    pub fn left_out(&self) -> Result<Vec<(String, LeftOut)>> {
        match &self.inner {
            Inner::Files(files) => files.left_out(),
            Inner::Folder(..) => Ok(Vec::new()),
        }
    }

    /// The path or address of the file that the document at `index` lies in.
    pub fn file(&self, index: u64) -> String {
        match &self.inner {
            Inner::Files(files) => files.file(index).map_or_else(String::new, |file| file.address.clone()),
            Inner::Folder(folder, pairs) => {
                let entry = pairs.get(index as usize).map_or(0, |(entry, _)| *entry);
                folder.file(entry).to_string_lossy().into_owned()
            }
        }
    }
}

/// Opens each source of `found`, in order.
///
/// # Errors
/// As [`StoredSource::open`].
pub fn open(found: &[FoundSource], store: &Store) -> Result<Vec<StoredSource>> {
    found.iter().map(|found| StoredSource::open(found, store)).collect()
}

/// Opens the sources of a task's share, in order.
///
/// # Errors
/// As [`StoredSource::open`], but files of the share may have no document: others have.
pub fn open_shares(found: &[FoundSource], store: &Store) -> Result<Vec<StoredSource>> {
    found.iter().map(|found| StoredSource::open_share(found, store)).collect()
}

impl FoundSource {
    /// The number of its files; a folder of captioned pictures is one, of the task that begins it.
    pub(crate) fn file_count(&self) -> u64 {
        let begins = self.pairs.as_ref().is_none_or(|pairs| pairs.start == 0);
        if self.folder().is_some() { u64::from(begins) } else { self.files.len() as u64 }
    }

    /// The folder of captioned pictures that it is, if it is one.
    fn open_folder(&self) -> Result<Option<PictureFolder>> {
        // Nothing held out and no order: a command looks at all of it as it is stored.
        match &self.config {
            SourceConfig::Folder { path, .. } => PictureFolder::open(&self.name, path, 0.0, 0).map(Some),
            SourceConfig::Classes { path, .. } => {
                PictureFolder::of_classes(&self.name, path, 0.0, 0).map(Some)
            }
            _ => Ok(None),
        }
    }

    /// What tasks share: files, and of a folder of captioned pictures the pairs, by name and size.
    pub(crate) fn units(&self) -> Result<Vec<(String, u64)>> {
        Ok(match self.open_folder()? {
            Some(folder) => folder.pairs().into_iter().map(|pair| (folder.pair_name(pair), 0)).collect(),
            None => self.files.iter().map(|file| (file.name.clone(), file.size)).collect(),
        })
    }

    /// Leaves the units of a share.
    pub(crate) fn keep(&mut self, share: Range<usize>) {
        if self.folder().is_some() {
            self.pairs = Some(share);
        } else {
            self.files.truncate(share.end);
            self.files.drain(..share.start.min(share.end));
        }
    }

    /// Whether a share has nothing of it.
    pub(crate) fn is_empty(&self) -> bool {
        if self.folder().is_some() {
            self.pairs.as_ref().is_some_and(Range::is_empty)
        } else {
            self.files.is_empty()
        }
    }

    /// The folder, or its list, of pictures that are one source together.
    fn folder(&self) -> Option<&Path> {
        match &self.config {
            SourceConfig::Folder { path, .. } | SourceConfig::Classes { path, .. } => Some(path),
            _ => None,
        }
    }

    /// The same source, one file each; for looking at files that may be damaged as a whole. A folder of
    /// captioned pictures stays one.
    pub fn apart(&self) -> Vec<(String, Self)> {
        if let Some(path) = self.folder() {
            return vec![(path.to_string_lossy().into_owned(), self.clone())];
        }
        // Field by field: a copy of the whole would copy the list of files for each of them.
        let one = |file: &crate::store::Blob| {
            let (name, config) = (self.name.clone(), self.config.clone());
            (
                file.address.clone(),
                Self { name, kind: self.kind, config, files: vec![file.clone()], pairs: None },
            )
        };
        self.files.iter().map(one).collect()
    }

    /// The paths of its files on this machine.
    pub fn paths(&self) -> impl Iterator<Item = &Path> {
        self.files.iter().map(|file| Path::new(&file.address)).filter(|path| path.is_file())
    }
}
