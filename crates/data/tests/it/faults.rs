//! What other people's files do to us: each fault that was seen is a test that says what is right, with cases
//! beside it that are of the same kind.

mod pictures;
mod text;

use mm1_data::examine::{Examination, PictureCheck};
use mm1_data::source::detect::{DetectOptions, Detected, detect};
use mm1_data::store::{Store, StoreSpec};

use crate::testdata;

fn store(cache: &tempfile::TempDir) -> Store {
    Store::new(StoreSpec { cache: cache.path().to_owned(), ..StoreSpec::default() }).unwrap()
}

/// What a path of `testdata/faults`, or any other, is.
fn detected(path: &std::path::Path, store: &Store) -> Detected {
    detect(&[path.to_string_lossy().into_owned()], &DetectOptions::default(), store).unwrap()
}

/// A folder or file of `testdata/faults`.
fn fault(name: &str) -> std::path::PathBuf {
    testdata("faults").join(name)
}

const PIXELS: Examination = Examination { look: PictureCheck::Pixels, threads: 2, large: false };
