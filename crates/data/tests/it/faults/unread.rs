//! A caption whose picture is not read goes with it, names agree whatever their case, and a file about the
//! data is no data.

use std::fs;

use mm1_data::source::{SourceConfig, Split};
use serde_json::{from_value, json};

use super::{case, documents};
use crate::commands::{opened, told};
use crate::source::written;

/// The files that are left out, by their names, with reasons.
fn left(path: &str) -> Vec<(String, String)> {
    let detected = told(&[path], None, &[]).unwrap().clear().unwrap();
    let mut left: Vec<(String, String)> = detected
        .left
        .iter()
        .map(|left| (left.file.rsplit('/').next().unwrap().to_owned(), left.reason.clone()))
        .collect();
    left.sort();
    left
}

#[test]
fn fault_12_a_caption_goes_with_its_picture() {
    let path = case("12-formats-not-read/pictures");
    let sources = opened(&[&path], None, &[]).unwrap();
    assert_eq!((sources.len(), sources[0].kind(), sources[0].documents()), (1, "folder", 6));
    assert!(documents(&sources[0]).iter().all(Result::is_ok));
    let not_read = "a picture of a format that is not read: write JPEG, PNG or WebP";
    let caption = "a caption whose picture is not read";
    let left = left(&path);
    let left: Vec<(&str, &str)> =
        left.iter().map(|(file, reason)| (file.as_str(), reason.as_str())).collect();
    assert_eq!(
        left,
        [
            ("README.txt", "a text about the data"),
            ("x-avif.avif", not_read),
            ("x-avif.txt", caption),
            ("x-heic.heic", not_read),
            ("x-heic.txt", caption),
        ]
    );
    assert_eq!(fs::read_dir(&path).unwrap().count(), 2 * 6 + left.len(), "every file is read or left out");
}

#[test]
fn fault_20_names_agree_whatever_their_case() {
    for folder in ["folder", "folder-TXT"] {
        let path = case(&format!("20-upper-case-endings/{folder}"));
        let sources = opened(&[&path], None, &[]).unwrap();
        assert_eq!((sources.len(), sources[0].kind(), sources[0].documents()), (1, "folder", 3), "{folder}");
        assert!(documents(&sources[0]).iter().all(Result::is_ok));
        let config = json!({"kind": "folder", "path": path});
        let source = from_value::<SourceConfig>(config).unwrap().open("mine", 1, None).unwrap();
        assert_eq!(source.len(Split::Train).unwrap() + source.len(Split::Test).unwrap(), 3);
    }
    let sources = opened(&[&case("20-upper-case-endings/upper.tar")], None, &[]).unwrap();
    assert_eq!(documents(&sources[0]).iter().filter(|read| read.is_ok()).count(), 3);
}

#[test]
fn stems_agree_whatever_their_case_and_the_exact_one_goes_first() {
    let folder = tempfile::tempdir().unwrap();
    let put = |name: &str| fs::copy(case("44-openai-parts/0.jpg"), folder.path().join(name)).unwrap();
    put("Photo.JPG");
    put("two.jpg");
    written(folder.path(), "photo.txt", "a photo");
    written(folder.path(), "TWO.txt", "upper");
    written(folder.path(), "two.txt", "lower");
    let sources = opened(&[folder.path().to_str().unwrap()], None, &[]).unwrap();
    let texts: Vec<String> = documents(&sources[0])
        .into_iter()
        .map(|read| read.unwrap().document.texts().map(str::to_owned).collect())
        .collect();
    assert_eq!(texts, ["a photo", "lower"]);
}

#[test]
fn a_file_about_the_data_is_no_source() {
    let folder = tempfile::tempdir().unwrap();
    let path = folder.path().to_str().unwrap();
    written(folder.path(), "README.md", "# A set");
    let refused = told(&[path], None, &[]).err().unwrap().to_string();
    assert!(refused.contains("no data of a known format") && refused.contains("README.md"), "{refused}");
    written(folder.path(), "data.jsonl", "{\"text\": \"some\"}\n");
    written(folder.path(), "LICENSE.txt", "free");
    assert_eq!(left(path).len(), 2);
    // By itself, or named by a person, it is a text.
    let file = folder.path().join("README.md");
    assert_eq!(opened(&[file.to_str().unwrap()], None, &[]).unwrap()[0].kind(), "text");
}

#[test]
fn a_picture_without_a_caption_is_left_out_by_commands_and_damage_in_training() {
    let folder = tempfile::tempdir().unwrap();
    for name in ["a.jpg", "b.jpg", "c.avif"] {
        fs::copy(case("44-openai-parts/0.jpg"), folder.path().join(name)).unwrap();
    }
    written(folder.path(), "a.txt", "a thing");
    written(folder.path(), "c.txt", "another");
    let path = folder.path().to_str().unwrap();
    assert_eq!(opened(&[path], None, &[]).unwrap()[0].documents(), 1);
    let told = left(path);
    assert_eq!(told.len(), 3, "{told:?}");
    assert!(told[0].1.contains("a picture without a caption"), "{told:?}");
    let config = json!({"kind": "folder", "path": path, "test_share": 0.0});
    let source = from_value::<SourceConfig>(config).unwrap().open("mine", 1, None).unwrap();
    let read: Vec<_> = (0..3).map(|i| source.document(Split::Train, i)).collect();
    let reasons: Vec<String> =
        read.into_iter().filter_map(|read| Some(format!("{:#}", read.err()?))).collect();
    assert_eq!(reasons.len(), 2, "{reasons:?}");
    assert!(reasons.iter().any(|reason| reason.contains("b.jpg: no caption")), "{reasons:?}");
    assert!(reasons.iter().any(|reason| reason.contains("c.avif: a picture of a format")), "{reasons:?}");
}
