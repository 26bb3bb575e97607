//! Damage is found and named.

use std::fs;
use std::path::Path;

use mm1_data::examine::Damaged;
use mm1_data::import::{ImportSpec, import};
use mm1_data::source::BesidePictures;
use mm1_data::verify::{Verified, verify};

use super::{how, opened, told};
use crate::source::{sample, store};

fn check(path: &Path) -> Verified {
    let (_cache, store) = store();
    let detected = told(&[path.to_str().unwrap()], None, &[]).unwrap();
    verify(&detected, &store, how(2), &mut |_| {}).unwrap()
}

/// Two shards with a manifest, in a folder of a folder.
fn shards(root: &Path) {
    let spec = ImportSpec {
        folder: root.join("deeper"),
        stem: "s".into(),
        shard_bytes: 6000,
        filter: None,
        max_skipped_share: 0.0,
        licence: None,
        attribution: None,
        how: how(1),
    };
    import(
        &opened(&[&sample("pairs.tar")], None, &[]).unwrap(),
        &spec,
        &mut BesidePictures::default(),
        &mut |_, _| {},
    )
    .unwrap();
}

fn reason<'a>(problems: &'a [Damaged], file: &str) -> &'a str {
    let found = problems.iter().find(|problem| problem.file.ends_with(file));
    &found.unwrap_or_else(|| panic!("{file} is not in {problems:?}")).reason
}

#[test]
fn whole_shards_have_no_problem() {
    let folder = tempfile::tempdir().unwrap();
    shards(folder.path());
    let Verified { manifests, files, documents, images, problems, .. } = check(folder.path());
    assert_eq!((manifests, documents, images, problems), (1, 6, 6, vec![]));
    assert!(files >= 2, "{files}");
    // A single shard is compared with its own entry only.
    let one = check(&folder.path().join("deeper/s-000000.tar"));
    assert_eq!((one.manifests, one.files, one.problems), (1, 1, vec![]));
}

#[test]
fn every_damage_is_named_with_its_file() {
    let folder = tempfile::tempdir().unwrap();
    shards(folder.path());
    let deeper = folder.path().join("deeper");
    let first = deeper.join("s-000000.tar");
    let mut bytes = fs::read(&first).unwrap();
    // Inside the first picture, which stays a JPEG in its header.
    let at = bytes.windows(3).position(|w| w == [0xFF, 0xD8, 0xFF]).unwrap();
    bytes[at + 350..at + 420].fill(0xFF);
    fs::write(&first, bytes).unwrap();
    fs::copy(deeper.join("s-000001.tar"), deeper.join("s-stray.tar")).unwrap();
    let whole = fs::read(deeper.join("s-000001.tar")).unwrap();
    fs::write(deeper.join("s-000001.tar"), &whole[..whole.len() - 3000]).unwrap();
    let problems = check(folder.path()).problems;
    assert!(
        problems.iter().any(|p| p.file.ends_with("s-000000.tar") && p.reason.contains("SHA-256")),
        "{problems:?}"
    );
    assert!(reason(&problems, "s-stray.tar").contains("not in the manifest"));
    assert!(problems.iter().any(|p| p.file.ends_with("s-000001.tar") && p.index.is_none()), "{problems:?}");
    fs::remove_file(&first).unwrap();
    assert!(reason(&check(folder.path()).problems, "s-000000.tar").contains("No such file"));
}

#[test]
fn other_formats_are_read_whole() {
    let problems = check(Path::new(&sample("mmc4.jsonl"))).problems;
    assert_eq!(problems.iter().map(|p| p.index.unwrap()).collect::<Vec<_>>(), [2, 3]);
    let folder = tempfile::tempdir().unwrap();
    fs::write(folder.path().join("a.parquet"), "no table").unwrap();
    fs::copy(sample("pairs.tar"), folder.path().join("b.tar")).unwrap();
    let verified = check(folder.path());
    assert_eq!(verified.documents, 6, "what is whole is read all the same");
    assert!(reason(&verified.problems, "a.parquet").contains("not a Parquet file"));
}
