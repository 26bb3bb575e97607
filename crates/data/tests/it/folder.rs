//! A folder of pictures with captions.

use std::collections::BTreeSet;
use std::fs;
use std::path::Path;

use mm1_data::document::{DocumentKind, Segment, Special};
use mm1_data::image::{self, DecodeBudget};
use mm1_data::source::folder::PictureFolder;
use mm1_data::source::{Source as _, Split};
use tempfile::TempDir;

use crate::testdata;

/// `count` pictures with captions, of every format.
pub(crate) fn folder(count: usize) -> TempDir {
    let folder = tempfile::tempdir().unwrap();
    fs::create_dir(folder.path().join("deeper")).unwrap();
    for i in 0..count {
        let (from, extension) = [("rgb.jpg", "JPG"), ("rgba.png", "png"), ("lossy.webp", "webp")][i % 3];
        let stem = folder.path().join(if i % 2 == 0 { format!("{i:03}") } else { format!("deeper/{i:03}") });
        fs::copy(testdata("image").join(from), stem.with_extension(extension)).unwrap();
        fs::write(stem.with_extension("txt"), format!(" picture {i}\n")).unwrap();
    }
    folder
}

fn open(path: &Path) -> anyhow::Result<PictureFolder> {
    PictureFolder::open("mine", path, 0.2, 7)
}

/// The one line of an error, which names the source.
fn error(path: &Path) -> String {
    let error = format!("{:#}", open(path).err().unwrap());
    assert!(!error.contains('\n') && error.contains("source `mine`"), "{error}");
    error
}

#[test]
fn an_epoch_shows_each_picture_once_and_each_epoch_has_its_own_order() {
    let folder = folder(40);
    let source = open(folder.path()).unwrap();
    let n = source.len(Split::Train).unwrap();
    let ids = |epoch: u64| -> Vec<String> {
        (epoch * n..(epoch + 1) * n).map(|i| source.document(Split::Train, i).unwrap().id).collect()
    };
    let set = |ids: Vec<String>| ids.into_iter().collect::<BTreeSet<_>>();
    assert_eq!(set(ids(0)).len() as u64, n);
    assert_eq!(set(ids(0)), set(ids(3)));
    assert!(ids(0) != ids(1) && ids(1) != ids(2));
    assert_eq!(ids(1), ids(1));
    let other_seed = PictureFolder::open("mine", folder.path(), 0.2, 8).unwrap();
    assert_ne!(
        ids(0)[..5],
        (0..5).map(|i| other_seed.document(Split::Train, i).unwrap().id).collect::<Vec<_>>()
    );
}

#[test]
fn the_split_is_by_path_and_leaves_something_on_both_sides() {
    let many = folder(40);
    let source = open(many.path()).unwrap();
    let captions = |split| source.captions(split).map(str::to_owned).collect::<BTreeSet<_>>();
    assert!(captions(Split::Train).is_disjoint(&captions(Split::Test)));
    assert_eq!(captions(Split::Train).len() + captions(Split::Test).len(), 40);
    assert!((2..=16).contains(&source.len(Split::Test).unwrap()));

    for (count, share, sizes) in
        [(1, 0.5, (1, 0)), (2, 0.001, (1, 1)), (2, 0.999, (1, 1)), (9, 0.0, (9, 0)), (9, 0.999, (1, 8))]
    {
        let few = folder(count);
        let source = PictureFolder::open("mine", few.path(), share, 7).unwrap();
        let sizes_now = (source.len(Split::Train).unwrap(), source.len(Split::Test).unwrap());
        assert_eq!(sizes_now, sizes, "{count} pictures, share {share}");
    }
    assert!(
        format!("{:#}", PictureFolder::open("mine", many.path(), 1.0, 7).err().unwrap())
            .contains("test_share")
    );
}

