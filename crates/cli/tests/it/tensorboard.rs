//! TensorBoard's event file says what `metrics.jsonl` and `eval.json` say.

use std::collections::BTreeMap;
use std::fs;
use std::path::Path;

use serde_json::Value;

use crate::resume::run_with_kills;
use crate::{TINY, events, mm1, run, stderr, succeeds};

/// What an event file is to hold of a stage's steps, from the lines of `metrics.jsonl`.
fn measured(out: &Path) -> BTreeMap<String, Vec<(u64, f32)>> {
    let mut expected: BTreeMap<String, Vec<(u64, f32)>> = BTreeMap::new();
    for line in fs::read_to_string(out.join("metrics.jsonl")).unwrap().lines() {
        let line: Value = serde_json::from_str(line).unwrap();
        let (stage, step) = (line["stage"].as_str().unwrap(), line["step"].as_u64().unwrap());
        let number = |key: &str| line[key].as_f64().unwrap();
        for (name, value) in [
            ("loss", number("loss")),
            ("lr", number("lr")),
            ("grad_norm", number("grad_norm")),
            ("tokens_per_second", number("tokens") / number("seconds")),
            ("images_per_second", number("images") / number("seconds")),
        ] {
            expected.entry(format!("{stage}/{name}")).or_default().push((step, value as f32));
        }
    }
    expected
}

fn agrees(out: &Path) {
    let mut found = events::read(out).scalars;
    let scores: Vec<Value> = serde_json::from_slice(&fs::read(out.join("eval.json")).unwrap()).unwrap();
    assert!(scores.len() >= 4, "{scores:?}");
    for score in &scores {
        let (stage, task) = (score["stage"].as_str().unwrap(), score["task"].as_str().unwrap());
        let tag = format!("{stage}/{task}/{}-shot", score["shots"]);
        let value = score["value"].as_f64().unwrap() as f32;
        assert_eq!(found.remove(&tag), Some(vec![(12, value)]), "{tag}");
    }
    assert_eq!(found, measured(out));
}

#[test]
fn a_run_killed_at_any_moment_has_every_step_once() {
    let dir = tempfile::tempdir().unwrap();
    let out = dir.path().join("run");
    let kills = run_with_kills(TINY, &[], dir.path(), &out);
    assert!(kills >= 3, "{kills}");
    agrees(&out);
    // A run that is done says the same again, as does one from before event files.
    let before = events::read(&out).scalars;
    fs::remove_file(events::file(&out)).unwrap();
    succeeds(&run(&out, &[]));
    assert_eq!(events::read(&out).scalars, before);
}

#[test]
fn stages_of_another_run_are_there_too() {
    let dir = tempfile::tempdir().unwrap();
    let (first, second) = (dir.path().join("first"), dir.path().join("second"));
    succeeds(&run(&first, &[]));
    let reused = mm1(&["run", TINY, "--out", second.to_str().unwrap(), "--reuse", first.to_str().unwrap()])
        .output()
        .unwrap();
    succeeds(&reused);
    assert!(stderr(&reused).contains("encoder is that of"), "{}", stderr(&reused));
    agrees(&second);
}
