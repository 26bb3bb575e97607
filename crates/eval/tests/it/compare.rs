//! Two evaluations compared.

use std::fs;
use std::path::Path;

use mm1_eval::compare::{folders, shots};
use mm1_eval::log::Log;
use mm1_eval::prompt::Prompt;
use mm1_eval::protocol::Protocol;
use mm1_eval::run::{self, EvalPass};
use serde_json::json;

use crate::toy::{Answers, Fun, Toy, pass, protocol};

fn keep(root: &Path, stage: &str, file: &str, model: Answers, questions: usize) {
    let folder = root.join("eval").join(stage);
    fs::create_dir_all(&folder).unwrap();
    let mut log = Log::open(&folder.join(file), &json!({"stage": stage})).unwrap();
    let outcome = run::evaluate(
        &Toy::vqa(),
        &mut Fun(model, 10_000),
        &mut log,
        &EvalPass { protocol: &Protocol { questions, ..protocol() }, ..pass() },
    )
    .unwrap();
    log.finish(&outcome.items).unwrap();
}

#[test]
fn the_questions_of_both_are_compared_one_by_one() {
    let (a, b) = (tempfile::tempdir().unwrap(), tempfile::tempdir().unwrap());
    let mut yes = |prompts: &[Prompt]| Ok(vec!["yes".to_string(); prompts.len()]);
    let mut no = |prompts: &[Prompt]| Ok(vec!["no".to_string(); prompts.len()]);
    keep(a.path(), "pretrain", "toy-0-shot.jsonl", &mut yes, 20);
    keep(a.path(), "pretrain", "toy-0-shot-blind.jsonl", &mut no, 20);
    keep(b.path(), "other", "toy-0-shot.jsonl", &mut no, 12);
    fs::write(a.path().join("eval/.DS_Store"), b"x").unwrap();
    // One stage each: their names do not matter.
    let compared = folders(a.path(), b.path()).unwrap();
    assert_eq!(compared.len(), 1);
    let one = &compared[0];
    assert_eq!((one.task.as_str(), one.n, one.alone), ("toy-0-shot", 12, 8));
    assert_eq!((one.a, one.b, one.difference.value), (50.0, 0.0, 50.0));
    assert!(one.difference.ci95[0] > 0.0 && one.difference.p < 0.05, "{one:?}");
    let same = &folders(a.path(), a.path()).unwrap()[0];
    assert_eq!(
        (same.task.as_str(), same.difference.value, same.difference.p),
        ("pretrain/toy-0-shot", 0.0, 1.0)
    );
    // Two stages in one folder: only those of the same name.
    keep(b.path(), "third", "toy-0-shot.jsonl", &mut no, 12);
    let error = folders(a.path(), b.path()).unwrap_err().to_string();
    assert!(error.contains("hold no answers to the same questions"), "{error}");
    let empty = tempfile::tempdir().unwrap();
    assert!(
        folders(a.path(), empty.path()).unwrap_err().to_string().contains("no answers; give a run folder")
    );
}

#[test]
fn one_folder_compares_more_demonstrations_with_the_fewest() {
    let root = tempfile::tempdir().unwrap();
    let mut yes = |prompts: &[Prompt]| Ok(vec!["yes".to_string(); prompts.len()]);
    let mut no = |prompts: &[Prompt]| Ok(vec!["no".to_string(); prompts.len()]);
    keep(root.path(), "sft", "toy-0-shot.jsonl", &mut yes, 20);
    let error = shots(root.path()).unwrap_err().to_string();
    assert!(error.contains("one number of demonstrations") && error.contains("--shots 0,4"), "{error}");
    keep(root.path(), "sft", "toy-10-shot.jsonl", &mut no, 20);
    keep(root.path(), "sft", "toy-4-shot.jsonl", &mut yes, 12);
    keep(root.path(), "sft", "toy-4-shot-blind.jsonl", &mut no, 20);
    let compared = shots(root.path()).unwrap();
    let names: Vec<_> = compared.iter().map(|one| (one.task.as_str(), one.n)).collect();
    assert_eq!(names, [("sft/toy, 4 − 0 shots", 12), ("sft/toy, 10 − 0 shots", 20)]);
    assert_eq!((compared[0].difference.value, compared[0].difference.p), (0.0, 1.0));
    assert_eq!((compared[1].a, compared[1].b, compared[1].difference.value), (0.0, 50.0, -50.0));
    assert!(compared[1].difference.ci95[1] < 0.0);
}
