//! A mixture of files of many formats, killed and resumed.

use std::fs;
use std::path::Path;
use std::sync::Arc;
use std::time::Duration;

use mm1_data::augment::PictureViews;
use mm1_data::batch::{Batch, BatchContent};
use mm1_data::document::{Document, DocumentKind, Segment};
use mm1_data::image::{DecodeBudget, ImageSpec};
use mm1_data::loader::{Cursor, Loader, LoaderConfig, RankShare, RowFill};
use mm1_data::mixture::{Mixture, MixturePart};
use mm1_data::pack::Packing;
use mm1_data::shard::{Provenance, ShardWriter};
use mm1_data::source::{SourceConfig, Split};
use mm1_data::store::{Store, StoreSpec};
use rand::{Rng as _, SeedableRng as _};
use rand_chacha::ChaCha8Rng;
use serde_json::{Value, from_value, json};
use tempfile::TempDir;

use crate::source::{sample, written};
use crate::{end, sentences, tokenizer};

const LENGTH: usize = 64;
const THREADS: [usize; 5] = [1, 2, 3, 7, 16];

/// A folder with a source of each format, some of whose samples are damaged.
struct Corpus {
    folder: TempDir,
    sources: Vec<(&'static str, Value)>,
}

impl Corpus {
    fn new() -> Self {
        let folder = tempfile::tempdir().unwrap();
        let at = |name: &str| folder.path().join(name).to_string_lossy().into_owned();
        webdataset(&folder.path().join("pairs"));
        pages(&folder.path().join("pages"));
        shards(&folder.path().join("shards"));
        let book = sentences().take(60).collect::<Vec<_>>().join(" ");
        written(folder.path(), "books/long.txt", book);
        written(folder.path(), "books/short.txt", "A short one.");
        let pictures = sample("pictures");
        let sources = vec![
            ("captioned", json!({"kind": "parquet-captioned", "path": sample("captioned.parquet")})),
            ("pairs", json!({"kind": "webdataset", "path": at("pairs")})),
            ("obelics", json!({"kind": "obelics", "path": sample("obelics-bytes.parquet")})),
            ("mmc4", json!({"kind": "mmc4", "path": sample("mmc4.jsonl"), "pictures": pictures})),
            ("pages", json!({"kind": "html", "path": at("pages")})),
            ("lines", json!({"kind": "json-text", "path": sample("text.jsonl.zst")})),
            ("books", json!({"kind": "text", "path": at("books")})),
            ("shards", json!({"kind": "shards", "path": at("shards")})),
            ("chat", json!({"kind": "conversations", "path": sample("llava.json"), "pictures": pictures})),
        ];
        Self { folder, sources }
    }

    /// Opens everything anew, as a process that begins does.
    fn config(&self, threads: usize, weight_of_pages: f64) -> LoaderConfig {
        let cache = self.folder.path().join("cache");
        let store = Store::new(StoreSpec { cache, ..StoreSpec::default() }).unwrap();
        let part = |(name, config): &(&str, Value)| {
            let mut config = config.clone();
            config["test_share"] = json!(0.0);
            let source = from_value::<SourceConfig>(config).unwrap().open_with(name, 7, None, &store);
            let weight = if *name == "pages" { weight_of_pages } else { 1.0 };
            MixturePart { name: (*name).to_owned(), source: source.unwrap(), weight }
        };
        let (tokenizer, views) = (tokenizer(), PictureViews::default());
        let packing = Packing {
            tokenizer,
            image: ImageSpec::new(8),
            views,
            image_tokens: 4,
            length: LENGTH,
            decoding: DecodeBudget::default(),
        };
        let mixture = Mixture::new(self.sources.iter().map(part).collect()).unwrap();
        LoaderConfig {
            mixture,
            packing,
            rows: 4,
            fill: RowFill::Packed,
            content: BatchContent::Language,
            share: RankShare::default(),
            seed: 5,
            threads,
            max_skipped_share: 0.9,
        }
    }

