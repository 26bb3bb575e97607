//! Parquet, written by `datasets` and pyarrow.

use std::collections::BTreeSet;
use std::fs;
use std::sync::Arc;

use mm1_data::document::DocumentKind;
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
    assert_eq!(
        (document.id.as_str(), document.kind),
        ("mine/captioned.parquet/1/1", DocumentKind::Captioned)
    );
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

/// A file of one page that unpacks to 4 MiB, with `claim` in place of that in its page header and its footer.
fn bomb(codec: &str, claim: Option<u32>) -> Vec<String> {
    let mut bytes = fs::read(sample(&format!("bomb-{codec}.parquet"))).unwrap();
    if let Some(claim) = claim {
        let (page, chunk) = sizes(&bytes);
        for at in [page, chunk] {
            let len = 1 + bytes[at..].iter().position(|byte| byte & 0x80 == 0).unwrap();
            // The same length as before: a number may be written with empty groups of bits at its end.
            for i in 0..len {
                let more = if i + 1 < len { 0x80 } else { 0 };
                bytes[at + i] = more | ((u64::from(claim) * 2) >> (7 * i)) as u8 & 0x7F;
            }
        }
    }
    let folder = tempfile::tempdir().unwrap();
    let path = written(folder.path(), "bomb.parquet", bytes);
    sketches(json!({"kind": "parquet-text", "path": path, "memory_mib": 1}))
}

/// Where the unpacked size is written as the second field of the page header, and the last time in the file's
/// footer.
fn sizes(bytes: &[u8]) -> (usize, usize) {
    let text = (4 << 20) + 4;
    let number = |slack: usize| {
        let mut left = 2 * (text + slack) as u64;
        let mut out = Vec::new();
        while left >= 0x80 {
            out.push(left as u8 | 0x80);
            left >>= 7;
        }
        out.push(left as u8);
        out
    };
    let find = |from: &[u8], slack| from.windows(4).position(|window| window == number(slack));
    // The page has levels before the text, the chunk the page header too.
    let page = (0..64).find_map(|slack| find(&bytes[..64], slack)).unwrap();
    let footer =
        bytes.len() - 8 - u32::from_le_bytes(*bytes[bytes.len() - 8..].first_chunk().unwrap()) as usize;
    let chunk = (0..256).find_map(|slack| find(&bytes[footer..], slack)).unwrap();
    (page, footer + chunk)
}

#[test]
fn pages_that_unpack_to_more_than_the_memory_are_refused() {
    let above = "above memory_mib = 1: raise it";
    for codec in ["zstd", "gzip"] {
        let honest = bomb(codec, None);
        assert!(honest[0].contains("its rows take") && honest[0].contains(above), "{codec}: {}", honest[0]);
        // The footer and the page claim a little: only unpacking shows the lie.
        let small = bomb(codec, Some(1000));
        assert!(!small[0].ends_with("<end>") && small[0].contains("row group 0"), "{codec}: {}", small[0]);
        assert!(codec == "zstd" || small[0].contains("bytes when unpacked, above"), "{}", small[0]);
    }
    // The footer lies, the page does not.
    let mut bytes = fs::read(sample("bomb-zstd.parquet")).unwrap();
    let (_, chunk) = sizes(&bytes);
    bytes[chunk..chunk + 4].copy_from_slice(&[0x82, 0x80, 0x80, 0]);
    let folder = tempfile::tempdir().unwrap();
    let path = written(folder.path(), "bomb.parquet", bytes);
    let lies = sketches(json!({"kind": "parquet-text", "path": path, "memory_mib": 1}));
    assert!(lies[0].contains("a page of 41943") && lies[0].contains(above), "{}", lies[0]);
    assert!(!lies[0].contains('\n'), "{}", lies[0]);
}

#[test]
fn an_encoding_whose_memory_cannot_be_told_is_refused() {
    let sketches = sketches(json!({"kind": "parquet-text", "path": sample("delta.parquet")}));
    assert!(
        sketches[0].contains("DELTA_BYTE_ARRAY") && sketches[0].contains("write it as PLAIN"),
        "{}",
        sketches[0]
    );
}
