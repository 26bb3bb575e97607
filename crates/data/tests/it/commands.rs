//! What is done with data before training: formats told, shards made, documents counted, checked and shown.

mod detect;
mod import;
mod show;
mod statistics;
mod task;
mod verify;

use std::fs;
use std::path::{Path, PathBuf};

use anyhow::Result;
use mm1_data::examine::{Examination, PictureCheck};
use mm1_data::source::detect::{DetectOptions, Detected, detect};
use mm1_data::source::stored::{self, StoredSource};
use mm1_data::store::Store;

use crate::source::store;

/// What paths are told to be, with `--set` edits.
pub(crate) fn told(paths: &[&str], kind: Option<&str>, edits: &[&str]) -> Result<Detected> {
    let (_cache, store) = store();
    told_from(&store, paths, kind, edits)
}

/// The same by a store of the caller's.
fn told_from(store: &Store, paths: &[&str], kind: Option<&str>, edits: &[&str]) -> Result<Detected> {
    let edits: Vec<String> = edits.iter().map(|edit| (*edit).to_owned()).collect();
    let paths: Vec<String> = paths.iter().map(|path| (*path).to_owned()).collect();
    detect(&paths, &DetectOptions::new(kind.map(str::to_owned), &edits)?, store)
}

/// The opened sources of paths.
pub(crate) fn opened(paths: &[&str], kind: Option<&str>, edits: &[&str]) -> Result<Vec<StoredSource>> {
    let (cache, store) = store();
    let detected = told(paths, kind, edits)?.clear()?;
    let sources = stored::open(&detected.sources, &store);
    // Unpacked files are read from the cache, which the sources outlive.
    std::mem::forget(cache);
    sources
}

pub(crate) fn how(threads: usize) -> Examination {
    Examination { look: PictureCheck::Pixels, threads, large: false }
}

/// A PNG of one colour.
pub(crate) fn png(folder: &Path, name: &str, [width, height]: [u32; 2], colour: [u8; 3]) -> PathBuf {
    let path = folder.join(name);
    fs::create_dir_all(path.parent().unwrap()).unwrap();
    ::image::RgbImage::from_pixel(width, height, ::image::Rgb(colour)).save(&path).unwrap();
    path
}

/// A copy of the samples of all formats.
fn samples(folder: &Path) -> PathBuf {
    let to = folder.join("samples");
    copy(&crate::testdata("data"), &to);
    to
}

fn copy(from: &Path, to: &Path) {
    fs::create_dir_all(to).unwrap();
    for entry in fs::read_dir(from).unwrap() {
        let entry = entry.unwrap();
        let place = to.join(entry.file_name());
        if entry.file_type().unwrap().is_dir() {
            copy(&entry.path(), &place);
        } else {
            fs::copy(entry.path(), place).unwrap();
        }
    }
}
