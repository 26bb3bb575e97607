//! Archives, honest and not.

use std::path::Path;

use mm1_corpora::{UnpackLimits, unpack};

use crate::{File, deb, gz, tar, written, xz, zip};

/// Names and contents of the `.txt` files, or the refusal.
fn texts(path: &Path, limits: UnpackLimits) -> Result<Vec<String>, String> {
    let mut found = Vec::new();
    let result = unpack(path, limits, &|name| name.ends_with(".txt"), &mut |name, bytes| {
        found.push(format!("{name}={}", String::from_utf8_lossy(&bytes)));
        Ok(())
    });
    result.map(|()| found).map_err(|e| format!("{e:#}"))
}

fn files() -> Vec<File<'static>> {
    vec![("./a/b.txt", b"one".to_vec()), ("c.bin", vec![7; 2000]), ("d.txt", b"two".to_vec())]
}

fn refused(name: &str, bytes: &[u8], words: &[&str]) {
    limited(name, bytes, UnpackLimits::default(), words);
}

fn limited(name: &str, bytes: &[u8], limits: UnpackLimits, words: &[&str]) {
    let folder = tempfile::tempdir().unwrap();
    let error = texts(&written(folder.path(), name, bytes), limits).unwrap_err();
    assert!(words.iter().all(|word| error.contains(word)), "{error}");
}

#[test]
fn all_kinds_of_packages_give_their_files() {
    let folder = tempfile::tempdir().unwrap();
    let plain = tar(&files(), |_| ());
    let zst = zstd::encode_all(plain.as_slice(), 1).unwrap();
    let packages = [
        written(folder.path(), "p.tgz", &gz(&plain)),
        written(folder.path(), "x.deb", &deb("data.tar.xz", &xz(&plain))),
        written(folder.path(), "g.deb", &deb("data.tar.gz", &gz(&plain))),
        written(folder.path(), "z.deb", &deb("data.tar.zst", &zst)),
        written(folder.path(), "w.whl", &zip(&files())),
    ];
    for package in packages {
        let found = texts(&package, UnpackLimits::default());
        assert_eq!(
            found,
            Ok(vec!["a/b.txt=one".to_owned(), "d.txt=two".to_owned()]),
            "{}",
            package.display()
        );
    }
}

#[test]
fn names_that_leave_the_package_are_refused() {
    for name in ["../x.txt", "a/../../x.txt", "/etc/x.txt", "a\\..\\x.txt"] {
        let files = [("first.txt", b"1".to_vec()), (name, b"2".to_vec())];
        let plain = tar(&files, |_| ());
        refused("p.tgz", &gz(&plain), &["p.tgz", "leaves the package"]);
        refused("p.deb", &deb("data.tar.xz", &xz(&plain)), &["leaves the package"]);
        refused("p.whl", &zip(&files), &["leaves the package"]);
    }
}

#[test]
fn links_and_devices_are_not_followed() {
    let plain = tar(&files(), |archive| {
        for (kind, name) in [
            (tar::EntryType::Symlink, "link.txt"),
            (tar::EntryType::Link, "hard.txt"),
            (tar::EntryType::Char, "device.txt"),
        ] {
            let mut header = tar::Header::new_gnu();
            header.set_entry_type(kind);
            header.set_size(0);
            archive.append_link(&mut header, name, "/etc/passwd").unwrap();
        }
    });
    let folder = tempfile::tempdir().unwrap();
    let found = texts(&written(folder.path(), "p.tgz", &gz(&plain)), UnpackLimits::default()).unwrap();
    assert_eq!(found, ["a/b.txt=one", "d.txt=two"]);
}

#[test]
fn bombs_are_refused_before_they_take_memory() {
    let zeros = |name| vec![(name, vec![0; 8 << 20])];
    let small = UnpackLimits { file: 1 << 20, total: 4 << 20, files: 10 };
    for name in ["wanted.txt", "other.bin"] {
        limited("p.tgz", &gz(&tar(&zeros(name), |_| ())), small, &["refused"]);
        limited("p.whl", &zip(&zeros(name)), small, &["refused"]);
        limited("p.deb", &deb("data.tar.xz", &xz(&tar(&zeros(name), |_| ()))), small, &["refused"]);
    }
    let one = [("a.txt", vec![0; 2 << 20])];
    limited("p.tgz", &gz(&tar(&one, |_| ())), small, &["a.txt", "the limit is 1048576"]);
    let many: Vec<File> = (0..11).map(|_| ("a.txt", Vec::new())).collect();
    limited("p.tgz", &gz(&tar(&many, |_| ())), small, &["more than 10 files"]);
}

#[test]
fn a_size_in_a_header_is_not_believed() {
    let mut bytes = zip(&[("a.txt", vec![0; 3 << 20])]);
    // The uncompressed size in the central directory and in the local header, said to be 5.
    for mark in [b"PK\x01\x02".as_slice(), b"PK\x03\x04"] {
        let at = bytes.windows(4).position(|four| four == mark).unwrap() + if mark[2] == 1 { 24 } else { 22 };
        bytes[at..at + 4].copy_from_slice(&5_u32.to_le_bytes());
    }
    limited("p.whl", &bytes, UnpackLimits { file: 1 << 20, total: 4 << 20, files: 9 }, &["a.txt"]);
}

#[test]
fn what_is_no_package_is_refused() {
    refused("p.rar", b"", &["not a .tgz, .whl or .deb"]);
    refused("p.tgz", b"nothing", &["p.tgz"]);
    refused("p.whl", b"nothing", &["a damaged zip"]);
    refused("p.deb", b"nothing", &["p.deb"]);
    refused("p.deb", &deb("data.tar.bz2", b"x"), &["data.tar.bz2: this packing is not read"]);
    refused("p.deb", &deb("more", b"x"), &["a .deb without data"]);
    let whole = deb("data.tar.xz", &xz(&tar(&files(), |_| ())));
    refused("p.deb", &whole[..whole.len() - 40], &["p.deb"]);
}