    fn run(&self, config: LoaderConfig, cursor: Cursor, batches: usize) -> Vec<(Batch, Cursor)> {
        let mut loader = Loader::start(config, cursor).unwrap();
        (0..batches).map(|_| loader.next().unwrap()).collect()
    }
}

/// Archives packed in three ways, one of them with a sample that lacks its picture.
fn webdataset(folder: &Path) {
    fs::create_dir_all(folder).unwrap();
    for name in ["pairs.tar", "pairs.tar.gz", "pairs.tar.zst"] {
        fs::copy(sample(name), folder.join(name)).unwrap();
    }
    let mut archive = tar::Builder::new(Vec::new());
    for (name, text) in [("a.txt", "no picture"), ("b.jpg", "no caption")] {
        let mut header = tar::Header::new_ustar();
        header.set_size(text.len() as u64);
        archive.append_data(&mut header, name, text.as_bytes()).unwrap();
    }
    written(folder, "damaged.tar", archive.into_inner().unwrap());
}

/// Pages with a picture in each, one of which is damaged and one of which is missing.
fn pages(folder: &Path) {
    for i in 0..7 {
        fs::create_dir_all(folder).unwrap();
        fs::copy(Path::new(&sample("pictures")).join("2.jpg"), folder.join(format!("{i}.jpg"))).unwrap();
        written(folder, &format!("{i}.html"), format!("<p>Page {i}.<img src=\"{i}.jpg\"><p>Its end."));
    }
    written(folder, "3.jpg", "no picture");
    fs::remove_file(folder.join("4.jpg")).unwrap();
}

/// Documents with and without pictures, one of them without anything to learn.
fn shards(folder: &Path) {
    let origin = Provenance { source: "test".into(), licence: "MIT".into(), attribution: "nobody".into() };
    let mut writer = ShardWriter::new(folder, "mixed", origin, 4000).unwrap();
    for i in 0..11 {
        let picture = fs::read(Path::new(&sample("pictures")).join("0.jpg")).unwrap();
        let mut segments = vec![Segment::text(format!("Document {i} in a shard.")), end()];
        if i % 2 == 0 {
            segments.insert(0, Segment::Image(picture.into()));
        } else if i == 5 {
            segments = vec![Segment::prompt("read only")];
        }
        writer.push(&Document { id: i.to_string(), kind: DocumentKind::Interleaved, segments }).unwrap();
    }
    writer.finish().unwrap();
}

#[test]
fn killed_twenty_times_with_other_threads_a_mixture_of_nine_formats_is_the_unbroken_run() {
    let corpus = Corpus::new();
    let whole = corpus.run(corpus.config(2, 1.0), Cursor::default(), 120);
    let mut rng = ChaCha8Rng::seed_from_u64(11);
    let (mut at, mut stored, mut inside) = (0, serde_json::to_string(&Cursor::default()).unwrap(), 0);
    for kill in 0..20 {
        let cursor: Cursor = serde_json::from_str(&stored).unwrap();
        inside += usize::from(cursor.sources.values().any(|source| source.pieces > 0));
        let mut loader = Loader::start(corpus.config(THREADS[kill % 5], 1.0), cursor).unwrap();
        for _ in 0..rng.random_range(1..=6) {
            let (batch, cursor) = loader.next().unwrap();
            assert_eq!((&batch, &cursor), (&whole[at].0, &whole[at].1), "batch {at} after {kill} kills");
            (at, stored) = (at + 1, serde_json::to_string(&cursor).unwrap());
        }
        // What the threads have prepared meanwhile is lost.
        std::thread::sleep(Duration::from_millis(rng.random_range(0..15)));
    }
    let rest = corpus.run(corpus.config(3, 1.0), serde_json::from_str(&stored).unwrap(), whole.len() - at);
    assert_eq!(rest, whole[at..]);

    assert!(at > 40 && inside > 3, "{at} batches, {inside} resumes inside a long text");
    let cursor = &whole.last().unwrap().1;
    let config = corpus.config(1, 1.0);
    for MixturePart { name, source, .. } in config.mixture.parts() {
        let (taken, len) = (cursor.sources[name].next, source.len(Split::Train).unwrap());
        assert!(taken > 2 * len, "{name}: {taken} of {len} documents are less than two epochs");
    }
    for name in ["pairs", "mmc4", "pages", "shards", "chat"] {
        assert!(cursor.sources[name].skipped > 1, "{name}: {:?}", cursor.sources[name]);
    }
    assert_eq!(cursor.sources["books"].truncated, 0, "long texts go on in the next row");
}

#[test]
fn another_weight_of_one_source_keeps_the_places_of_all() {
    let corpus = Corpus::new();
    let whole = corpus.run(corpus.config(2, 1.0), Cursor::default(), 80);
    let other = corpus.run(corpus.config(2, 4.0), whole[19].1.clone(), 60);
    assert!(other.iter().zip(&whole[20..]).any(|(a, b)| a != b), "the weight changes the draws");
    for (name, _) in &corpus.sources {
        let samples = |steps: &[(Batch, Cursor)]| -> Vec<String> {
            let samples = steps.iter().flat_map(|(batch, _)| batch.samples().map(str::to_owned));
            samples.filter(|sample| sample.starts_with(&format!("{name}/"))).collect()
        };
        let (expected, after) = (samples(&whole[20..]), samples(&other));
        let len = expected.len().min(after.len());
        assert!(len > 4, "{name}: {len} samples");
        assert_eq!(after[..len], expected[..len], "{name}");
    }
    let taken = |cursor: &Cursor| cursor.sources["pages"].next;
    assert!(taken(&other[59].1) > taken(&whole[79].1));
}

/// The same source opened twice gives the same documents, so a killed process needs the cursor only.
#[test]
fn sources_opened_anew_give_the_same_order() {
    let corpus = Corpus::new();
    let ids = || -> Vec<String> {
        let config = corpus.config(1, 1.0);
        let parts = config.mixture.parts().iter().map(|part| Arc::clone(&part.source));
        parts
            .flat_map(|source| {
                (0..12).map(move |i| {
                    source.document(Split::Train, i).map_or_else(|e| format!("{e:#}"), |d| d.id)
                })
            })
            .collect()
    };
    assert_eq!(ids(), ids());
}