#[test]
fn documents_and_questions_hold_picture_and_caption() {
    let folder = folder(3);
    let source = open(folder.path()).unwrap();
    let document = source.document(Split::Test, 0).unwrap();
    let question = source.question(Split::Test, 0, &DecodeBudget::default()).unwrap();
    let [Segment::Image(picture), caption, end] = &document.segments[..] else { panic!("{document:?}") };
    let pixels = image::open(picture).unwrap();
    assert_eq!((pixels.width, pixels.height), (24, 16));
    assert_eq!(caption, &Segment::text(&question.answers[0]));
    assert_eq!(end, &Segment::Token { token: Special::End, learn: true });
    assert_eq!(document.kind, DocumentKind::Captioned);
    assert_eq!((question.category.as_str(), question.text.as_str()), ("caption", ""));
    assert_eq!(&question.pictures[0], picture);
    assert!(question.answers[0].starts_with("picture ") && document.id == question.id);
    let beyond = source.len(Split::Test).unwrap();
    assert!(
        source.question(Split::Test, beyond, &DecodeBudget::default()).is_err()
            && source.document(Split::Test, beyond).is_err()
    );
}

#[test]
fn a_folder_that_cannot_be_used_says_why() {
    let folder = tempfile::tempdir().unwrap();
    assert!(error(&folder.path().join("nowhere")).contains("nowhere"));
    assert!(error(folder.path()).contains("no pictures"));
    for name in ["a.png", "b.png"] {
        fs::copy(testdata("image/rgba.png"), folder.path().join(name)).unwrap();
    }
    assert!(error(folder.path()).contains("no captions"));
    fs::write(folder.path().join("a.txt"), "a").unwrap();
    // One picture without a caption is left out as a damaged one is: named when it is met, and counted.
    let met = || {
        let source = PictureFolder::open("mine", folder.path(), 0.0, 1).unwrap();
        let read: Vec<_> = (0..2).map(|i| source.document(Split::Train, i)).collect();
        let refused: Vec<String> =
            read.iter().filter_map(|r| Some(format!("{:#}", r.as_ref().err()?))).collect();
        assert_eq!((read.len(), refused.len()), (2, 1));
        refused[0].clone()
    };
    assert!(met().contains("b.png: no caption: b.txt is not there"), "{}", met());
    fs::write(folder.path().join("b.txt"), " \n").unwrap();
    assert!(met().contains("b.png: b.txt: the caption is empty"), "{}", met());
    fs::write(folder.path().join("b.txt"), b"\xff\xfe").unwrap();
    assert!(met().contains("b.txt: text in UTF-16"), "{}", met());
}

#[test]
fn a_damaged_picture_is_an_error_that_names_the_file() {
    let folder = folder(2);
    fs::write(folder.path().join("000.JPG"), &fs::read(testdata("image/rgb.jpg")).unwrap()[..400]).unwrap();
    fs::write(folder.path().join("deeper/001.png"), crate::image::bomb(30_000, 30_000)).unwrap();
    let source = PictureFolder::open("mine", folder.path(), 0.0, 7).unwrap();
    let errors: Vec<String> = (0..2)
        .map(|i| format!("{:#}", source.question(Split::Train, i, &DecodeBudget::default()).unwrap_err()))
        .collect();
    // A document keeps the picture encoded; packing, which the loader counts, finds the damage.
    assert!((0..2).all(|i| source.document(Split::Train, i).is_ok()));
    assert!(errors.iter().any(|e| e.contains("000.JPG: truncated JPEG: ")), "{errors:?}");
    assert!(errors.iter().all(|e| !e.contains('\n')), "{errors:?}");
    assert!(errors.iter().any(|e| e.contains("001.png: larger than 10000")), "{errors:?}");
}

#[test]
fn a_list_gives_captions_and_a_picture_may_have_several() {
    let folder = folder(2);
    let list = folder.path().join("captions.jsonl");
    let lines = r#"{"path": "000.JPG", "caption": "one", "width": 24}

{"path": "./000.JPG", "caption": "two"}
{"path": "deeper/001.png", "caption": "three"}"#;
    fs::write(&list, lines).unwrap();
    fs::write(folder.path().join("lonely.png"), "no caption, and not in the list").unwrap();
    for path in [folder.path(), &list] {
        let source = PictureFolder::open("mine", path, 0.0, 7).unwrap();
        assert_eq!(source.captions(Split::Train).collect::<Vec<_>>(), ["one", "two", "three"]);
        assert_eq!(
            source.question(Split::Train, 0, &DecodeBudget::default()).unwrap().answers,
            ["one", "two"]
        );
        let seen: BTreeSet<String> = (0..4)
            .flat_map(|i| {
                let document = source.document(Split::Train, i).unwrap();
                document.texts().map(str::to_owned).collect::<Vec<_>>()
            })
            .collect();
        assert_eq!(seen.len(), 3, "{seen:?}");
    }
}

