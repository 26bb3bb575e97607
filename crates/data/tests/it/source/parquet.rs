//! Parquet, written by `datasets` and pyarrow.

use std::collections::BTreeSet;
use std::fs;
use std::sync::Arc;

use mm1_data::document::Kind;
use mm1_data::source::{Source as _, Split};
use serde_json::json;

use super::{open, refusal, sample, sketches, written};

#[test]
fn captioned_pictures_of_hugging_face_are_read() {
    let config = json!({"kind": "parquet-captioned", "path": sample("captioned.parquet")});
    assert_eq!(
        sketches(config.clone()),
        (0..10).map(|i| format!("[{i}]picture {i}<end>")).collect::<Vec<_>>()
    );
    let document = open(config).unwrap().stored(4).unwrap();
    assert_eq!((document.id.as_str(), document.kind), ("mine/captioned.parquet/1/1", Kind::Captioned));
}

#[test]
fn a_column_of_text_is_read() {
    let sketches = sketches(json!({"kind": "parquet-text", "path": sample("text.parquet")}));
    assert_eq!(sketches[..6], (0..6).map(|i| format!("Text number {i}.<end>")).collect::<Vec<_>>());
    assert!(sketches[6].contains("text.parquet: 3/0: the text is missing"), "{}", sketches[6]);
}

#[test]
fn an_epoch_shows_each_row_once_whatever_the_threads() {
    let config = json!({"kind": "parquet-captioned", "path": sample("captioned.parquet"), "test_share": 0.0});
    let files = Arc::new(open(config).unwrap());
    let ids = |range: std::ops::Range<u64>| -> Vec<String> {
        range.map(|i| files.document(Split::Train, i).unwrap().id).collect()
    };
    let expected = ids(0..30);
    assert_eq!(expected[10..20].iter().collect::<BTreeSet<_>>().len(), 10);
    assert_ne!(expected[..10], expected[10..20]);
    std::thread::scope(|scope| {
        let threads: Vec<_> = (0..6).map(|_| scope.spawn(|| ids(0..30))).collect();
        threads.into_iter().for_each(|thread| assert_eq!(thread.join().unwrap(), expected));
    });
}

#[test]
fn wrong_columns_and_types_are_named() {
    let path = sample("captioned.parquet");
    let error = refusal(json!({"kind": "parquet-captioned", "path": path, "image": "picture"}));
    assert!(error.contains("no column \"picture\"; there are: image, text"), "{error}");
    let swapped =
        sketches(json!({"kind": "parquet-captioned", "path": path, "image": "text", "text": "image"}));
    assert!(swapped[0].contains("0/0: the caption is a struct, not text"), "{}", swapped[0]);
    let numbers = sketches(json!({"kind": "parquet-text", "path": sample("text.parquet"), "text": "id"}));
    assert!(numbers[0].contains("the text is a number"), "{}", numbers[0]);
    assert!(refusal(json!({"kind": "parquet-text", "path": path, "memory_mib": 0})).contains("memory_mib"));
}

#[test]
fn no_damage_panics_or_hangs() {
    let folder = tempfile::tempdir().unwrap();
    let bytes = fs::read(sample("captioned.parquet")).unwrap();
    assert!(
        refusal(json!({"kind": "parquet-text", "path": sample("text.jsonl")})).contains("not a Parquet file")
    );
    let (mut opened, mut read) = (0, 0);
    for i in 0..300 {
        let mut damaged = bytes.clone();
        // Every part of the file is hit: pages, page headers and the footer.
        let at = i * bytes.len() / 300;
        damaged[at] ^= 1 << (i % 8);
        damaged[at + 1] = damaged[at + 1].wrapping_add(i as u8);
        let path = written(folder.path(), &format!("{i}.parquet"), damaged);
        let config = json!({"kind": "parquet-captioned", "path": path});
        if let Ok(files) = open(config) {
            opened += 1;
            read += super::stored(&files).iter().filter(|result| result.is_ok()).count();
        }
    }
    assert!(opened > 100 && read > 1000, "{opened} files opened, {read} rows read");
    for len in [0, 3, 4, 8, 12, bytes.len() / 2, bytes.len() - 1] {
        let path = written(folder.path(), "cut.parquet", &bytes[..len]);
        refusal(json!({"kind": "parquet-captioned", "path": path}));
    }
}
