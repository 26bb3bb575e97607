//! What other people's files do to us: each fault that was seen is a test that says what is right, with cases
//! beside it that are of the same kind.

mod account;
mod archives;
mod conversations;
mod detection;
mod neighbours;
mod pages;
mod pictures;
mod sameness;
mod spread;
mod text;
mod unread;
mod wrong_files;

use mm1_data::examine::{Examination, PictureCheck};
use mm1_data::left_out::LeftOut;
use mm1_data::source::detect::{DetectOptions, Detected, detect};
use mm1_data::source::files::ReadDocument;
use mm1_data::source::stored::StoredSource;
use mm1_data::store::{Store, StoreSpec};

use crate::commands::opened;
use crate::source::sketch;
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

/// A path of `testdata/faults`.
pub(crate) fn case(name: &str) -> String {
    crate::testdata(&format!("faults/{name}")).canonicalize().unwrap().to_string_lossy().into_owned()
}

/// All documents of a source in stored order, or why there is none.
pub(crate) fn documents(source: &StoredSource) -> Vec<Result<ReadDocument, String>> {
    (0..source.documents()).map(|i| source.document(i).map_err(|error| format!("{error:#}"))).collect()
}

/// The texts and pictures of each document of the one source of a path, in short, or the reason why it is not
/// read; and what documents lack, all together.
pub(crate) fn read(path: &str, edits: &[&str]) -> (Vec<Result<String, String>>, LeftOut) {
    let sources = opened(&[path], None, edits).unwrap();
    assert_eq!(sources.len(), 1, "{path}");
    let mut left_out = LeftOut::default();
    let sketches = documents(&sources[0]).into_iter().map(|read| {
        read.map(|read| {
            left_out.merge(&read.left_out);
            sketch(&read.document)
        })
    });
    (sketches.collect(), left_out)
}

/// How many of the results are documents, and the reasons of the others.
pub(crate) fn told_apart(results: &[Result<String, String>]) -> (usize, Vec<&String>) {
    let reasons: Vec<&String> = results.iter().filter_map(|result| result.as_ref().err()).collect();
    (results.len() - reasons.len(), reasons)
}
