//! The pages say what is so: every test, file, link and command that they name exists.
//!
//! docs/LOG.md is exempt from the check of files: it names what was there on the day of an entry.

use std::path::{Path, PathBuf};
use std::{fs, iter};

use super::{mm1, stderr};

/// Folders of this repository; a word that begins with one of them is a path.
const FOLDERS: [&str; 7] = ["crates/", "recipes/", "scripts/", "bench/", "docs/", "testdata/", "fuzz/"];

fn root() -> PathBuf {
    Path::new(env!("CARGO_MANIFEST_DIR")).join("../..")
}

/// The Markdown files of `folder` and below, relative to the root.
fn pages_in(folder: &str) -> Vec<String> {
    let mut pages = Vec::new();
    for entry in fs::read_dir(root().join(folder)).unwrap() {
        let entry = entry.unwrap();
        let path = format!("{folder}/{}", entry.file_name().into_string().unwrap());
        if entry.file_type().unwrap().is_dir() {
            pages.append(&mut pages_in(&path));
        } else if path.ends_with(".md") {
            pages.push(path);
        }
    }
    pages
}

/// Every page, with its text.
fn pages() -> Vec<(String, String)> {
    let names = ["README.md", "ARCHITECTURE.md", "CHANGELOG.md"].map(String::from);
    let names = names.into_iter().chain(pages_in("docs"));
    names.map(|name| (name.clone(), fs::read_to_string(root().join(&name)).unwrap())).collect()
}

/// `a/{b,c}/d` as `a/b/d` and `a/c/d`.
fn alternatives(path: &str) -> Vec<String> {
    let Some((before, (inside, after))) =
        path.split_once('{').and_then(|(before, rest)| Some((before, rest.split_once('}')?)))
    else {
        return vec![path.to_owned()];
    };
    inside.split(',').flat_map(|choice| alternatives(&format!("{before}{choice}{after}"))).collect()
}

/// The words of a page that are paths of this repository: in prose, in code and in commands.
fn paths(text: &str) -> Vec<String> {
    let separates = |c: char| c.is_whitespace() || "`()[]\"'=|;".contains(c);
    let words = text.split(separates).map(|word| word.trim_end_matches(['.', ',', ':']));
    let paths = words.filter(|word| FOLDERS.iter().any(|folder| word.starts_with(folder)));
    paths.flat_map(alternatives).collect()
}

/// Whether a path of a page is there. `*` stands for any name, `…` and capitals for the reader's own.
fn is_there(path: &str) -> bool {
    let path = path.split(['#', '?']).next().unwrap_or(path);
    let (path, function) = path.split_once("::").unwrap_or((path, ""));
    let known = path.split('/').take_while(|part| !part.contains(['*', '…', '<']) && !is_placeholder(part));
    let known: PathBuf = iter::once(root()).chain(known.map(PathBuf::from)).collect();
    known.exists() && (function.is_empty() || has_test(&known, function))
}

/// Whether a part of a path is for the reader to fill in, such as `NAME`.
fn is_placeholder(part: &str) -> bool {
    let stem = part.split('.').next().unwrap_or(part);
    stem.len() > 1 && stem.chars().all(|c| c.is_ascii_uppercase()) && !["README", "LOG"].contains(&stem)
}

/// Whether the file holds a test of this name: a function with `#[test]` among its attributes.
fn has_test(file: &Path, name: &str) -> bool {
    let source = fs::read_to_string(file).unwrap();
    let lines: Vec<&str> = source.lines().map(str::trim_start).collect();
    let start = format!("fn {name}(");
    let Some(at) = lines.iter().position(|line| line.starts_with(&start)) else { return false };
    lines[..at].iter().rev().take_while(|line| line.starts_with("#[")).any(|line| *line == "#[test]")
}

#[test]
fn every_invariant_names_tests_that_exist() {
    let page = fs::read_to_string(root().join("ARCHITECTURE.md")).unwrap();
    let (_, invariants) = page.split_once("## Invariants").unwrap();
    let invariants = invariants.split("\n## ").next().unwrap();
    // An invariant is a numbered item and all lines behind it up to the next one.
    let numbered = |line: &str| line.split_once(". ").is_some_and(|(number, _)| number.parse::<u8>().is_ok());
    let mut items: Vec<String> = Vec::new();
    for line in invariants.lines() {
        if numbered(line) {
            items.push(String::new());
        }
        if let Some(item) = items.last_mut() {
            item.push_str(line);
            item.push('\n');
        }
    }
    assert!(items.len() >= 10, "{} invariants", items.len());
    for item in items {
        let tests: Vec<String> = paths(&item).into_iter().filter(|path| path.contains("::")).collect();
        assert!(!tests.is_empty(), "no test is named, as `crates/…/FILE.rs::NAME`, by: {item}");
        for test in tests {
            assert!(is_there(&test), "there is no test {test}, which is named by: {item}");
        }
    }
}

/// What of this workspace and of the engine each crate is built on.
const ARROWS: [(&str, &[&str]); 10] = [
    ("data", &[]),
    ("corpora", &["mm1-data"]),
    ("kernels", &["burn-std"]),
    ("gpu-kernels", &[]),
    ("model", &["burn", "burn-cubecl", "burn-flex", "burn-std", "mm1-gpu-kernels", "mm1-kernels"]),
    ("train", &["burn", "burn-cubecl", "mm1-data", "mm1-gpu-kernels", "mm1-kernels", "mm1-model"]),
    ("eval", &["mm1-data"]),
    ("serve", &["burn", "mm1-data", "mm1-model"]),
    ("lab", &[]),
    (
        "cli",
        &[
            "burn",
            "mm1-corpora",
            "mm1-data",
            "mm1-eval",
            "mm1-kernels",
            "mm1-lab",
            "mm1-model",
            "mm1-serve",
            "mm1-train",
        ],
    ),
];

