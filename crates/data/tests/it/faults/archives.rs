//! Archives that were cut, joined, written by other tools, and Parquet of other codecs.

use std::fs;
use std::path::Path;

use mm1_data::source::{BesidePictures, stored};
use mm1_data::statistics::Statistics;
use mm1_data::verify::{Verified, verify};

use super::{PIXELS, detected, fault, store};
use crate::testdata;

fn verified(path: &Path) -> Verified {
    let cache = tempfile::tempdir().unwrap();
    let store = store(&cache);
    verify(&detected(path, &store), &store, PIXELS, &mut |_| {}).unwrap()
}

/// The documents of a path, the problems in words and the counts of what is left out.
fn account(path: &Path) -> (u64, Vec<String>, Vec<(String, u64)>) {
    let Verified { documents, problems, left_out, .. } = verified(path);
    let left = left_out.iter().map(|(reason, count)| (reason.to_owned(), count)).collect();
    (documents, problems.into_iter().map(|problem| problem.reason).collect(), left)
}

#[test]
fn fault_19_archives_that_were_joined_are_read_and_cuts_are_told() {
    let case = |name: &str| account(&fault("19-archives-cut-and-joined").join(name));
    let none = (Vec::new(), Vec::new());
    assert_eq!(case("one.tar"), (3, none.0.clone(), none.1.clone()));
    assert_eq!(case("joined.tar"), (6, none.0, none.1));
    for (name, documents) in [("cut-between.tar", 2), ("not-closed.tar", 3)] {
        let (read, problems, _) = case(name);
        assert_eq!((read, problems.len()), (documents, 1), "{name}");
        assert!(problems[0].contains("without its end marker"), "{name}: {problems:?}");
    }
    let found = verified(&fault("19-archives-cut-and-joined/cut-inside.tar"));
    assert_eq!(found.documents, 0);
    assert!(found.problems[0].reason.contains("the archive ends in its middle"), "{:?}", found.problems);
}

/// An archive of captioned pictures with these names.
fn archive(names: &[&[u8]], ending: u8) -> Vec<u8> {
    let picture = fs::read(testdata("image/rgb.jpg")).unwrap();
    let mut out = Vec::new();
    for name in names {
        for (extension, content) in [(b".jpg".as_slice(), picture.as_slice()), (b".txt", b"a caption")] {
            let mut header = tar::Header::new_gnu();
            let full = [*name, extension].concat();
            header.as_mut_bytes()[..full.len()].copy_from_slice(&full);
            header.set_entry_type(tar::EntryType::Regular);
            header.set_size(content.len() as u64);
            header.set_cksum();
            out.extend(header.as_bytes());
            out.extend(content);
            out.resize(out.len().next_multiple_of(512), 0);
        }
    }
    out.resize(out.len() + usize::from(ending) * 512, 0);
    out
}

fn written(bytes: &[u8]) -> tempfile::TempDir {
    let root = tempfile::tempdir().unwrap();
    fs::write(root.path().join("a.tar"), bytes).unwrap();
    root
}

#[test]
fn three_archives_joined_are_read_and_equal_keys_at_a_seam_stay_two() {
    let (first, second) = (archive(&[b"0", b"1"], 2), archive(&[b"1", b"2"], 20));
    let all = [first.clone(), second.clone(), first].concat();
    assert_eq!(account(written(&all).path()), (6, Vec::new(), Vec::new()));
    // One zero block ends an archive too, and the last may lack it.
    let (documents, problems, _) =
        account(written(&[archive(&[b"0"], 1), archive(&[b"1"], 0)].concat()).path());
    assert_eq!((documents, problems.len()), (2, 1));
}

#[test]
fn bytes_behind_the_end_are_told() {
    for (behind, count) in
        [(b"text behind the end".as_slice(), 19), (&[7; 2000], 2000), (&second_half(), 700)]
    {
        let (documents, problems, left) = account(written(&[&archive(&[b"0"], 2), behind].concat()).path());
        assert_eq!(documents, 1);
        assert_eq!(problems, [format!("{count} times a byte behind the archive's end")]);
        assert_eq!(left, [("a byte behind the archive's end".to_owned(), count)]);
    }
}

/// A piece of an archive that begins in the middle of a member.
fn second_half() -> Vec<u8> {
    archive(&[b"0"], 2)[600..1300].to_vec()
}

#[test]
fn names_that_are_not_utf8_are_read_and_stay_apart() {
    let root = written(&archive(&[b"caf\xe9", b"caf\xe8"], 2));
    let (documents, problems, left) = account(root.path());
    assert_eq!((documents, problems, left[0].1), (2, Vec::new(), 4));
    assert!(left[0].0.contains("name is not UTF-8"));
    let cache = tempfile::tempdir().unwrap();
    let store = store(&cache);
    let sources = stored::open(&detected(root.path(), &store).sources, &store).unwrap();
    assert!(sources[0].document(0).unwrap().document.id.ends_with("caf%E9"));
}

#[test]
fn members_of_no_sample_are_counted() {
    let root = written(&archive(&[b"0", b".hidden", b"__meta__"], 2));
    let cache = tempfile::tempdir().unwrap();
    let store = store(&cache);
    let sources = stored::open(&detected(root.path(), &store).sources, &store).unwrap();
    let (statistics, _) =
        Statistics::of(&sources[0], None, PIXELS, &mut BesidePictures::default(), &mut |_| {}).unwrap();
    assert_eq!((statistics.sums.documents, statistics.left_out.total()), (2, 2));
}

#[test]
fn fault_30_parquet_of_every_codec_is_read() {
    let root = fault("30-codecs-and-pages");
    let mut names: Vec<_> = fs::read_dir(&root).unwrap().map(|entry| entry.unwrap().path()).collect();
    names.sort();
    let delta = names.iter().position(|path| path.ends_with("delta.parquet")).unwrap();
    let (_, problems, _) = account(&names.remove(delta));
    assert!(problems[0].contains("which is not read: write it as PLAIN"), "{problems:?}");
    assert_eq!(problems[0].matches("PLAIN").count(), 1, "said once: {problems:?}");
    assert!(names.len() >= 8);
    let one = account(&names[0]).0;
    for path in names {
        assert_eq!(account(&path), (one, Vec::new(), Vec::new()), "{}", path.display());
    }
    assert!(one > 0);
}

#[test]
fn verify_takes_time_in_proportion_to_the_files() {
    let seconds = |files: u32| {
        let root = tempfile::tempdir().unwrap();
        (0..files)
            .for_each(|i| fs::write(root.path().join(format!("{i}.txt")), format!("text {i}")).unwrap());
        let started = std::time::Instant::now();
        assert_eq!(verified(root.path()).documents, u64::from(files));
        started.elapsed().as_secs_f64()
    };
    let (few, many) = (seconds(500), seconds(4_000));
    // Eight times the files; 64 times the time was seen.
    assert!(many < 24.0 * few.max(0.02), "{few} s for 500 files, {many} s for 4,000");
}
