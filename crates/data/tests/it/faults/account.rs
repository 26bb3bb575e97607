//! Every byte is accounted for: read + skipped + left out is what an independent walk finds, of files and of
//! documents, over every format and over random damage; or a file is refused as a whole, by name.

mod importers;

use std::collections::BTreeMap;
use std::fs;
use std::path::{Path, PathBuf};

use mm1_data::account::Accounts;
use mm1_data::examine::{Examination, PictureCheck};
use mm1_data::import::{ImportSpec, import};
use mm1_data::left_out::LeftOut;
use mm1_data::shard::FolderLock;
use mm1_data::source::detect::{DetectOptions, Detected, detect};
use mm1_data::source::{BesidePictures, stored};
use mm1_data::statistics::Statistics;
use mm1_data::store::Store;
use mm1_data::verify::{Verified, verify};
use rand::{Rng as _, SeedableRng as _};
use rand_chacha::ChaCha8Rng;

use self::importers::{IMPORTERS, Importer, PLAIN};
use super::{fault, store};

const ONE_THREAD: Examination = Examination { look: PictureCheck::Pixels, threads: 1, large: false };

fn found(importer: &Importer, root: &Path, store: &Store) -> Option<Detected> {
    let (kind, edits) = importer.said;
    let edits: Vec<String> = edits.iter().map(|&edit| edit.to_owned()).collect();
    let said = DetectOptions::new(kind.map(str::to_owned), &edits).unwrap();
    detect(&[root.to_string_lossy().into_owned()], &said, store).ok()
}

/// What `verify` says of a folder; `None` where all of it is refused.
fn verified(importer: &Importer, root: &Path) -> Option<Verified> {
    let cache = tempfile::tempdir().unwrap();
    let store = store(&cache);
    let found = found(importer, root, &store)?;
    Some(verify(&found, &store, ONE_THREAD, &mut |_| {}).unwrap())
}

/// Everything that is at a path: files, and what is none; a hidden folder is one thing.
fn there(root: &Path) -> u64 {
    let mut count = 0;
    for entry in fs::read_dir(root).unwrap() {
        let entry = entry.unwrap();
        // By which an import has locked the folder: it is empty, and no data.
        if entry.file_name() == ".lock" && entry.metadata().unwrap().len() == 0 {
            continue;
        }
        let hidden = entry.file_name().as_encoded_bytes().starts_with(b".");
        let folder = entry.file_type().unwrap().is_dir() && !hidden;
        count += if folder { there(&entry.path()) } else { 1 };
    }
    count
}

/// Checks the sums; `None` where the data is refused, or hides its documents.
fn check(importer: &Importer, root: &Path, about: &str) -> Option<Accounts> {
    let Verified { account, problems, .. } = verified(importer, root)?;
    let name = importer.name;
    let about = || format!("{name}, {about}: {account:#?}, {problems:?}");
    assert_eq!(account.files.in_no_count(), 0, "{}", about());
    assert_eq!(account.documents.in_no_count(), 0, "{}", about());
    assert_eq!(account.files.there, there(root), "{}", about());
    // Documents of files that can't be opened are not known.
    if account.files.skipped.is_empty()
        && let Some(documents) = (importer.documents)(root)
    {
        assert_eq!(account.documents.there, documents, "{}", about());
        return Some(account);
    }
    None
}

/// Files by their paths below a folder.
fn contents(root: &Path, folder: &Path, into: &mut BTreeMap<PathBuf, Vec<u8>>) {
    for entry in fs::read_dir(folder).unwrap() {
        let path = entry.unwrap().path();
        if path.is_dir() {
            contents(root, &path, into);
        } else {
            into.insert(path.strip_prefix(root).unwrap().to_owned(), fs::read(&path).unwrap());
        }
    }
}

