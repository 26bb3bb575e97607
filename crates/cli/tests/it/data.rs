//! `mm1 data`, as a person meets it.

use std::fs;
use std::path::{Path, PathBuf};
use std::process::Output;
use std::sync::OnceLock;

use serde_json::Value;
use tempfile::TempDir;

use crate::refuse::refused;
use crate::{TINY, mm1, picture, stderr, succeeds};

/// `mm1 data` with arguments and a cache of its own.
fn data(arguments: &[&str]) -> Output {
    static CACHE: OnceLock<TempDir> = OnceLock::new();
    let cache = CACHE.get_or_init(|| tempfile::tempdir().unwrap());
    mm1(&["data"]).args(arguments).env("MM1_CACHE", cache.path()).output().unwrap()
}

/// The JSON document on the last line.
fn json(output: &Output) -> Value {
    let text = String::from_utf8_lossy(&output.stdout).into_owned();
    serde_json::from_str(text.lines().last().unwrap_or_default()).unwrap_or_else(|e| panic!("{e}: {text}"))
}

fn sample(name: &str) -> String {
    Path::new(concat!(env!("CARGO_MANIFEST_DIR"), "/../../testdata/data")).join(name).display().to_string()
}

/// Where a PNG is cut so that its header is whole and its pixels have begun.
const BEGUN: usize = 45;

fn text(path: &Path) -> &str {
    path.to_str().unwrap()
}

/// Five pictures with captions; the last has a side of three pixels.
fn pairs(folder: &Path) -> PathBuf {
    let pairs = folder.join("pairs");
    fs::create_dir_all(&pairs).unwrap();
    for i in 0..5 {
        picture(pairs.join(format!("{i}.png")), if i == 4 { 3 } else { 20 }, [i * 50, 90, 200]);
        fs::write(pairs.join(format!("{i}.txt")), format!("picture number {i}")).unwrap();
    }
    pairs
}

#[test]
fn data_is_imported_counted_verified_and_shown() {
    let dir = tempfile::tempdir().unwrap();
    let (pairs, to) = (pairs(dir.path()), dir.path().join("shards"));
    let done = data(&[
        "import",
        text(&pairs),
        &sample("pairs.tar"),
        "--to",
        text(&to),
        "--licence",
        "MIT",
        "--json",
    ]);
    succeeds(&done);
    let import = json(&done);
    assert_eq!(
        (&import["documents"], &import["images"], &import["read"]),
        (&10.into(), &10.into(), &11.into())
    );
    assert_eq!(import["removed"]["documents"]["small"], 1);
    let stats = json(&data(&["stats", text(&to), "--json"]));
    assert_eq!(
        (&stats["documents"], &stats["images"], &stats["skipped"]),
        (&10.into(), &10.into(), &0.into())
    );
    assert_eq!(stats["words"], 4 * 3 + 6 * 2);
    assert_eq!(
        (&stats["sources"][0]["documents"], &stats["sources"][0]["kind"]),
        (&10.into(), &"shards".into())
    );
    assert_eq!(stats["kinds"]["captioned"]["images"], 10);
    let origin =
        |i: usize| (stats["origins"][i]["documents"].as_u64(), stats["origins"][i]["licence"].as_str());
    assert_eq!([origin(0), origin(1)], [(Some(4), Some("MIT")), (Some(6), Some("MIT"))]);
    let verified = data(&["verify", text(&to), "--json"]);
    succeeds(&verified);
    assert_eq!((&json(&verified)["whole"], &json(&verified)["manifests"]), (&true.into(), &1.into()));
    let html = dir.path().join("page.html");
    let shown = data(&["inspect", text(&to), "--id", "3.png", "--html", text(&html)]);
    succeeds(&shown);
    let page = String::from_utf8(shown.stdout).unwrap();
    for wanted in ["pairs/3.png", "captioned", "PNG 20x20", "picture number 3", "<end>"] {
        assert!(page.contains(wanted), "{wanted} is not in {page}");
    }
    assert!(fs::read_to_string(&html).unwrap().contains("data:image/png;base64,"));
    // For people: a table.
    let table = String::from_utf8(data(&["stats", text(&to)]).stdout).unwrap();
    assert!(table.contains("words of a document") && table.contains("shorter side"), "{table}");
    // A recipe takes the shards.
    let path = format!("data.captioned.path={}", to.display());
    let preview = data(&[
        "preview",
        TINY,
        "--set",
        "data.captioned.kind=shards",
        "--set",
        &path,
        "--json",
        "--stage",
        "encoder",
    ]);
    succeeds(&preview);
    assert!(json(&preview)["rows"][0]["samples"][0]["id"].as_str().unwrap().contains("/shard-00000"));
}

