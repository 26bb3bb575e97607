//! Synthetic captions by a trained model.

use std::collections::BTreeMap;
use std::fs;
use std::path::Path;
use std::process::{Output, Stdio};
use std::time::Duration;

use serde_json::Value;

use crate::refuse::refused;
use crate::{TINY, mm1, run, stderr, succeeds};

const PICTURES: usize = 40;

/// Pictures of noise with a caption each; number 7 is damaged.
pub(crate) fn pictures(folder: &Path) {
    let mut state = 1_u32;
    for i in 0..PICTURES {
        let noise = image::RgbImage::from_fn(40, 40, |_, _| {
            state = state.wrapping_mul(1_664_525).wrapping_add(1_013_904_223);
            image::Rgb(state.to_be_bytes()[..3].try_into().unwrap())
        });
        let path = folder.join(format!("{i:02}.png"));
        noise.save(&path).unwrap();
        fs::write(path.with_extension("txt"), format!("Specimen {i}")).unwrap();
    }
    let damaged = folder.join("07.png");
    let whole = fs::read(&damaged).unwrap();
    fs::write(damaged, &whole[..whole.len() / 2]).unwrap();
}

/// The command, with shards of a few pictures.
pub(crate) fn command(run: &Path, source: &Path, to: &Path, more: &[&str]) -> std::process::Command {
    let paths = [run, source, to].map(|path| path.to_str().unwrap());
    let mut command = mm1(&["data", "recaption", "--run", paths[0], paths[1], "--to", paths[2]]);
    for default in [["--shard-mib", "0.03"], ["--max-tokens", "12"]] {
        if !more.contains(&default[0]) {
            command.args(default);
        }
    }
    command.args(more);
    command
}

/// Every file but the lock, by its name.
pub(crate) fn files(folder: &Path) -> BTreeMap<String, Vec<u8>> {
    let entries = fs::read_dir(folder).unwrap().map(|entry| entry.unwrap());
    entries.map(|e| (e.file_name().into_string().unwrap(), fs::read(e.path()).unwrap())).collect()
}

/// The `.json` of every document in the shards, in order.
fn documents(folder: &Path) -> Vec<Value> {
    let shards = files(folder).into_iter().filter(|(name, _)| name.ends_with(".tar"));
    let mut found = Vec::new();
    for (_, bytes) in shards {
        let mut at = 0;
        while bytes[at] != 0 {
            let text = |range: std::ops::Range<usize>| {
                String::from_utf8_lossy(&bytes[at..][range]).trim_end_matches('\0').to_owned()
            };
            let size = usize::from_str_radix(text(124..135).trim(), 8).unwrap();
            if text(0..100).ends_with(".json") {
                found.push(serde_json::from_slice(&bytes[at + 512..][..size]).unwrap());
            }
            at += 512 + size.next_multiple_of(512);
        }
    }
    found
}

fn last_json(output: &Output) -> Value {
    let text = String::from_utf8_lossy(&output.stdout);
    serde_json::from_str(text.lines().last().unwrap()).unwrap()
}

#[test]
fn killed_at_any_moment_with_any_batch_and_threads_it_writes_the_same_bytes() {
    let dir = tempfile::tempdir().unwrap();
    let (trained, source) = (dir.path().join("run"), dir.path().join("pictures"));
    fs::create_dir(&source).unwrap();
    pictures(&source);
    succeeds(&run(&trained, &[]));
    let (whole, killed) = (dir.path().join("whole"), dir.path().join("killed"));
    let done =
        command(&trained, &source, &whole, &["--threads", "1", "--batch", "2", "--json"]).output().unwrap();
    succeeds(&done);
    let told = last_json(&done);
    assert_eq!((told["captions"].as_u64(), told["skipped"].as_u64()), (Some(PICTURES as u64 - 1), Some(1)));
    assert_eq!(told["words_before"], 2.0);
    assert!(told["words_after"].as_f64().unwrap() >= 2.0, "{told}");
    assert!(stderr(&done).contains("07.png"), "the damaged picture is listed: {}", stderr(&done));
    let documents = documents(&whole);
    assert_eq!(documents.len(), PICTURES - 1);
    for document in &documents {
        let original = document["original"].as_str().unwrap();
        let text = document["segments"][1]["text"].as_str().unwrap();
        assert_eq!(document["kind"], "synthetic");
        assert!(original.starts_with("Specimen ") && text.contains(original), "{document}");
    }

    let mut kills = 0;
    loop {
        let (threads, batch) = ([["1", "5"], ["3", "1"], ["2", "3"]][kills % 3]).into();
        let mut child = command(&trained, &source, &killed, &["--threads", threads, "--batch", batch])
            .stdout(Stdio::null())
            .stderr(Stdio::null())
            .spawn()
            .unwrap();
        let shards = || files_ending(&killed, ".tar");
        let before = shards();
        let status = loop {
            if let Some(status) = child.try_wait().unwrap() {
                break Some(status);
            }
            if shards() > before {
                break None;
            }
            std::thread::sleep(Duration::from_millis(1));
        };
        if let Some(status) = status {
            assert!(status.success(), "after {kills} kills: {status}");
            break;
        }
        std::thread::sleep(Duration::from_millis(kills as u64 * 3 % 7));
        child.kill().unwrap();
        child.wait().unwrap();
        kills += 1;
        assert!(kills < 100, "it never ends");
    }
    assert!(kills >= 3, "only {kills} kills");
    assert_eq!(files(&killed), files(&whole));
    // The same command again has nothing to do.
    let again = command(&trained, &source, &whole, &["--json"]).output().unwrap();
    succeeds(&again);
    assert_eq!(last_json(&again), told);
}

