//! Sources as a recipe writes them, and one module for each format.

mod conversation;
mod few_shot;
mod html;
mod instructions;
mod interleaved;
mod parquet;
mod server;
mod shard;
mod store;
mod text;
mod webdataset;

use std::ops::Deref;
use std::path::Path;

use anyhow::Result;
use mm1_data::document::{Document, Image};
use mm1_data::image::decode;
use mm1_data::source::files::Files;
use mm1_data::source::{SourceConfig, Split};
use mm1_data::store::{Store, StoreSpec};
use serde_json::{Value, from_value, json};
use tempfile::TempDir;

/// A store with a cache of its own.
pub(crate) fn store() -> (TempDir, Store) {
    let cache = tempfile::tempdir().unwrap();
    let store = Store::new(StoreSpec { cache: cache.path().to_owned(), ..StoreSpec::default() }).unwrap();
    (cache, store)
}

/// An open source and its cache.
pub(crate) struct Opened {
    files: Files,
    _cache: TempDir,
}

impl Deref for Opened {
    type Target = Files;

    fn deref(&self) -> &Files {
        &self.files
    }
}

/// Opens a source as a recipe writes it, under the name `mine`.
pub(crate) fn open(config: Value) -> Result<Opened> {
    let (cache, store) = store();
    Ok(Opened { files: from_value::<SourceConfig>(config)?.open_files("mine", 7, &store)?, _cache: cache })
}

/// The one line of an error, which names the source.
pub(crate) fn refusal(config: Value) -> String {
    let error = format!("{:#}", open(config).err().unwrap());
    assert!(!error.contains('\n') && error.contains("source `mine`"), "{error}");
    error
}

/// All documents in stored order.
pub(crate) fn stored(files: &Files) -> Vec<Result<Document>> {
    (0..files.documents()).map(|i| files.stored(i)).collect()
}

/// The sketch of each document, or the reason why there is none.
pub(crate) fn sketches(config: Value) -> Vec<String> {
    let files = open(config).unwrap();
    let sketch = |document: Result<Document>| document.map_or_else(|e| format!("{e:#}"), |d| sketch(&d));
    stored(&files).into_iter().map(sketch).collect()
}

/// What a document shows, in short: its text, and for a picture of the samples its number in brackets.
pub(crate) fn sketch(document: &Document) -> String {
    use mm1_data::document::Segment;
    let piece = |segment: &Segment| match segment {
        Segment::Text { text, .. } => text.clone(),
        Segment::Image(Image::File { bytes, .. }) => {
            let picture = decode(bytes, 100).unwrap();
            format!("[{}]", (f32::from(picture.rgb[0]) / 20.0).round())
        }
        Segment::Image(Image::Pixels(_)) => "[pixels]".to_owned(),
        Segment::Token { token, .. } => format!("<{token:?}>").to_lowercase(),
    };
    document.segments.iter().map(piece).collect()
}

/// A sample of `testdata/data`.
pub(crate) fn sample(name: &str) -> String {
    crate::testdata(&format!("data/{name}")).canonicalize().unwrap().to_string_lossy().into_owned()
}

/// A file written for one test.
pub(crate) fn written(folder: &Path, name: &str, bytes: impl AsRef<[u8]>) -> String {
    let path = folder.join(name);
    std::fs::create_dir_all(path.parent().unwrap()).unwrap();
    std::fs::write(&path, bytes).unwrap();
    path.to_string_lossy().into_owned()
}

#[test]
fn a_recipe_names_a_source_by_its_kind() {
    let folder = crate::folder::folder(5);
    let config: SourceConfig = from_value(json!({"kind": "folder", "path": folder.path()})).unwrap();
    assert!(matches!(config, SourceConfig::Folder { test_share: 0.1, .. }));
    let source = config.open("mine", 1, None).unwrap();
    assert_eq!(source.len(Split::Train).unwrap() + source.len(Split::Test).unwrap(), 5);

    let config: SourceConfig = from_value(json!({"kind": "emoji-chat"})).unwrap();
    assert!(config.open("chat", 1, None).err().unwrap().to_string().contains("source `chat`"));
}

#[test]
fn unknown_kinds_and_fields_are_refused() {
    for wrong in [
        json!({"kind": "folders", "path": "x"}),
        json!({"kind": "folder", "path": "x", "share": 0.1}),
        json!({"kind": "emoji-text", "path": "x"}),
        json!({"kind": "folder"}),
        json!({"kind": "webdataset"}),
        json!({"kind": "webdataset", "path": 3}),
        json!({"kind": "webdataset", "path": "x", "captions": "txt"}),
        json!({"path": "x"}),
    ] {
        assert!(from_value::<SourceConfig>(wrong.clone()).is_err(), "{wrong}");
    }
}

/// A tagged enum with `deny_unknown_fields` refuses a field of another kind, whatever the kind.
#[test]
fn every_kind_refuses_the_settings_of_the_others() {
    let built_in = [
        "emoji-captioned",
        "emoji-scenes",
        "emoji-interleaved",
        "emoji-text",
        "emoji-chat",
        "emoji-pairs",
        "emoji-binding",
        "emoji-signs",
        "emoji-renderings",
        "emoji-stickers",
        "emoji-detail",
        "emoji-detail-chat",
        "emoji-quiz",
        "emoji-descriptions",
        "emoji-vqa",
        "emoji-reasoning",
    ];
    let all = json!({
        "path": "p", "test_share": 0.2, "caption": "txt", "image": "i", "text": "t", "images": "i",
        "texts": "t", "turns": "c", "pictures": "p", "missing": "refuse", "memory_mib": 8, "documents": "file", "of": "s", "requests": ["r"], "shots": 4, "size": 3, "weight": 1.0,
    });
    let own: Vec<(&str, &[&str])> = [
        ("classes", &["path", "test_share"][..]),
        ("folder", &["path", "test_share"]),
        ("shards", &["path", "test_share"]),
        ("webdataset", &["path", "test_share", "caption"]),
        ("parquet-captioned", &["path", "test_share", "image", "text", "memory_mib"]),
        ("obelics", &["path", "test_share", "images", "texts", "pictures", "missing", "memory_mib"]),
        ("mmc4", &["path", "test_share", "pictures", "missing"]),
        ("html", &["path", "test_share", "missing"]),
        ("text", &["path", "test_share", "documents"]),
        ("json-text", &["path", "test_share", "text"]),
        ("parquet-text", &["path", "test_share", "text", "memory_mib"]),
        ("conversations", &["path", "test_share", "pictures"]),
        ("instructions", &["of", "requests"]),
        ("few-shot", &["of", "shots"]),
        ("parquet-conversations", &["path", "test_share", "turns", "images", "pictures", "memory_mib"]),
    ]
    .into_iter()
    .chain(built_in.map(|kind| (kind, &[][..])))
    .collect();
    for (kind, fields) in own {
        let mut config = json!({ "kind": kind });
        fields.iter().for_each(|&field| config[field] = all[field].clone());
        from_value::<SourceConfig>(config.clone()).unwrap_or_else(|error| panic!("{kind}: {error}"));
        for (field, value) in all.as_object().unwrap().iter().filter(|(f, _)| !fields.contains(&f.as_str())) {
            let mut wrong = config.clone();
            wrong[field] = value.clone();
            let error =
                from_value::<SourceConfig>(wrong).expect_err(&format!("{kind} takes {field}")).to_string();
            assert!(error.contains("unknown field") && error.contains(field), "{kind}, {field}: {error}");
        }
    }
    assert!(from_value::<SourceConfig>(json!({"test_share": 0.2})).is_err(), "a kind is needed");
}
