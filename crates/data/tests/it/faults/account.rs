//! Every byte is accounted for: read + skipped + left out is what an independent walk finds, over every
//! format and over random damage; or the file is refused as a whole, by name.

use std::collections::BTreeSet;
use std::fs;
use std::path::Path;

use mm1_data::account::Account;
use mm1_data::examine::{Examination, PictureCheck};
use mm1_data::source::detect::{DetectOptions, detect};
use mm1_data::source::stored;
use mm1_data::statistics::Statistics;
use rand::{Rng as _, SeedableRng as _};
use rand_chacha::ChaCha8Rng;

use super::{fault, store};
use crate::testdata;

const ONE_THREAD: Examination = Examination { look: PictureCheck::Pixels, threads: 1, large: false };

/// What became of the documents at a path and how many pieces of them were left out; `None` where it is
/// refused.
fn account(path: &Path) -> Option<(Account, u64)> {
    let cache = tempfile::tempdir().unwrap();
    let store = store(&cache);
    let found = detect(&[path.to_string_lossy().into_owned()], &DetectOptions::default(), &store).ok()?;
    let (mut all, mut pieces) = (Account::default(), 0);
    for source in stored::open(&found.clear().ok()?.sources, &store).ok()? {
        let (statistics, _) = Statistics::of(&source, None, ONE_THREAD, &mut |_| {}).ok()?;
        all.merge(&statistics.account());
        pieces += statistics.left_out.total();
    }
    Some((all, pieces))
}

/// A file, the share of it that may be damaged, and how many documents an independent walk finds in its
/// bytes.
struct DamagedFormat {
    name: &'static str,
    bytes: Vec<u8>,
    head: f64,
    walk: fn(&[u8]) -> Option<u64>,
}

fn lines(bytes: &[u8]) -> Option<u64> {
    let filled = |line: &&[u8]| !line.trim_ascii().is_empty();
    // Damage may make an array of it, which is another form.
    let lines = !bytes.trim_ascii().starts_with(b"[") && !bytes.starts_with(&[0xEF]);
    lines.then(|| bytes.split(|&byte| byte == b'\n').filter(filled).count() as u64)
}

/// Samples of an archive by the `tar` crate; `None` where it finds the archive damaged.
fn samples(bytes: &[u8]) -> Option<u64> {
    let mut archive = tar::Archive::new(bytes);
    archive.set_ignore_zeros(true);
    let mut keys = BTreeSet::new();
    for entry in archive.entries().ok()? {
        let entry = entry.ok()?;
        let path = entry.path().ok()?.to_string_lossy().into_owned();
        keys.insert(path.split('.').next().unwrap_or_default().to_owned());
    }
    Some(keys.len() as u64)
}

fn captioned(number: usize) -> Vec<u8> {
    let picture = fs::read(testdata("image/rgb.jpg")).unwrap();
    let mut archive = tar::Builder::new(Vec::new());
    for i in 0..number {
        for (ending, content) in [("jpg", picture.as_slice()), ("txt", b"a caption"), ("cls", b"7")] {
            let mut header = tar::Header::new_ustar();
            header.set_size(content.len() as u64);
            header.set_mode(0o644);
            archive.append_data(&mut header, format!("{i}.{ending}"), content).unwrap();
        }
    }
    archive.into_inner().unwrap()
}

fn formats() -> [DamagedFormat; 5] {
    let texts: String = (0..12).map(|i| format!("{{\"text\": \"document number {i}\"}}\n")).collect();
    let talk = |i| {
        format!(
            "{{\"messages\": [{{\"role\": \"user\", \"content\": \"question {i}\"}}, \
             {{\"role\": \"assistant\", \"content\": \"answer {i}\"}}]}}\n"
        )
    };
    let talks: String = (0..12).map(talk).collect();
    let parquet = fs::read(fault("30-codecs-and-pages/none-v2.parquet")).unwrap();
    [
        DamagedFormat { name: "a.jsonl", bytes: texts.into_bytes(), head: 1.0, walk: lines },
        DamagedFormat { name: "b.jsonl", bytes: talks.into_bytes(), head: 1.0, walk: lines },
        DamagedFormat { name: "a.tar", bytes: captioned(5), head: 1.0, walk: samples },
        // Its rows are counted in its last part, which stays whole.
        DamagedFormat { name: "a.parquet", bytes: parquet, head: 0.8, walk: |_| Some(6) },
        DamagedFormat {
            name: "a.html",
            bytes: b"<p>some text <img src=x.png>".to_vec(),
            head: 1.0,
            walk: |_| Some(1),
        },
    ]
}

#[test]
fn read_and_skipped_and_left_out_add_up_over_random_damage() {
    let mut random = ChaCha8Rng::seed_from_u64(24);
    let root = tempfile::tempdir().unwrap();
    for DamagedFormat { name, bytes, head, walk } in formats() {
        let path = root.path().join(name);
        let (mut added_up, mut refused) = (0, 0);
        for round in 0..200 {
            let mut damaged = bytes.clone();
            for _ in 0..round % 4 {
                let at = random.random_range(0..(damaged.len() as f64 * head) as usize);
                damaged[at] = random.random();
            }
            if round % 5 == 4 && head == 1.0 {
                damaged.truncate(random.random_range(1..=damaged.len()));
            }
            fs::write(&path, &damaged).unwrap();
            match (account(&path), walk(&damaged)) {
                (Some((account, _)), Some(there)) => {
                    assert_eq!(account.there(), there, "{name}, round {round}: {account:?}");
                    added_up += 1;
                }
                _ => refused += 1,
            }
            if round == 0 {
                assert_eq!((added_up, refused), (1, 0), "{name}: whole");
            }
        }
        assert!(added_up >= 40, "{name}: {added_up} added up, {refused} were refused as a whole");
    }
}

#[test]
fn members_of_an_archive_add_up() {
    let root = tempfile::tempdir().unwrap();
    let path = root.path().join("a.tar");
    fs::write(&path, captioned(5)).unwrap();
    let (account, pieces) = account(&path).unwrap();
    // Five pictures, five captions, and five members that nothing reads.
    assert_eq!((account.read, account.there(), pieces), (5, 5, 5));
    assert_eq!(2 * account.read + pieces, 15);
}

#[test]
fn fault_33_pictures_that_are_left_out_are_counted() {
    let cache = tempfile::tempdir().unwrap();
    let store = store(&cache);
    let said = DetectOptions::new(None, &["missing=leave-out".to_owned(), "pictures=.".to_owned()]).unwrap();
    let path = fault("33-obelics-urls/urls.parquet").to_string_lossy().into_owned();
    let found = detect(&[path], &said, &store).unwrap().clear().unwrap();
    let sources = stored::open(&found.sources, &store).unwrap();
    let (statistics, _) = Statistics::of(&sources[0], None, ONE_THREAD, &mut |_| {}).unwrap();
    assert_eq!((statistics.sums.images, statistics.left_out.total()), (0, 2), "{:?}", statistics.reasons);
}
