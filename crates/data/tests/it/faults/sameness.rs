//! The same means the same pixels and the same text.

use std::fs;
use std::path::Path;

use image::ImageFormat;
use mm1_data::filter::{FilterRule, FilterSpec};
use mm1_data::import::{ImportOutcome, ImportSpec, import};
use mm1_data::source::BesidePictures;
use mm1_data::source::stored;

use super::{PIXELS, detected, fault, store};
use crate::testdata;

fn imported(path: &Path) -> ImportOutcome {
    let (cache, out) = (tempfile::tempdir().unwrap(), tempfile::tempdir().unwrap());
    let store = store(&cache);
    let sources = stored::open(&detected(path, &store).clear().unwrap().sources, &store).unwrap();
    let spec = ImportSpec {
        folder: out.path().join("shards"),
        stem: "shard".to_owned(),
        shard_bytes: 1 << 20,
        filter: Some(FilterSpec::default()),
        max_skipped_share: 0.0,
        licence: None,
        attribution: None,
        how: PIXELS,
    };
    import(&sources, &spec, &mut BesidePictures::default(), &mut |_, _| {}).unwrap()
}

/// Documents that stayed, and duplicates.
fn kept(path: &Path) -> (u64, u64) {
    let counts = imported(path).filter.unwrap();
    (counts.documents, counts.removed_documents.get(&FilterRule::Duplicate).copied().unwrap_or(0))
}

#[test]
fn fault_45_one_question_about_eight_pictures_is_eight_documents() {
    assert_eq!(kept(&fault("45-same-question-other-picture")), (8, 0));
}

/// Captioned pictures, each saved as each of the formats.
fn folder(pictures: &[&str], formats: &[(ImageFormat, &str)]) -> tempfile::TempDir {
    let root = tempfile::tempdir().unwrap();
    for name in pictures {
        let picture = image::open(testdata("image").join(name)).unwrap().to_rgb8();
        for (format, extension) in formats {
            let stem = format!("{}-{extension}", name.replace('.', "-"));
            picture.save_with_format(root.path().join(format!("{stem}.{extension}")), *format).unwrap();
            fs::write(root.path().join(format!("{stem}.txt")), "A picture,  as it is.").unwrap();
        }
    }
    root
}

const CODECS: [(ImageFormat, &str); 3] =
    [(ImageFormat::Png, "png"), (ImageFormat::WebP, "webp"), (ImageFormat::Jpeg, "jpg")];

#[test]
fn one_picture_in_three_codecs_under_one_text_is_one_document() {
    let pictures = ["source.png", "photo-60.png"];
    assert_eq!(kept(folder(&pictures, &CODECS).path()), (2, 4));
    assert_eq!(kept(folder(&pictures[..1], &CODECS[..1]).path()), (1, 0));
}

#[test]
fn a_picture_that_is_everywhere_is_counted_over_its_codecs() {
    let root = tempfile::tempdir().unwrap();
    let picture = image::open(testdata("image/photo-60.png")).unwrap().to_rgb8();
    for number in 0..12 {
        let (format, extension) = CODECS[number % 3];
        picture.save_with_format(root.path().join(format!("{number}.{extension}")), format).unwrap();
        fs::write(root.path().join(format!("{number}.txt")), format!("picture {number}")).unwrap();
    }
    fs::copy(testdata("image/source.png"), root.path().join("other.png")).unwrap();
    fs::write(root.path().join("other.txt"), "another").unwrap();
    let counts = imported(root.path()).filter.unwrap();
    assert_eq!(counts.removed_documents.get(&FilterRule::Uses), Some(&12), "{counts:?}");
    assert_eq!(counts.documents, 1);
}

#[test]
fn conversations_about_one_picture_and_one_question_are_one() {
    let root = tempfile::tempdir().unwrap();
    let picture = image::open(testdata("image/source.png")).unwrap().to_rgb8();
    picture.save_with_format(root.path().join("0.png"), ImageFormat::Png).unwrap();
    picture.save_with_format(root.path().join("1.bmp"), ImageFormat::Bmp).unwrap();
    fs::copy(testdata("image/photo.jpg"), root.path().join("2.jpg")).unwrap();
    let talk = |picture: &str| {
        format!(
            r#"{{"image": "{picture}", "conversations": [{{"from": "human", "value": "<image>What is it?"}},
                {{"from": "gpt", "value": "A picture."}}]}}"#
        )
    };
    let all = ["0.png", "1.bmp", "2.jpg", "0.png"].map(talk).join(",");
    fs::write(root.path().join("talks.json"), format!("[{all}]")).unwrap();
    assert_eq!(kept(&root.path().join("talks.json")), (2, 2));
}