#[test]
fn rules_come_from_a_file_and_from_edits() {
    let dir = tempfile::tempdir().unwrap();
    let pairs = pairs(dir.path());
    let rules = dir.path().join("rules.toml");
    fs::write(&rules, "min_side = 2\nnames = [\"3.png\"]\n").unwrap();
    let import = |to: &str, more: &[&str]| {
        let to = dir.path().join(to);
        data(&[&["import", text(&pairs), "--to", text(&to), "--json"], more].concat())
    };
    let by_file = import("a", &["--filter", text(&rules)]);
    succeeds(&by_file);
    assert_eq!(json(&by_file)["removed"]["documents"], serde_json::json!({"name": 1}));
    let edited = json(&import("b", &["--filter", text(&rules), "--filter-set", "min_side=11"]));
    assert_eq!(edited["removed"]["documents"], serde_json::json!({"name": 1, "small": 1}));
    let all = json(&import("c", &["--no-filter"]));
    assert_eq!((&all["documents"], &all["removed"]), (&5.into(), &Value::Null));
    refused(&import("d", &["--filter-set", "min_sides=11"]), &["unknown field `min_sides`", "min_side"]);
    refused(&import("d", &["--filter-set", "min_side"]), &["--filter-set min_side", "field=value"]);
    refused(&import("d", &["--filter", "none.toml"]), &["--filter none.toml"]);
    refused(&import("a", &[]), &["shard-000000.tar", "exists", "--name"]);
    assert!(!dir.path().join("d").exists());
}

#[test]
fn damage_is_skipped_up_to_a_share_and_found_by_verify() {
    let dir = tempfile::tempdir().unwrap();
    let pairs = pairs(dir.path());
    let whole = fs::read(pairs.join("1.png")).unwrap();
    fs::write(pairs.join("1.png"), &whole[..BEGUN]).unwrap();
    let to = dir.path().join("to");
    let import = |share: &str| {
        data(&[
            "import",
            text(&pairs),
            "--to",
            text(&to),
            "--max-skipped-share",
            share,
            "--no-filter",
            "--json",
        ])
    };
    refused(&import("0.1"), &["1 of 5 documents are damaged", "1.png", "--max-skipped-share"]);
    let left = |name: &str| fs::read_dir(&to).unwrap().any(|e| e.unwrap().file_name() != name);
    assert!(!left(".lock"), "nothing but the lock");
    let done = import("0.2");
    succeeds(&done);
    let import = json(&done);
    assert_eq!((&import["documents"], &import["skipped"]), (&4.into(), &1.into()));
    assert!(import["skipped_documents"][0]["file"].as_str().unwrap().ends_with("1.png"));
    let found = data(&["verify", text(&pairs), "--json"]);
    refused(&found, &["1 problem was found"]);
    assert!(json(&found)["problems"][0]["reason"].as_str().unwrap().contains("damaged picture"));
    // Headers are whole; pixels are not.
    assert_eq!(json(&data(&["stats", text(&pairs), "--json"]))["skipped"], 0);
    assert_eq!(json(&data(&["stats", text(&pairs), "--decode", "--json"]))["skipped"], 1);
    let shard = to.join("shard-000000.tar");
    let bytes = fs::read(&shard).unwrap();
    fs::write(&shard, &bytes[..bytes.len() - 3000]).unwrap();
    let found = data(&["verify", text(&to), "--json"]);
    assert_eq!((found.status.code(), &json(&found)["whole"]), (Some(2), &false.into()));
    refused(&data(&["stats", text(&shard)]), &["shard-000000.tar", "ends in"]);
}

#[test]
fn wrong_paths_and_settings_are_refused_in_one_line() {
    let dir = tempfile::tempdir().unwrap();
    let file = |name: &str, content: &str| {
        fs::write(dir.path().join(name), content).unwrap();
        dir.path().join(name).display().to_string()
    };
    let empty = dir.path().join("empty");
    fs::create_dir(&empty).unwrap();
    let damaged = file("damaged.tar", &"this is no archive ".repeat(100));
    let unknown = file("a.bin", "x");
    for command in ["stats", "inspect", "verify"] {
        refused(&data(&[command, "no/such/path"]), &["no/such/path"]);
        refused(&data(&[command, text(&empty)]), &["empty", "no file found"]);
        refused(&data(&[command, &unknown]), &["a.bin", "--kind", "webdataset"]);
        refused(&data(&[command, &sample("pairs.tar"), "--kind", "tar"]), &["--kind tar", "webdataset"]);
        refused(&data(&[command, &sample("pairs.tar"), "--set", "captions=txt"]), &["--set captions"]);
        refused(&data(&[command, &sample("pairs.tar"), "--set", "caption"]), &["field=value"]);
    }
    refused(&data(&["stats", &damaged]), &["damaged.tar", "not a tar header"]);
    let verified = data(&["verify", &damaged, "--json"]);
    assert!(json(&verified)["problems"][0]["file"].as_str().unwrap().ends_with("damaged.tar"));
    refused(&data(&["inspect", &sample("pairs.tar"), "--index", "6"]), &["--index 6", "6 documents"]);
    refused(&data(&["inspect", &sample("pairs.tar"), "--id", "none"]), &["--id none", "6"]);
    refused(&data(&["stats", &sample("pairs.tar"), "--tokenizer", "none.json"]), &["--tokenizer none.json"]);
    refused(
        &data(&["import", &sample("pairs.tar"), "--to", text(dir.path()), "--name", "a/b"]),
        &["--name \"a/b\""],
    );
}

