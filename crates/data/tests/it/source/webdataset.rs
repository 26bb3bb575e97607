//! WebDataset archives, written by the Python package and by Python's `tarfile`.

use std::collections::BTreeSet;
use std::fs;

use mm1_data::document::DocumentKind;
use mm1_data::source::{Source as _, Split};
use serde_json::json;
use tar::{Builder, EntryType, Header};

use super::{open, refusal, sample, sketch, stored, written};

#[test]
fn samples_of_the_python_package_come_in_order_packed_or_not() {
    for name in ["pairs.tar", "pairs.tar.gz", "pairs.tar.zst"] {
        let files = open(json!({"kind": "webdataset", "path": sample(name)})).unwrap();
        let documents: Vec<_> = stored(&files).into_iter().map(Result::unwrap).collect();
        let sketches: Vec<_> = documents.iter().map(sketch).collect();
        assert_eq!(sketches, (0..6).map(|i| format!("[{i}]picture {i}<end>")).collect::<Vec<_>>());
        assert!(documents.iter().all(|d| d.kind == DocumentKind::Captioned));
        assert_eq!(documents[2].id, format!("mine/{name}/part/00002"));
        assert!(documents[5].id.ends_with("/deep/deep/ünïcode"), "{}", documents[5].id);
    }
}

#[test]
fn the_caption_is_where_the_recipe_says() {
    let pairs = |caption| {
        open(json!({"kind": "webdataset", "path": sample("pairs.tar"), "caption": caption})).unwrap()
    };
    assert_eq!(sketch(&pairs("json.caption").stored(3).unwrap()), "[3]caption 3<end>");
    for (caption, reason) in [
        ("caption", "part/00000: no .caption among .jpg, .json, .txt: set `caption`"),
        ("json.text", ".json has no text in \"text\""),
        ("json.width", ".json has no text in \"width\""),
    ] {
        let error = format!("{:#}", pairs(caption).stored(0).unwrap_err());
        assert!(error.contains(reason) && error.contains("pairs.tar"), "{error}");
    }
}

#[test]
fn gnu_and_pax_long_names_are_read() {
    for name in ["long-names-gnu.tar", "long-names-pax.tar"] {
        let files = open(json!({"kind": "webdataset", "path": sample(name)})).unwrap();
        let documents: Vec<_> = stored(&files).into_iter().map(Result::unwrap).collect();
        assert_eq!(documents.iter().map(sketch).collect::<Vec<_>>(), ["[0]caption<end>", "[1]caption<end>"]);
        assert_eq!(documents[1].id, format!("mine/{name}/{}/1-ä", "long".repeat(40)));
    }
}

#[test]
fn several_archives_are_one_source_in_an_order_of_the_seed() {
    let folder = tempfile::tempdir().unwrap();
    for i in 0..12 {
        fs::copy(sample("pairs.tar"), folder.path().join(format!("a-{i:03}.tar"))).unwrap();
    }
    let range = folder.path().join("a-{000..011}.tar");
    let glob = folder.path().join("a-*.tar");
    let ids = |path: &std::path::Path| -> Vec<String> {
        let files = open(json!({"kind": "webdataset", "path": path})).unwrap();
        let (train, test) = (files.len(Split::Train).unwrap(), files.len(Split::Test).unwrap());
        assert_eq!(train + test, 72);
        let train = (0..train).map(|i| files.document(Split::Train, i).unwrap().id);
        train.chain((0..test).map(|i| files.document(Split::Test, i).unwrap().id)).collect()
    };
    let expected = ids(&range);
    assert_eq!(expected.iter().collect::<BTreeSet<_>>().len(), 72, "each document once");
    assert_eq!(expected, ids(&glob));
    assert_eq!(expected, ids(folder.path()));
}

fn header(name: &str, kind: EntryType, size: u64) -> Header {
    let mut header = Header::new_gnu();
    header.as_old_mut().name[..name.len()].copy_from_slice(name.as_bytes());
    header.set_entry_type(kind);
    header.set_size(size);
    header.set_cksum();
    header
}

/// An archive of one member with this header.
fn archive(header: &Header, content: &[u8]) -> Vec<u8> {
    let mut out = Builder::new(Vec::new());
    out.append(header, content).unwrap();
    out.into_inner().unwrap()
}

