//! `docs/reference/files.md` has every file and every key that runs write.

use std::collections::BTreeSet;
use std::fs;
use std::path::Path;

use super::ROOT;
use crate::{encoders, run, succeeds};
use serde_json::Value;

/// What the page writes in the first column of its tables, or anywhere between backticks.
fn documented() -> BTreeSet<String> {
    let page = fs::read_to_string(Path::new(ROOT).join("docs/reference/files.md")).unwrap();
    page.split('`').skip(1).step_by(2).map(str::to_owned).collect()
}

/// The files below `folder`, the names of stages, steps and tasks as the page writes them.
fn files(folder: &Path, below: &str, found: &mut BTreeSet<String>) {
    for entry in fs::read_dir(folder).unwrap() {
        let path = entry.unwrap().path();
        let own = path.file_name().unwrap().to_str().unwrap().to_owned();
        if path.is_dir() {
            let shown = match (below, own.starts_with("step-")) {
                (_, true) => "step-N",
                ("checkpoints/" | "eval/", _) => "STAGE",
                _ => &own,
            };
            files(&path, &format!("{below}{shown}/"), found);
        } else if own.starts_with("events.") {
            found.insert("events.out.tfevents.TIME.mm1".to_owned());
        } else if below.starts_with("eval/") {
            found.insert(format!("{below}TASK-K-shot.jsonl"));
        } else if below.starts_with("checkpoints/") {
            found.insert(below.to_owned());
            found.insert(own);
        } else {
            found.insert(format!("{below}{own}"));
        }
    }
}

/// The keys of all objects in `value`, but for those of tables whose keys are names of a recipe or ids.
fn keys(value: &Value, found: &mut BTreeSet<String>) {
    match value {
        Value::Object(fields) => {
            for (key, inner) in fields {
                found.insert(key.clone());
                if !matches!(key.as_str(), "examples" | "about") {
                    keys(inner, found);
                }
            }
        }
        Value::Array(items) => items.iter().for_each(|item| keys(item, found)),
        _ => {}
    }
}

/// The keys of a JSON file, or of each line of one.
fn keys_of(file: &Path, found: &mut BTreeSet<String>) {
    let text = fs::read_to_string(file).unwrap();
    if file.extension().is_some_and(|end| end == "jsonl") {
        text.lines().for_each(|line| keys(&serde_json::from_str(line).unwrap(), found));
    } else {
        keys(&serde_json::from_str(&text).unwrap(), found);
    }
}

#[test]
fn every_file_and_key_that_runs_write_is_documented() {
    let dir = tempfile::tempdir().unwrap();
    let road = dir.path().join("road");
    succeeds(&run(&road, &[]));
    let mut folders = vec![road.clone()];
    for (objective, edits) in encoders::objectives() {
        folders.push(dir.path().join(objective));
        succeeds(&encoders::run(&dir.path().join(objective), &edits));
    }
    let mut written = BTreeSet::new();
    for folder in &folders {
        files(folder, "", &mut written);
        for file in ["metrics.jsonl", "eval.json", "samples.json", "processes.json"] {
            let file = folder.join(file);
            if file.exists() {
                keys_of(&file, &mut written);
            }
        }
    }
    keys_of(&road.join("eval/few-shot/scene-vqa-2-shot.jsonl"), &mut written);
    let plan: toml::Table = fs::read_to_string(road.join("plan.toml")).unwrap().parse().unwrap();
    written.extend(plan.keys().filter(|key| *key != "settled").cloned());
    let settled = plan["settled"].as_table().unwrap();
    written.extend(settled.keys().map(|key| format!("settled.{key}")));
    written.extend(settled["derived"].as_table().unwrap().keys().cloned());
    let page = documented();
    let lacking: Vec<&String> = written.iter().filter(|name| !page.contains(*name)).collect();
    assert!(written.len() > 60, "{written:?}");
    assert!(lacking.is_empty(), "docs/reference/files.md does not have {lacking:?}");
}
