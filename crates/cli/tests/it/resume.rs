//! A run that is killed and continued is the run that was never killed.

use std::fs;
use std::path::Path;
use std::process::Stdio;
use std::time::Duration;

use crate::refuse::refused;
use crate::{TINY, losses, mm1, run, stderr, succeeds};

/// Files of six formats.
const FILES: &str = concat!(env!("CARGO_MANIFEST_DIR"), "/tests/it/files.toml");

/// Starts the run again and again with another number of threads, and kills it whenever it has come two steps
/// further than the last time, until it ends. The program runs in `folder`.
pub(crate) fn run_with_kills(recipe: &str, more: &[&str], folder: &Path, out: &Path) -> usize {
    let steps = || fs::read_to_string(out.join("metrics.jsonl")).map_or(0, |text| text.lines().count());
    let mut kills = 0;
    loop {
        let threads = ["1", "2", "7"][kills % 3];
        let mut child = mm1(&["run", recipe, "--out", out.to_str().unwrap(), "--threads", threads])
            .args(more)
            .current_dir(folder)
            .env("MM1_CACHE", folder.join("cache"))
            .stderr(Stdio::null())
            .spawn()
            .unwrap();
        while steps() <= 2 * kills {
            if let Some(status) = child.try_wait().unwrap() {
                assert!(status.success(), "after {kills} kills: {status}");
                return kills;
            }
            std::thread::sleep(Duration::from_millis(1));
        }
        // Not at the same point of each step.
        std::thread::sleep(Duration::from_millis(kills as u64 * 7 % 11));
        child.kill().unwrap(); // SIGKILL
        child.wait().unwrap();
        kills += 1;
        assert!(kills < 200, "the run never ends");
    }
}

#[test]
fn killed_at_any_moment_gives_the_same_digits() {
    let dir = tempfile::tempdir().unwrap();
    let (whole, killed) = (dir.path().join("whole"), dir.path().join("killed"));
    succeeds(&run(&whole, &["--threads", "1"]));
    let kills = run_with_kills(TINY, &[], dir.path(), &killed);
    assert!(kills >= 3, "only {kills} kills: the run is too short to prove anything");
    let expected = losses(&whole);
    assert_eq!(expected.len(), 5 + 12 + 6);
    assert_eq!(losses(&killed), expected);
    let eval = |out: &Path| fs::read_to_string(out.join("eval.json")).unwrap();
    assert_eq!(eval(&killed), eval(&whole));
}

#[test]
fn a_mixture_of_files_killed_at_any_moment_gives_the_same_digits() {
    let dir = tempfile::tempdir().unwrap();
    let samples = Path::new(env!("CARGO_MANIFEST_DIR")).join("../../testdata/data");
    for name in ["pairs.tar.zst", "captioned.parquet", "obelics-bytes.parquet", "text.jsonl.gz"] {
        fs::copy(samples.join(name), dir.path().join(name)).unwrap();
    }
    for folder in ["pages", "books"] {
        fs::create_dir(dir.path().join(folder)).unwrap();
    }
    fs::copy(samples.join("pictures/0.jpg"), dir.path().join("pages/0.jpg")).unwrap();
    for i in 0..12 {
        let page = format!("<h1>Page {i}</h1><p>Before.<img src=\"0.jpg\"><p>After {i}.");
        fs::write(dir.path().join(format!("pages/{i}.html")), page).unwrap();
        // Longer than a row, so that a run is killed inside of it.
        let book = format!("Book {i}. {}", "It goes on and on. ".repeat(10 * i));
        fs::write(dir.path().join(format!("books/{i}.txt")), book).unwrap();
    }
    let (whole, killed) = (dir.path().join("whole"), dir.path().join("killed"));
    let unbroken = mm1(&["run", FILES, "--out", whole.to_str().unwrap(), "--threads", "1"])
        .current_dir(dir.path())
        .env("MM1_CACHE", dir.path().join("other-cache"))
        .output()
        .unwrap();
    succeeds(&unbroken);
    let kills = run_with_kills(FILES, &[], dir.path(), &killed);
    assert!(kills >= 5, "only {kills} kills: the run is too short to prove anything");
    assert_eq!(losses(&whole).len(), 24);
    assert_eq!(losses(&killed), losses(&whole));
}

#[test]
fn a_damaged_checkpoint_is_told_and_the_one_before_is_used() {
    let dir = tempfile::tempdir().unwrap();
    let (whole, hurt) = (dir.path().join("whole"), dir.path().join("hurt"));
    succeeds(&run(&whole, &[]));
    succeeds(&run(&hurt, &[]));
    let last = hurt.join("checkpoints/sft/step-00000006/model.safetensors");
    let mut bytes = fs::read(&last).unwrap();
    let middle = bytes.len() / 2;
    bytes[middle] ^= 1;
    fs::write(&last, bytes).unwrap();
    let again = run(&hurt, &[]);
    succeeds(&again);
    assert!(stderr(&again).contains("step-00000006 is damaged and not used"), "{}", stderr(&again));
    assert_eq!(losses(&hurt), losses(&whole));
}

#[test]
fn scores_do_not_depend_on_the_batch() {
    let dir = tempfile::tempdir().unwrap();
    let eval = |batch: &str| {
        let out = dir.path().join(batch);
        let batch = format!("stage.few-shot.batch={batch}");
        succeeds(&run(&out, &["--set", &batch]));
        fs::read_to_string(out.join("eval.json")).unwrap()
    };
    assert_eq!(eval("1"), eval("7"));
}

/// A plan that names a setting as an earlier version did is still this run's.
#[test]
fn a_plan_of_an_earlier_version_continues_the_run() {
    let dir = tempfile::tempdir().unwrap();
    succeeds(&run(dir.path(), &[]));
    let path = dir.path().join("plan.toml");
    let plan = fs::read_to_string(&path).unwrap();
    let earlier = plan.replace("activation_checkpointing = ", "recompute_blocks = ");
    assert_ne!(plan, earlier);
    fs::write(&path, earlier).unwrap();
    succeeds(&run(dir.path(), &[]));
    let other = run(dir.path(), &["--set", "stage.sft.recompute_blocks=true"]);
    refused(&other, &["activation_checkpointing: false, now true"]);
}

/// How files are reached may change in the middle of a run: no digit depends on it.
#[test]
fn another_store_continues_the_run() {
    let dir = tempfile::tempdir().unwrap();
    let (out, caches) = (dir.path().join("run"), dir.path().join("caches"));
    let at = |name: &str| format!("store.cache={}", caches.join(name).display());
    succeeds(&run(&out, &["--set", &at("a"), "--set", "store.timeout_seconds=5"]));
    let plan: toml::Table = fs::read_to_string(out.join("plan.toml")).unwrap().parse().unwrap();
    assert_eq!(plan["store"]["timeout_seconds"].as_float(), Some(5.0));
    let again = run(&out, &["--set", &at("b"), "--set", "store.retries=9"]);
    succeeds(&again);
    // Stages that are done are not begun again.
    for (stage, steps) in [("encoder", 5), ("pretrain", 12), ("sft", 6)] {
        assert!(
            stderr(&again).contains(&format!("{stage} {steps} steps were done before")),
            "{}",
            stderr(&again)
        );
    }
}
