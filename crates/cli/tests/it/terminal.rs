//! What others have written (names of files, ids, texts, reasons) as a terminal gets it: nothing in it steers
//! the terminal, turns the direction of writing or makes a line of its own.

use std::fs;
use std::path::Path;
use std::process::Output;

use serde_json::Value;

use crate::{mm1, stderr, succeeds};

/// Clears the screen, colours, turns the direction, and begins a line that looks like the program's.
const HOSTILE: &str = "x\u{1b}[2J\u{9b}31m\u{7f}\u{202e}gpj.\u{2066}\nmm1: all is well\u{feff}\r";

/// Conversations with a hostile id and text, the last of them without a turn that can be read; in a file with
/// a hostile name. A file of no format has such a name too.
fn hostile(folder: &Path) {
    let talk = |answer: Value| {
        let turns = serde_json::json!([
            {"from": "human", "value": HOSTILE},
            {"from": "gpt", "value": answer},
        ]);
        serde_json::json!({"id": HOSTILE, "conversations": turns}).to_string()
    };
    let lines: Vec<String> = (0..12).map(|_| talk(HOSTILE.into())).chain([talk(7.into())]).collect();
    fs::write(folder.join(format!("{}.jsonl", HOSTILE.replace('/', ""))), lines.join("\n")).unwrap();
    fs::write(folder.join(format!("{HOSTILE}.xyz")), "?").unwrap();
}

/// What a terminal would obey in the output of a command.
fn steers(output: &Output) -> Vec<char> {
    let both = [output.stdout.as_slice(), &output.stderr].concat();
    let steers = |c: &char| {
        c.is_control() && *c != '\n' || ['\u{202e}', '\u{2066}', '\u{feff}', '\u{2028}'].contains(c)
    };
    String::from_utf8(both).unwrap().chars().filter(steers).collect()
}

#[test]
fn what_others_wrote_steers_no_terminal() {
    let root = tempfile::tempdir().unwrap();
    let data = root.path().join("data");
    fs::create_dir(&data).unwrap();
    hostile(&data);
    let (data, to) = (data.to_str().unwrap(), root.path().join("shards"));
    let run = |arguments: &[&str]| {
        mm1(&["data"]).args(arguments).env("MM1_CACHE", root.path().join("cache")).output().unwrap()
    };
    let import = ["import", data, "--no-filter", "--to", to.to_str().unwrap()];
    for command in [&["stats", data][..], &["verify", data], &["inspect", data], &import] {
        let shown = run(command);
        let text = format!("{}{}", String::from_utf8_lossy(&shown.stdout), stderr(&shown));
        assert!(steers(&shown).is_empty(), "{command:?}: {:?} in {text}", steers(&shown));
        // Names and ids stay in one line; the lines of a text are its own.
        let lines = text.lines().filter(|line| line.starts_with("mm1: all is well"));
        assert_eq!(lines.count(), if command[0] == "inspect" { 2 } else { 0 }, "{command:?}: {text}");
        assert!(text.contains("\\u{1b}[2J"), "{command:?}: {text}");
    }
    fs::remove_dir_all(&to).unwrap();
    for command in [&["stats", data][..], &["verify", data], &["inspect", data], &import] {
        let shown = run(&[command, &["--json"]].concat());
        assert!(steers(&shown).is_empty(), "{command:?}: {:?}", steers(&shown));
        let text = String::from_utf8_lossy(&shown.stdout);
        let document: Value = serde_json::from_str(text.lines().last().unwrap()).unwrap();
        if command[0] == "inspect" {
            let id = document["id"].as_str().unwrap();
            assert!(id.ends_with(HOSTILE), "the value stays what it was: {id:?}");
        }
    }
    succeeds(&run(&["stats", to.to_str().unwrap()]));
}

#[test]
fn a_preview_and_scores_steer_no_terminal() {
    let root = tempfile::tempdir().unwrap();
    hostile(root.path());
    let path = format!("data.captioned={{kind=\"conversations\", path=\"{}\"}}", root.path().display());
    let preview = |more: &[&str]| {
        let edits = ["preview", crate::TINY, "--stage", "pretrain", "--rows", "3", "--set", &path];
        mm1(&["data"]).args(edits).args(more).output().unwrap()
    };
    for shown in [preview(&[]), preview(&["--json"])] {
        assert!(steers(&shown).is_empty(), "{:?} in {}", steers(&shown), stderr(&shown));
        assert!(String::from_utf8_lossy(&shown.stdout).contains("[2J"), "{}", stderr(&shown));
    }
    let (given, wanted) = (root.path().join("given.json"), root.path().join("wanted.json"));
    fs::write(&given, serde_json::json!({HOSTILE: "a"}).to_string()).unwrap();
    fs::write(&wanted, serde_json::json!({"y": "a"}).to_string()).unwrap();
    let scored = mm1(&["score", "vqa"]).args([&given, &wanted]).output().unwrap();
    assert!(!scored.status.success() && steers(&scored).is_empty(), "{}", stderr(&scored));
}
