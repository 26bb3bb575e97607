//! `mm1 data fetch` where nothing can be had, and recipes that need what it gets.

use std::path::Path;
use std::process::Output;

use crate::{mm1, stderr};

/// `mm1 data fetch desk` on a machine without clients.
fn fetch(folder: &Path, more: &[&str]) -> Output {
    let to = folder.join("desk");
    let words = [&["data", "fetch", "desk", "--to", to.to_str().unwrap()], more].concat();
    mm1(&words).env("PATH", folder).env("MM1_CACHE", folder.join("cache")).output().unwrap()
}

#[test]
fn with_nothing_to_be_had_every_corpus_is_told_and_the_exit_code_is_2() {
    let folder = tempfile::tempdir().unwrap();
    let output = fetch(folder.path(), &["--json"]);
    let text = stderr(&output);
    assert_eq!(output.status.code(), Some(2), "{text}");
    assert!(output.stdout.is_empty());
    for (corpus, client) in [("noto", "npm"), ("gimp-help", "apt-get"), ("easy-vqa", "pip")] {
        assert!(text.contains(&format!("{corpus}: missing: {client} is not on PATH")), "{text}");
    }
    let last = text.lines().last().unwrap();
    assert!(last.starts_with("mm1: nothing was fetched into "), "{last}");
}

#[test]
fn wrong_names_and_sizes_are_refused() {
    let folder = tempfile::tempdir().unwrap();
    let refused = |more: &[&str], word: &str| {
        let output = fetch(folder.path(), more);
        assert_eq!(output.status.code(), Some(2), "{}", stderr(&output));
        assert!(stderr(&output).contains(word), "{}", stderr(&output));
    };
    refused(&["--only", "noto,coco"], "no corpus \"coco\"; known: ");
    refused(&["--size", "4"], "4 is not in 16..=2048");
}

#[cfg(unix)]
#[test]
fn bytes_that_are_not_the_known_ones_are_refused() {
    use std::os::unix::fs::PermissionsExt as _;
    let folder = tempfile::tempdir().unwrap();
    let pip = folder.path().join("pip");
    std::fs::write(&pip, "#!/bin/sh\necho other > easy_vqa-1.0-py3-none-any.whl\n").unwrap();
    std::fs::set_permissions(&pip, std::fs::Permissions::from_mode(0o755)).unwrap();
    let output = fetch(folder.path(), &["--only", "easy-vqa"]);
    assert_eq!(output.status.code(), Some(2));
    let last = stderr(&output);
    assert!(
        last.contains("easy-vqa 1.0 has SHA-256") && last.contains("not the bytes that mm1 knows"),
        "{last}"
    );
}

#[test]
fn a_recipe_without_its_corpora_says_how_to_get_them() {
    let recipe = concat!(env!("CARGO_MANIFEST_DIR"), "/../../recipes/pretrain/desk.toml");
    let folder = tempfile::tempdir().unwrap();
    let output = mm1(&["plan", recipe]).current_dir(folder.path()).output().unwrap();
    assert_eq!(output.status.code(), Some(2), "{}", stderr(&output));
    let text = stderr(&output);
    assert!(text.contains("data.captioned (run `mm1 data fetch desk --to data/desk` first)"), "{text}");
}