#[test]
fn members_that_are_no_files_or_leave_the_archive_are_refused() {
    let folder = tempfile::tempdir().unwrap();
    let pax = |record: &str| {
        let record = format!("{} {record}\n", record.len() + 4);
        archive(&header("pax", EntryType::XHeader, record.len() as u64), record.as_bytes())
    };
    let file = |name| archive(&header(name, EntryType::Regular, 1), b"x");
    let special = |kind| archive(&header("a.txt", kind, 0), b"");
    let cases: Vec<(Vec<u8>, &str)> = vec![
        (file("../a.txt"), "\"../a.txt\" leaves"),
        (file("a/../../b.txt"), "leaves the archive"),
        (file("/etc/a.txt"), "\"/etc/a.txt\" leaves"),
        (file("..\\a.txt"), "leaves the archive"),
        (special(EntryType::Symlink), "\"a.txt\" is a link"),
        (special(EntryType::Link), "is a link"),
        (special(EntryType::GNUSparse), "is a sparse file"),
        (special(EntryType::Fifo), "is a device"),
        (pax("GNU.sparse.major=1"), "sparse"),
        (pax("size=99999999999"), "8 GiB"),
        (header("a.txt", EntryType::Regular, 1 << 40).as_bytes().to_vec(), "ends in its middle"),
        (header("x", EntryType::GNULongName, 1 << 30).as_bytes().to_vec(), "ends in its middle"),
        (
            [header("x", EntryType::GNULongName, 70_000).as_bytes().as_slice(), &[b'a'; 80_000]].concat(),
            "a header of 70000 bytes",
        ),
        (b"not an archive".repeat(100), "not a tar header"),
        (fs::read(sample("pairs.tar")).unwrap()[..700].to_vec(), "ends in its middle"),
        (fs::read(sample("pairs.tar")).unwrap()[..300].to_vec(), "ends in a header"),
        (vec![0; 10240], "no document"),
    ];
    for (i, (bytes, reason)) in cases.iter().enumerate() {
        let path = written(folder.path(), &format!("{i}.tar"), bytes);
        let error = refusal(json!({"kind": "webdataset", "path": path}));
        assert!(error.contains(reason), "{reason}: {error}");
        assert!(*reason == "no document" || error.contains(&format!("{i}.tar")), "{error}");
    }
}

#[test]
fn a_damaged_sample_is_refused_by_itself_and_names_its_key() {
    let folder = tempfile::tempdir().unwrap();
    let mut out = Builder::new(Vec::new());
    for (name, content) in [
        ("a.txt", "no picture"),
        ("b.jpg", "no caption"),
        ("c.jpg", "x"),
        ("c.png", "two pictures"),
        ("c.txt", "x"),
        ("d.jpg", "x"),
        ("d.txt", "twice"),
        ("d.TXT", "twice"),
        ("e.jpg", "x"),
        ("e.txt", " \n"),
        (".hidden.txt", "x"),
        ("f", "no extension"),
        ("g.jpg", "x"),
        ("g.txt", "fine"),
    ] {
        out.append(&header(name, EntryType::Regular, content.len() as u64), content.as_bytes()).unwrap();
    }
    let path = written(folder.path(), "mixed.tar", out.into_inner().unwrap());
    let results = stored(&open(json!({"kind": "webdataset", "path": path})).unwrap());
    let reasons: Vec<String> =
        results.iter().filter_map(|r| Some(format!("{:#}", r.as_ref().err()?))).collect();
    assert_eq!((results.len(), reasons.len()), (6, 5), "{reasons:?}");
    let parts = [
        "a: a sample has one picture",
        "b: no .txt",
        "c: a sample has one picture",
        "\"d\" has two members .txt",
        "e: the caption is empty",
    ];
    for (reason, part) in reasons.iter().zip(parts) {
        assert!(reason.contains(part) && reason.contains("mixed.tar"), "{part}: {reason}");
    }
    assert!(results[5].is_ok());
}

#[test]
fn what_unpacks_without_end_is_refused() {
    let folder = tempfile::tempdir().unwrap();
    let zeros = vec![0_u8; 64 << 20];
    let bomb = zstd::encode_all(zeros.as_slice(), 3).unwrap();
    let path = written(folder.path(), "bomb.tar.zst", bomb);
    assert!(refusal(json!({"kind": "webdataset", "path": path})).contains("unpacks to more than 200 times"));
    let path = written(folder.path(), "cut.tar.gz", &fs::read(sample("pairs.tar.gz")).unwrap()[..700]);
    assert!(refusal(json!({"kind": "webdataset", "path": path})).contains("can't be unpacked"));
}
