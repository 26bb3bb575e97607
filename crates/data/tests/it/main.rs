//! The integration tests of `mm1-data`, in one binary.

#![expect(clippy::unwrap_used, reason = "a test fails by panicking")]

mod augment;
mod chat;
mod commands;
mod faults;
mod filter;
mod folder;
mod foreign;
mod fusion;
mod gguf_tokenizer;
mod image;
mod layout;
mod loader;
mod memory;
mod mixed;
mod pack;
mod preprocessor;
mod recaption;
mod sentence_piece;
mod share;
mod source;
mod tiles;
mod tiling;
mod tokenizer;
#[cfg(feature = "emoji")]
mod world;

use std::path::PathBuf;
use std::sync::{Arc, OnceLock};

use mm1_data::document::{Document, DocumentKind, Picture, Segment, Special};
use mm1_data::tokenizer::Tokenizer;

/// A file of the workspace's `testdata` folder.
fn testdata(name: &str) -> PathBuf {
    PathBuf::from(env!("CARGO_MANIFEST_DIR")).join("../../testdata").join(name)
}

/// Sentences that differ from each other.
fn sentences() -> impl Iterator<Item = String> + Send {
    let animals = ["cat", "dog", "whale", "owl", "fox"];
    let places = ["on the red mat", "under the table", "near two blue boats", "in a green field"];
    (0..400).map(move |i| format!("A {} sits {}, number {i}.", animals[i % 5], places[i / 5 % 4]))
}

fn tokenizer() -> Arc<Tokenizer> {
    static TRAINED: OnceLock<Arc<Tokenizer>> = OnceLock::new();
    Arc::clone(TRAINED.get_or_init(|| Arc::new(Tokenizer::train(sentences(), 512).unwrap())))
}

/// A picture of one colour.
fn plain(width: u32, height: u32, rgb: [u8; 3]) -> Arc<Picture> {
    Arc::new(Picture { width, height, rgb: rgb.repeat((width * height) as usize) })
}

fn document(id: &str, segments: Vec<Segment>) -> Document {
    Document { id: id.to_owned(), kind: DocumentKind::Interleaved, segments }
}

fn end() -> Segment {
    Segment::Token { token: Special::End, learn: true }
}
