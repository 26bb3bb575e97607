//! [`BesidePictures`]: pictures that lie beside documents, until one of these names them.

use std::collections::BTreeMap;
use std::path::{Component, Path, PathBuf};

use xxhash_rust::xxh3::xxh3_64;

use crate::account::Account;
use crate::document::Document;
use crate::left_out::LeftOut;
use crate::store::Blob;

/// Pictures in folders in which documents name theirs. Which of them are read shows when all documents are.
#[derive(Clone, Debug, Default)]
pub struct BesidePictures {
    /// Those that no document has named yet, by the last part of their path.
    waiting: BTreeMap<String, Vec<PathBuf>>,
    there: u64,
    /// Hashes of the paths of the others.
    named: Vec<u64>,
}

impl BesidePictures {
    pub(super) fn add(&mut self, file: &Blob) {
        let path = PathBuf::from(&file.address);
        let name = path.file_name().unwrap_or_default().to_string_lossy().into_owned();
        self.waiting.entry(name).or_default().push(path);
        self.there += 1;
    }

    pub(super) fn merge(&mut self, other: Self) {
        for (name, mut paths) in other.waiting {
            self.waiting.entry(name).or_default().append(&mut paths);
        }
        self.there += other.there;
        self.named.extend(other.named);
    }

    /// What looks for the names of a document's pictures, for [`BesidePictures::read`]; it finds none, where
    /// there are no pictures.
    pub fn names(&self) -> impl Fn(&Document) -> Vec<String> + Sync + use<> {
        let any = self.there > 0;
        move |document| {
            let names = document.pictures().filter(|_| any).map(|image| image.name().to_owned());
            names.filter(|name| !name.is_empty()).collect()
        }
    }

    /// A document with these pictures was read. A name is the end of a path.
    pub fn read(&mut self, names: &[String]) {
        for name in names {
            let parts = Path::new(name).components().filter(|part| *part != Component::CurDir);
            let path: PathBuf = parts.collect();
            let Some(last) = path.file_name().map(|last| last.to_string_lossy().into_owned()) else {
                continue;
            };
            if let Some(waiting) = self.waiting.get_mut(&last) {
                let named = waiting.extract_if(.., |picture| picture.ends_with(&path));
                self.named.extend(named.map(|picture| xxh3_64(picture.as_os_str().as_encoded_bytes())));
            }
        }
    }

    /// What has become of them by now.
    pub fn account(&self) -> Account {
        account(self.there, self.named.len() as u64)
    }

    /// How many there are.
    pub(crate) fn there(&self) -> u64 {
        self.there
    }

    /// Hashes of the paths of those that documents have named.
    pub(crate) fn named(&self) -> Vec<u64> {
        self.named.clone()
    }
}

/// What has become of pictures of which documents have named so many.
pub(crate) fn account(there: u64, named: u64) -> Account {
    let left_out = LeftOut::of([("a picture that no document which was read names", there - named)]);
    Account { there, read: named, skipped: LeftOut::default(), left_out }
}