/// Does something to one of the files, or puts something beside it.
fn damage(root: &Path, importer: &Importer, random: &mut ChaCha8Rng, whole: &BTreeMap<PathBuf, Vec<u8>>) {
    let (name, bytes) = whole.iter().nth(random.random_range(0..whole.len())).unwrap();
    let path = root.join(name);
    let beside = |file: &str| path.with_file_name(file);
    match random.random_range(0..14) {
        0 => fs::remove_file(&path).unwrap(),
        1 => drop(fs::copy(&path, beside("zz.copy.bin")).unwrap()),
        2 => fs::write(beside(".hidden.jpg"), bytes).unwrap(),
        3 => fs::create_dir(beside("folder.jpg")).unwrap(),
        #[cfg(unix)]
        4 => std::os::unix::fs::symlink("nowhere", beside("zz-broken.jpg")).unwrap(),
        #[cfg(unix)]
        5 => drop(std::os::unix::net::UnixListener::bind(beside("socket.txt")).unwrap()),
        #[cfg(unix)]
        6 => std::os::unix::fs::symlink(root, beside("link")).unwrap(),
        7 if importer.head == 1.0 && !bytes.is_empty() => {
            fs::write(&path, &bytes[..random.random_range(0..bytes.len())]).unwrap();
        }
        _ => {
            let mut damaged = bytes.clone();
            let most = (damaged.len() as f64 * importer.head) as usize;
            for _ in 0..random.random_range(1..4) {
                if most > 0 {
                    damaged[random.random_range(0..most)] = random.random();
                }
            }
            fs::write(&path, damaged).unwrap();
        }
    }
}

/// Damages a set again and again, and checks the sums each time.
fn damaged(importer: &Importer, rounds: u64) {
    let whole = tempfile::tempdir().unwrap();
    (importer.write)(whole.path());
    let mut files = BTreeMap::new();
    contents(whole.path(), whole.path(), &mut files);
    let mut random = ChaCha8Rng::seed_from_u64(24);
    let mut added_up = 0;
    for round in 0..rounds {
        let root = tempfile::tempdir().unwrap();
        for (name, bytes) in &files {
            fs::create_dir_all(root.path().join(name).parent().unwrap()).unwrap();
            fs::write(root.path().join(name), bytes).unwrap();
        }
        damage(root.path(), importer, &mut random, &files);
        added_up += u64::from(check(importer, root.path(), &format!("round {round}")).is_some());
    }
    assert!(3 * added_up >= rounds, "{}: only {added_up} of {rounds} rounds were compared", importer.name);
}

#[test]
fn whole_data_of_every_format_is_accounted_for() {
    for importer in IMPORTERS.iter().chain(&PLAIN) {
        let root = tempfile::tempdir().unwrap();
        (importer.write)(root.path());
        let account = check(importer, root.path(), "whole");
        let verified = verified(importer, root.path()).unwrap();
        let account = account.unwrap_or_else(|| verified.account.clone());
        let seen =
            [account.files.there, account.files.read, account.documents.read, verified.left_out.total()];
        assert_eq!(seen, importer.whole, "{}: {account:#?} {:#?}", importer.name, verified);
    }
}

/// A few hundred mutations of each of some formats.
fn damage_some(from: usize, to: usize) {
    IMPORTERS[from..to].iter().for_each(|importer| damaged(importer, 200));
}

#[test]
fn damaged_folders_of_pictures_add_up() {
    damage_some(0, 6);
}

#[test]
fn damaged_pages_shards_and_archives_add_up() {
    damage_some(6, 11);
}

#[test]
fn damaged_tables_add_up() {
    damage_some(11, 15);
}

#[test]
fn damaged_json_and_html_add_up() {
    damage_some(15, IMPORTERS.len());
    PLAIN.iter().for_each(damaged_without_documents);
}

/// Of data whose documents a walk does not count under damage: the sums themselves.
fn damaged_without_documents(importer: &Importer) {
    let mut random = ChaCha8Rng::seed_from_u64(24);
    for round in 0..100 {
        let root = tempfile::tempdir().unwrap();
        (importer.write)(root.path());
        let mut files = BTreeMap::new();
        contents(root.path(), root.path(), &mut files);
        damage(root.path(), importer, &mut random, &files);
        check(importer, root.path(), &format!("round {round}"));
    }
}

#[test]
fn counts_and_imports_have_the_account_of_a_check() {
    for importer in &IMPORTERS {
        let (root, cache, out) = (tempfile::tempdir(), tempfile::tempdir().unwrap(), tempfile::tempdir());
        let (root, out, store) = (root.unwrap(), out.unwrap(), store(&cache));
        (importer.write)(root.path());
        let wanted = verified(importer, root.path()).unwrap();
        let found = found(importer, root.path(), &store).unwrap().clear().unwrap();
        let sources = stored::open(&found.sources, &store).unwrap();
        let (mut counted, mut beside) = (Statistics::default(), found.beside.clone());
        for source in &sources {
            counted.merge(&Statistics::of(source, None, ONE_THREAD, &mut beside, &mut |_| {}).unwrap().0);
        }
        let name = importer.name;
        assert_eq!(counted.account(), wanted.account.documents, "{name}");
        assert_eq!(
            (found.files(&beside), counted.left_out),
            (wanted.account.files, wanted.left_out),
            "{name}"
        );
        let spec = ImportSpec {
            folder: out.path().join("shards"),
            stem: "shard".to_owned(),
            shard_bytes: 1 << 20,
            filter: None,
            max_skipped_share: 1.0,
            licence: None,
            attribution: None,
            how: ONE_THREAD,
        };
        let mut named = found.beside.clone();
        let imported = import(&sources, &spec, &mut named, &mut |_, _| {}).unwrap();
        assert_eq!(imported.account(), wanted.account.documents, "{name}");
        assert_eq!(named.account(), beside.account(), "{name}");
    }
}