/// How many files of a folder, which may be missing, end so.
fn files_ending(folder: &Path, ending: &str) -> usize {
    let names = fs::read_dir(folder).into_iter().flatten().flatten().map(|entry| entry.file_name());
    names.filter(|name| name.to_string_lossy().ends_with(ending)).count()
}

#[test]
fn a_model_that_was_only_pre_trained_continues_a_caption() {
    let dir = tempfile::tempdir().unwrap();
    let (trained, source, to) = (dir.path().join("run"), dir.path().join("pictures"), dir.path().join("to"));
    fs::create_dir(&source).unwrap();
    pictures(&source);
    let recipe = fs::read_to_string(TINY).unwrap();
    let stages = recipe.split("\n[[stage]]\n").take(3).collect::<Vec<_>>().join("\n[[stage]]\n");
    let file = dir.path().join("pretrain.toml");
    fs::write(&file, stages).unwrap();
    succeeds(&mm1(&["run", file.to_str().unwrap(), "--out", trained.to_str().unwrap()]).output().unwrap());
    succeeds(&command(&trained, &source, &to, &["--limit", "5"]).output().unwrap());
    let texts = |folder: &Path| -> Vec<String> {
        let text = |document: &Value| document["segments"][1]["text"].as_str().unwrap().to_owned();
        documents(folder).iter().map(text).collect()
    };
    assert!(texts(&to).iter().zip(0..5).all(|(text, i)| text.contains(&format!("Specimen {i}"))));
    assert_eq!(texts(&to).len(), 5);
    // Shown the alt-text, the model may say something else; the words stay all the same.
    let hinted = dir.path().join("hinted");
    succeeds(&command(&trained, &source, &hinted, &["--limit", "5", "--with-alt-text"]).output().unwrap());
    assert!(texts(&hinted).iter().zip(0..).all(|(text, i)| text.contains(&format!("Specimen {i}"))));
}

#[test]
fn wrong_input_is_refused() {
    let dir = tempfile::tempdir().unwrap();
    let (trained, source, to) = (dir.path().join("run"), dir.path().join("pictures"), dir.path().join("to"));
    fs::create_dir(&source).unwrap();
    pictures(&source);
    succeeds(&run(&trained, &[]));
    let ask = |run: &Path, source: &Path, more: &[&str]| command(run, source, &to, more).output().unwrap();
    refused(&ask(&source, &source, &[]), &["--run", "not a run folder"]);
    refused(&ask(&trained, &dir.path().join("none"), &[]), &["none"]);
    refused(&ask(&trained, &source, &["--shard-mib", "0"]), &["--shard-mib 0"]);
    refused(&ask(&trained, &source, &["--max-skipped-share", "1"]), &["max-skipped-share"]);
    for i in 10..20 {
        fs::write(source.join(format!("{i}.png")), "no picture").unwrap();
    }
    refused(&ask(&trained, &source, &[]), &["can't be used", "max-skipped-share 0.1", ".png"]);
    // What was written stays, and a larger share lets it go on.
    succeeds(&ask(&trained, &source, &["--max-skipped-share", "0.6"]));
    refused(&ask(&trained, &source, &["--max-tokens", "13"]), &["other settings", "max-tokens: 12, now 13"]);
}