#[test]
fn a_list_that_leaves_its_folder_is_refused() {
    let folder = folder(2);
    let list = folder.path().join("mine.jsonl");
    for path in ["../secret.png", "/etc/passwd", "deeper/../../x.png", "..", "", "."] {
        let good = r#"{"path": "000.JPG", "caption": "x"}"#;
        fs::write(&list, format!("{good}\n{}", serde_json::json!({"path": path, "caption": "x"}))).unwrap();
        let error = error(&list);
        assert!(
            error.contains("mine.jsonl line 2") && error.contains("inside the folder"),
            "{path}: {error}"
        );
    }
    for line in ["{", "[]", r#"{"path": "a.png"}"#, r#"{"path": "a.png", "caption": " "}"#] {
        fs::write(&list, line).unwrap();
        assert!(error(&list).contains("line 1"), "{line}");
    }
    fs::write(&list, "\n").unwrap();
    assert!(error(&list).contains("has no line"));
}

#[cfg(unix)]
#[test]
fn a_link_that_leaves_the_folder_is_a_damaged_sample() {
    let folder = folder(1);
    std::os::unix::fs::symlink(
        testdata("image/rgb.jpg").canonicalize().unwrap(),
        folder.path().join("out.jpg"),
    )
    .unwrap();
    fs::write(folder.path().join("captions.jsonl"), r#"{"path": "out.jpg", "caption": "x"}"#).unwrap();
    let error = format!("{:#}", open(folder.path()).unwrap().document(Split::Train, 0).unwrap_err());
    assert!(error.contains("leaves the folder"), "{error}");
}

#[test]
fn folders_of_classes_give_their_names() {
    let made = tempfile::tempdir().unwrap();
    let put = |path: &str| {
        let file = made.path().join(path);
        fs::create_dir_all(file.parent().unwrap()).unwrap();
        fs::copy(testdata("image").join("rgba.png"), file).unwrap();
    };
    let classes = |path: &Path| PictureFolder::of_classes("mine", path, 0.25, 7);
    let texts = |folder: &PictureFolder, split| {
        let count = folder.len(split).unwrap();
        (0..count).flat_map(|i| folder.texts(split, i).unwrap()).collect::<BTreeSet<_>>()
    };
    for i in 0..10 {
        put(&format!("plain/tabby_cat/{i}.png"));
        put(&format!("plain/dog/{i}.png"));
        put(&format!("split/train/dog/{i}.png"));
    }
    put("split/val/great-dane/0.png");
    let plain = classes(&made.path().join("plain")).unwrap();
    assert_eq!(plain.classes().unwrap(), ["dog", "tabby cat"]);
    let counts = [Split::Train, Split::Test].map(|split| plain.len(split).unwrap());
    assert!(counts[0] + counts[1] == 20 && (1..=10).contains(&counts[1]), "{counts:?}");
    assert_eq!(texts(&plain, Split::Train), ["dog".to_owned(), "tabby cat".to_owned()].into());
    let split = classes(&made.path().join("split")).unwrap();
    assert_eq!(split.classes().unwrap(), ["dog", "great dane"]);
    assert_eq!(texts(&split, Split::Test), ["great dane".to_owned()].into());
    assert_eq!(texts(&split, Split::Train), ["dog".to_owned()].into());
    put("plain/stray.png");
    let error = format!("{:#}", classes(&made.path().join("plain")).err().unwrap());
    assert!(
        error.starts_with("source `mine`: ") && error.ends_with("stray.png is in no folder of a class"),
        "{error}"
    );
}
