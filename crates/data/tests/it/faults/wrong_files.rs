//! Files that are not what their name says, that are no files, or that lead out of their folder.

use std::fs;
use std::path::Path;

use mm1_data::document::Image;
use mm1_data::image::{DecodeBudget, MAX_SIDE, decode};
use mm1_data::shard::{MANIFEST, ShardManifest};
use mm1_data::source::folder::PictureFolder;
use mm1_data::source::{Source as _, Split};
use mm1_data::verify::verify;

use super::{PIXELS, detected, store};
use crate::testdata;

const POINTER: &str = "version https://git-lfs.github.com/spec/v1\noid sha256:00\nsize 1234\n";
const PAGE: &str = "<!DOCTYPE html>\n<html><head><title>Sign in</title></head></html>";

/// Why the one file of this name and content can't be used.
fn reason(name: &str, content: &str) -> String {
    let (root, cache) = (tempfile::tempdir().unwrap(), tempfile::tempdir().unwrap());
    fs::write(root.path().join(name), content).unwrap();
    let store = store(&cache);
    let path = root.path().join(name);
    let verified = verify(&detected(&path, &store), &store, PIXELS, &mut |_| {}).unwrap();
    assert_eq!(verified.documents, 0, "{name}");
    verified.problems[0].reason.clone()
}

#[test]
fn a_git_lfs_pointer_is_called_so_whatever_its_ending() {
    for name in ["a.tar", "a.tar.gz", "a.parquet", "a.jsonl", "a.json", "a.txt", "a.md"] {
        let told = reason(name, POINTER);
        assert!(told.contains("Git LFS pointer") && told.contains("git lfs pull"), "{name}: {told}");
    }
    let told = decode(POINTER.as_bytes(), MAX_SIDE).unwrap_err().to_string();
    assert!(told.contains("Git LFS pointer"), "{told}");
}

#[test]
fn a_page_of_a_server_in_place_of_data_is_called_so() {
    for name in ["a.tar", "a.parquet", "a.jsonl", "a.json"] {
        let told = reason(name, PAGE);
        assert!(told.contains("an HTML page") && told.contains("download it again"), "{name}: {told}");
    }
    let told = decode(PAGE.as_bytes(), MAX_SIDE).unwrap_err().to_string();
    assert!(told.contains("an HTML page"), "{told}");
}

#[test]
fn a_manifest_names_files_beside_it_only() {
    let root = tempfile::tempdir().unwrap();
    for file in ["../secret.tar", "/etc/passwd", "deeper/a.tar", "..", "", "a\\b.tar"] {
        let shard = serde_json::json!({"file": file, "documents": 1, "images": 0, "words": 0, "bytes": 1,
            "sha256": "0"});
        fs::write(root.path().join(MANIFEST), serde_json::json!({"shards": [shard]}).to_string()).unwrap();
        let error = format!("{:#}", ShardManifest::read(root.path()).unwrap_err());
        assert!(error.contains("is not the name of a file beside it"), "{file}: {error}");
    }
}

#[cfg(unix)]
fn pipe(path: &Path) {
    assert!(std::process::Command::new("mkfifo").arg(path).status().unwrap().success());
}

#[cfg(unix)]
#[test]
fn pipes_and_devices_in_place_of_pictures_and_shards_hang_nothing() {
    let root = tempfile::tempdir().unwrap();
    fs::copy(testdata("image/rgb.jpg"), root.path().join("0.jpg")).unwrap();
    pipe(&root.path().join("1.jpg"));
    std::os::unix::fs::symlink("/dev/zero", root.path().join("2.jpg")).unwrap();
    let line = |path: &str| serde_json::json!({"path": path, "caption": "a"}).to_string();
    let list = root.path().join("captions.jsonl");
    fs::write(&list, ["0.jpg", "1.jpg", "2.jpg"].map(line).join("\n")).unwrap();
    let source = PictureFolder::open("mine", &list, 0.0, 7).unwrap();
    let read: Vec<Result<_, String>> =
        (0..3).map(|i| source.document(Split::Train, i).map_err(|error| format!("{error:#}"))).collect();
    let told: Vec<&String> = read.iter().filter_map(|read| read.as_ref().err()).collect();
    assert_eq!(told.len(), 2);
    assert!(told.iter().any(|told| told.contains("1.jpg: a named pipe, not a regular file")), "{told:?}");
    assert!(told.iter().any(|told| told.contains("2.jpg: a link that leaves the folder")), "{told:?}");
    let shards = tempfile::tempdir().unwrap();
    pipe(&shards.path().join("a.tar"));
    let shard = serde_json::json!({"file": "a.tar", "documents": 1, "images": 0, "words": 0, "bytes": 1,
        "sha256": "0"});
    fs::write(shards.path().join(MANIFEST), serde_json::json!({"shards": [shard]}).to_string()).unwrap();
    let error = ShardManifest::read(shards.path()).unwrap().verify(shards.path()).unwrap_err();
    assert!(format!("{error:#}").contains("a named pipe"), "{error:#}");
}

#[test]
fn a_caption_file_of_three_gigabytes_is_refused_by_its_size() {
    let root = tempfile::tempdir().unwrap();
    let list = root.path().join("captions.jsonl");
    // A hole in the file: it takes no disk.
    fs::File::create(&list).unwrap().set_len(3 << 30).unwrap();
    let error = format!("{:#}", PictureFolder::open("mine", root.path(), 0.0, 7).err().unwrap());
    assert!(error.contains("captions.jsonl: a file of 3221225472 bytes; the limit is"), "{error}");
}

#[test]
fn four_large_pictures_at_once_are_decoded_one_after_the_other() {
    let large: Image = crate::image::bomb(10_000, 10_000).into();
    let budget = DecodeBudget::default();
    let most = std::sync::atomic::AtomicU64::new(0);
    std::thread::scope(|scope| {
        for _ in 0..4 {
            scope.spawn(|| {
                let _held = budget.hold(&large);
                most.fetch_max(budget.taken(), std::sync::atomic::Ordering::Relaxed);
                std::thread::sleep(std::time::Duration::from_millis(2));
            });
        }
    });
    assert_eq!(most.into_inner(), 600_000_000, "one at a time");
    assert_eq!(budget.taken(), 0);
}