#[test]
fn crates_are_built_on_what_the_page_says() {
    for (name, allowed) in ARROWS {
        let manifest = fs::read_to_string(root().join(format!("crates/{name}/Cargo.toml"))).unwrap();
        let (_, dependencies) = manifest.split_once("\n[dependencies]\n").unwrap();
        let dependencies = dependencies.split("\n[").next().unwrap();
        let names = dependencies.lines().map(|line| line.split(['.', ' ', '=']).next().unwrap_or(line));
        let wrong = names.filter(|name| name.starts_with("burn") || name.starts_with("mm1-"));
        let wrong: Vec<&str> = wrong.filter(|name| !allowed.contains(name)).collect();
        assert!(wrong.is_empty(), "crates/{name} must not know {wrong:?}");
    }
    assert_eq!(fs::read_dir(root().join("crates")).unwrap().count(), ARROWS.len());
}

#[test]
fn every_file_that_a_page_names_exists() {
    let mut missing = Vec::new();
    for (page, text) in pages().into_iter().filter(|(page, _)| page != "docs/LOG.md") {
        // A link is relative to its page: that is the next test's.
        let linked = |path: &str| text.contains(&format!("]({path}"));
        let gone = paths(&text).into_iter().filter(|path| !linked(path) && !is_there(path));
        missing.extend(gone.map(|path| format!("{page}: {path}")));
    }
    assert!(missing.is_empty(), "not there:\n{}", missing.join("\n"));
}

#[test]
fn every_link_leads_somewhere() {
    for (page, text) in pages() {
        let folder = root().join(&page).parent().unwrap().to_path_buf();
        for link in text.split("](").skip(1) {
            let link = link.split(')').next().unwrap();
            if link.contains("://") {
                continue;
            }
            let (file, section) = link.split_once('#').unwrap_or((link, ""));
            let file = if file.is_empty() { root().join(&page) } else { folder.join(file) };
            assert!(file.exists(), "{page}: the link {link} leads nowhere");
            if !section.is_empty() {
                let text = fs::read_to_string(&file).unwrap();
                let headings = text.lines().filter(|line| line.starts_with('#'));
                let own = format!("<a id=\"{section}\">");
                let found = text.contains(&own) || headings.map(anchor).any(|anchor| anchor == section);
                assert!(found, "{page}: no section {link}");
            }
        }
    }
}

/// The name of a heading in an address, as GitHub makes it.
fn anchor(heading: &str) -> String {
    let text = heading.trim_start_matches('#').trim().to_lowercase();
    let kept = text.chars().filter(|c| c.is_alphanumeric() || [' ', '-', '_'].contains(c));
    kept.map(|c| if c == ' ' { '-' } else { c }).collect()
}

/// The commands of this program in the shell fences of a page, each as its arguments.
fn commands(text: &str) -> Vec<Vec<String>> {
    let fences = text.split("```sh\n").skip(1).map(|rest| rest.split("```").next().unwrap_or(rest));
    let fences: Vec<String> = fences.map(|fence| fence.replace("\\\n", " ")).collect();
    let lines = fences.iter().flat_map(|fence| fence.lines());
    let ours = lines.filter_map(|line| {
        line.trim().strip_prefix("mm1 ").or_else(|| line.trim().strip_prefix("cargo run --release -- "))
    });
    ours.map(words).collect()
}

/// The words of a command up to where its output goes; quotes hold a word together.
fn words(line: &str) -> Vec<String> {
    let (mut words, mut quote) = (vec![String::new()], None);
    for c in line.chars() {
        match quote {
            Some(open) if c == open => quote = None,
            None if c == '"' || c == '\'' => quote = Some(c),
            None if c.is_whitespace() => words.push(String::new()),
            _ => words.last_mut().unwrap().push(c),
        }
    }
    words.retain(|word| !word.is_empty());
    words.into_iter().take_while(|word| ![">", "|"].contains(&word.as_str())).collect()
}

#[test]
fn every_command_of_a_page_is_understood() {
    let mut tried = 0;
    for (page, text) in pages() {
        for command in commands(&text) {
            let mut arguments: Vec<&str> = command.iter().map(String::as_str).collect();
            // Arguments are read in order: one that is unknown is refused before the help is shown.
            arguments.push("--help");
            let output = mm1(&arguments).output().unwrap();
            assert!(output.status.success(), "{page}: mm1 {}: {}", command.join(" "), stderr(&output));
            tried += 1;
        }
    }
    assert!(tried > 20, "only {tried} commands were found");
}

#[test]
fn a_path_that_is_not_there_is_found() {
    assert!(is_there("crates/cli/tests/it/architecture.rs::a_path_that_is_not_there_is_found"));
    assert!(is_there("crates/*/src/lib.rs") && is_there("docs/guide/first-run.md#what-it-does"));
    assert!(!is_there("crates/cli/tests/it/architecture.rs::anchor"), "no test");
    assert!(!is_there("crates/cli/src/no_such_file.rs"));
    assert_eq!(commands("```sh\nmm1 chat --run a \\\n  'b c' > d\n```"), [["chat", "--run", "a", "b c"]]);
    assert_eq!(alternatives("a/{b,c}.rs"), ["a/b.rs", "a/c.rs"]);
    assert_eq!(
        paths("see `crates/data/src/{a,b}.rs`, or run bench/train --x"),
        ["crates/data/src/a.rs", "crates/data/src/b.rs", "bench/train"]
    );
}