#[test]
fn a_folder_of_many_formats_is_told_apart() {
    let stats = data(&["stats", &sample(""), "--json"]);
    succeeds(&stats);
    let stats = json(&stats);
    let kinds: Vec<&str> =
        stats["sources"].as_array().unwrap().iter().map(|source| source["kind"].as_str().unwrap()).collect();
    for kind in
        ["webdataset", "parquet-captioned", "parquet-text", "obelics", "mmc4", "conversations", "json-text"]
    {
        assert!(kinds.contains(&kind), "{kind} is not in {kinds:?}");
    }
    let sum = |field: &str| -> u64 {
        stats["sources"].as_array().unwrap().iter().map(|source| source[field].as_u64().unwrap()).sum()
    };
    for field in ["documents", "images", "words", "skipped", "bytes"] {
        assert_eq!(stats[field], sum(field), "{field}");
    }
    assert_eq!(stats["files_left_out"], serde_json::json!([]));
    assert_eq!(stats["skipped_documents"].as_array().unwrap().len() as u64, sum("skipped"));
}

#[test]
fn a_preview_shows_the_rows_of_training_with_any_threads() {
    let preview = |threads: &str| {
        let done =
            data(&["preview", TINY, "--stage", "pretrain", "--rows", "6", "--threads", threads, "--json"]);
        succeeds(&done);
        done.stdout
    };
    let one = preview("1");
    assert_eq!(one, preview("2"));
    assert_eq!(one, preview("5"));
    let one: Value = serde_json::from_slice(&one).unwrap();
    assert_eq!((&one["stage"], &one["skipped"]), (&"pretrain".into(), &serde_json::json!([])));
    let rows = one["rows"].as_array().unwrap();
    assert_eq!(rows.len(), 6);
    for (i, row) in rows.iter().enumerate() {
        let samples = row["samples"].as_array().unwrap();
        let sum = |field: &str| samples.iter().map(|sample| sample[field].as_u64().unwrap()).sum::<u64>();
        assert_eq!(row["row"], i);
        assert_eq!(
            (sum("tokens"), sum("images")),
            (row["tokens"].as_u64().unwrap(), row["images"].as_u64().unwrap())
        );
        assert_eq!(sum("tokens") + row["padding"].as_u64().unwrap(), 192);
        let source = row["source"].as_str().unwrap();
        assert!(["captioned", "interleaved"].contains(&source));
        assert!(samples.iter().all(|sample| sample["truncated"].is_boolean()));
    }
    let first = data(&["preview", TINY, "--rows", "1"]);
    let table = String::from_utf8(first.stdout.clone()).unwrap();
    assert!(
        table.contains("row 0  captioned") && table.contains("stage encoder: 1 row of"),
        "{table}{}",
        stderr(&first)
    );
    refused(
        &data(&["preview", TINY, "--stage", "few-shot"]),
        &["--stage few-shot", "encoder, pretrain, sft"],
    );
    refused(&data(&["preview", "none.toml"]), &["none.toml"]);
    assert_eq!(data(&["preview", TINY, "--rows", "0"]).status.code(), Some(2));
}

/// A byte of a page header by which the library of Parquet panics: damage of that file, and no message of the
/// library's.
#[test]
fn fault_30_a_library_that_panics_on_a_damaged_page_is_not_heard() {
    let dir = tempfile::tempdir().unwrap();
    let mut bytes = fs::read(sample("obelics-paths.parquet")).unwrap();
    bytes[125] = 20;
    let file = dir.path().join("damaged.parquet");
    fs::write(&file, bytes).unwrap();
    for command in [&["inspect", "--index", "0"][..], &["verify"], &["stats"]] {
        let output = data(&[&command[..1], &[text(&file)], &command[1..]].concat());
        let shown = format!("{}{}", stderr(&output), String::from_utf8_lossy(&output.stdout));
        assert!(!shown.contains("panicked") && !shown.contains("stack backtrace"), "{command:?}: {shown}");
        assert!(shown.contains("damaged.parquet"), "{command:?}: {shown}");
    }
}