#[test]
fn the_lock_of_an_import_is_neither_data_nor_left_out() {
    let root = tempfile::tempdir().unwrap();
    drop(FolderLock::take(root.path()).unwrap());
    fs::write(root.path().join("a.jsonl"), "{\"text\": \"some text\"}\n").unwrap();
    let importer = &IMPORTERS[17];
    let files = verified(importer, root.path()).unwrap().account.files;
    assert_eq!((files.there, files.read), (1, 1), "{files:?}");
    // What has bytes is somebody's.
    fs::write(root.path().join(".lock"), "mine").unwrap();
    let files = verified(importer, root.path()).unwrap().account.files;
    assert_eq!((files.there, files.left_out.total()), (2, 1), "{files:?}");
}

#[test]
fn fault_33_pictures_that_are_left_out_are_counted() {
    let cache = tempfile::tempdir().unwrap();
    let store = store(&cache);
    let said = DetectOptions::new(None, &["missing=leave-out".to_owned(), "pictures=.".to_owned()]).unwrap();
    let path = fault("33-obelics-urls/urls.parquet").to_string_lossy().into_owned();
    let found = detect(&[path], &said, &store).unwrap().clear().unwrap();
    let sources = stored::open(&found.sources, &store).unwrap();
    let (statistics, _) =
        Statistics::of(&sources[0], None, ONE_THREAD, &mut BesidePictures::default(), &mut |_| {}).unwrap();
    assert_eq!((statistics.sums.images, statistics.left_out.total()), (0, 2), "{:?}", statistics.reasons);
}

#[cfg(unix)]
#[test]
fn what_is_no_file_is_counted_by_commands_and_refused_in_a_recipe() {
    use mm1_data::source::SourceConfig;

    let root = tempfile::tempdir().unwrap();
    fs::write(root.path().join("a.jsonl"), "{\"text\": \"some text\"}\n").unwrap();
    let texts = |path: &Path| {
        let config = serde_json::json!({"kind": "json-text", "path": path});
        serde_json::from_value::<SourceConfig>(config).unwrap().open("mine", 1, None).map(drop)
    };
    let importer = &IMPORTERS[17];
    for (name, told, stops) in [
        ("pipe.jsonl", "a named pipe, not a regular file", true),
        ("socket.jsonl", "a socket, not a regular file", true),
        ("zero.jsonl", "a device, not a regular file", true),
        ("gone.jsonl", "a link to nothing, not a regular file", true),
        ("folder.jsonl", "a link to a folder, which is not followed: name the folder itself", false),
        (".hidden.jsonl", "hidden: its name begins with a dot", false),
    ] {
        let path = root.path().join(name);
        match name {
            "pipe.jsonl" => {
                assert!(std::process::Command::new("mkfifo").arg(&path).status().unwrap().success());
            }
            "socket.jsonl" => drop(std::os::unix::net::UnixListener::bind(&path).unwrap()),
            "zero.jsonl" => std::os::unix::fs::symlink("/dev/zero", &path).unwrap(),
            "gone.jsonl" => std::os::unix::fs::symlink("nowhere", &path).unwrap(),
            "folder.jsonl" => std::os::unix::fs::symlink("/", &path).unwrap(),
            _ => fs::write(&path, "?").unwrap(),
        }
        let account = verified(importer, root.path()).unwrap().account;
        assert_eq!((account.files.there, account.files.read, account.documents.read), (2, 1, 1), "{name}");
        assert_eq!(account.files.left_out, LeftOut::of([(told, 1)]), "{name}");
        let opened = texts(root.path());
        assert_eq!(opened.is_err(), stops, "{name}");
        if let Err(error) = opened {
            assert!(format!("{error:#}").contains(told), "{error:#}");
        }
        // A pattern takes what it fits: hidden files as a shell does, never folders.
        let pattern = texts(&root.path().join("*.jsonl"));
        assert_eq!(pattern.is_err(), stops, "{name}");
        fs::remove_file(&path).unwrap();
    }
}
