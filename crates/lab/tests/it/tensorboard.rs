use std::fs;

use mm1_lab::tensorboard::EventFile;
use serde_json::json;

use crate::events;

const PLAN: &str = r#"
[settled.recipe]
name = "quick"
[[settled.recipe.stage]]
kind = "encoder"
name = "encoder"
steps = 3
[[settled.recipe.stage]]
kind = "probe"
name = "probe"
[[settled.recipe.stage]]
kind = "pretrain"
name = "pretrain"
steps = 2
[[settled.recipe.stage]]
kind = "eval"
name = "few-shot"
"#;

fn line(stage: &str, step: u64, loss: f64) -> String {
    let line = json!({
        "step": step, "stage": stage, "loss": loss, "grad_norm": 0.5, "weight": 30.0, "tokens": 2000,
        "images": 30, "rank": 12.5, "lr": 1e-3 / step as f64, "seconds": 0.5, "data_seconds": 0.01,
        "time": 1_796_000_000.25 + step as f64,
    });
    format!("{line}\n")
}

#[test]
fn every_step_and_score_is_a_scalar_once() {
    let dir = tempfile::tempdir().unwrap();
    fs::write(dir.path().join("plan.toml"), PLAN).unwrap();
    // Two steps are done again after a kill, and the last line is cut.
    let lines = [1, 2, 3, 2, 3].map(|step| line("encoder", step, 1.0 / step as f64)).concat();
    fs::write(dir.path().join("metrics.jsonl"), lines + "{\"stage\": \"enc").unwrap();
    let score = |stage: &str, task: &str, shots: u64, metric: &str, value: f64| json!({ "stage": stage, "task": task, "shots": shots, "metric": metric, "value": value });
    let scores = json!([
        score("probe", "knn", 0, "accuracy", 61.5),
        score("few-shot", "scene-vqa", 4, "vqa-accuracy", 38.0),
        score("few-shot", "scene-vqa/colour", 4, "vqa-accuracy", 40.25),
    ]);
    fs::write(dir.path().join("eval.json"), scores.to_string()).unwrap();
    let mut file = EventFile::begin(dir.path()).unwrap();
    for step in 1..=2 {
        file.push(&serde_json::from_str(&line("pretrain", step, 2.5)).unwrap()).unwrap();
    }
    let found = events::read(dir.path());
    let of = |tag: &str| found.scalars[tag].clone();
    assert_eq!(of("encoder/loss"), [(1, 1.0), (2, 0.5), (3, (1.0 / 3.0) as f32)]);
    assert_eq!(of("encoder/lr"), [(1, 1e-3), (2, 5e-4), (3, (1e-3 / 3.0) as f32)]);
    assert_eq!(of("encoder/rank"), [(1, 12.5), (2, 12.5), (3, 12.5)]);
    assert_eq!(of("pretrain/loss"), [(1, 2.5), (2, 2.5)]);
    assert_eq!(of("pretrain/grad_norm"), [(1, 0.5), (2, 0.5)]);
    assert_eq!(of("pretrain/tokens_per_second"), [(1, 4000.0), (2, 4000.0)]);
    assert_eq!(of("pretrain/images_per_second"), [(1, 60.0), (2, 60.0)]);
    // At the last step of the stage before; pre-training had none when its scores were written.
    assert_eq!(of("probe/knn"), [(3, 61.5)]);
    assert_eq!(of("few-shot/scene-vqa/4-shot"), [(3, 38.0)]);
    assert_eq!(of("few-shot/scene-vqa/colour/4-shot"), [(3, 40.25)]);
    assert_eq!(found.scalars.len(), 6 + 6 + 3);
    assert_eq!((found.times[0], found.times[2]), (1_796_000_001.25, 1_796_000_001.25));
    assert_eq!(found.starts, 1);
}

#[test]
fn a_new_file_takes_the_place_of_the_one_before_under_a_greater_name() {
    let dir = tempfile::tempdir().unwrap();
    let write = |lines: &str| fs::write(dir.path().join("metrics.jsonl"), lines).unwrap();
    write(&[1, 2].map(|step| line("a", step, 1.0)).concat());
    // Somebody else's stays.
    fs::write(dir.path().join("events.out.tf.machine.7"), "").unwrap();
    drop(EventFile::begin(dir.path()).unwrap());
    let (first, name) = (events::read(dir.path()), events::file(dir.path()));
    drop(EventFile::begin(dir.path()).unwrap());
    assert_eq!(events::read(dir.path()), first);
    assert!(events::file(dir.path()) > name, "TensorBoard goes on to greater names only");
    // A checkpoint before the last steps: they are taken back.
    write(&line("a", 1, 1.0));
    drop(EventFile::begin(dir.path()).unwrap());
    assert_eq!(events::read(dir.path()).scalars["a/loss"], [(1, 1.0)]);
    assert!(dir.path().join("events.out.tf.machine.7").exists());
    // Two are empty, since an open TensorBoard may be at their ends; after a while they go.
    assert_eq!(fs::read_dir(dir.path()).unwrap().count(), 5);
    for entry in fs::read_dir(dir.path()).unwrap().map(|entry| entry.unwrap().path()) {
        let an_hour_ago = std::time::SystemTime::now() - std::time::Duration::from_secs(3600);
        fs::File::options().append(true).open(entry).unwrap().set_modified(an_hour_ago).unwrap();
    }
    drop(EventFile::begin(dir.path()).unwrap());
    assert_eq!(fs::read_dir(dir.path()).unwrap().count(), 4);
    assert_eq!(events::read(dir.path()).scalars["a/loss"], [(1, 1.0)]);
}

#[test]
fn what_is_no_number_is_no_scalar_and_zero_is_one() {
    let dir = tempfile::tempdir().unwrap();
    let whole = line("a", 1, 0.0);
    fs::write(dir.path().join("metrics.jsonl"), whole.replace("\"lr\":0.001", "\"lr\":null")).unwrap();
    drop(EventFile::begin(dir.path()).unwrap());
    let found = events::read(dir.path());
    assert_eq!(found.scalars["a/loss"], [(1, 0.0)]);
    assert!(!found.scalars.contains_key("a/lr"), "{found:?}");
}
