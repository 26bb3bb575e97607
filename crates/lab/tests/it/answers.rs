//! The scores of a run's examples, read from its folder.

use std::fs;

use mm1_lab::study::answers::RunAnswers;
use serde_json::json;
use tempfile::TempDir;

fn run() -> TempDir {
    let root = tempfile::tempdir().unwrap();
    let write = |name: &str, text: String| {
        let path = root.path().join(name);
        fs::create_dir_all(path.parent().unwrap()).unwrap();
        fs::write(path, text).unwrap();
    };
    let answers = |task: &str, shots: u64, blind: bool, scores: &[f64]| {
        let mut text = json!({"about": {"task": task, "shots": shots, "blind": blind}}).to_string() + "\n";
        for (i, score) in scores.iter().enumerate() {
            text += &(json!({"id": format!("{task}/{i}"), "score": score, "output": "a"}).to_string() + "\n");
        }
        text
    };
    write("plan.toml", "[settled.recipe]\nseed = 7\n".to_owned());
    write("eval/few-shot/vqa-4-shot.jsonl", answers("vqa", 4, false, &[100.0, 0.0]));
    write("eval/few-shot/vqa-0-shot.jsonl", answers("vqa", 0, false, &[0.0, 0.0]));
    write("eval/few-shot/vqa-4-shot-blind.jsonl", answers("vqa", 4, true, &[0.0, 0.0]));
    write("eval/few-shot/captions-4-shot.jsonl", answers("captions", 4, false, &[10.0, 20.0]));
    let score = |task: &str, value: f64| {
        json!({"stage": "few-shot", "task": task, "shots": 4, "metric": "bleu-4", "value": value,
               "ci95": [value, value], "n": 2, "baselines": {}})
    };
    // Captions: a score of the whole corpus.
    write("eval.json", json!([score("vqa", 50.0), score("captions", 31.0)]).to_string());
    root
}

#[test]
fn examples_are_read_with_the_seed_and_what_is_no_mean_is_named() {
    let root = run();
    let answers = RunAnswers::read(root.path(), "few-shot", 4).unwrap();
    assert_eq!(answers.scored.seed, 7);
    assert_eq!(answers.left_out, ["captions"]);
    let tasks = &answers.scored.tasks;
    assert_eq!(tasks.keys().collect::<Vec<_>>(), ["vqa"]);
    assert_eq!(
        tasks["vqa"].iter().map(|(id, s)| (id.as_str(), *s)).collect::<Vec<_>>(),
        [("vqa/0", 100.0), ("vqa/1", 0.0)]
    );
}

#[test]
fn folders_without_answers_and_damaged_answers_are_refused_by_name() {
    let root = run();
    let refused = |stage: &str, shots: u64| {
        let error = RunAnswers::read(root.path(), stage, shots).unwrap_err().to_string();
        assert!(!error.contains('\n'), "{error}");
        error
    };
    assert!(refused("chat", 4).contains("no answers; give a run folder with this stage"));
    assert!(refused("few-shot", 8).contains("stage few-shot has no answers with 8 shots"));
    let file = root.path().join("eval/few-shot/vqa-4-shot.jsonl");
    let text = fs::read_to_string(&file).unwrap();
    fs::write(&file, &text[..text.len() - 5]).unwrap();
    assert!(refused("few-shot", 4).contains("vqa-4-shot.jsonl: line 3 is damaged: evaluate again"));
    fs::remove_file(root.path().join("plan.toml")).unwrap();
    assert!(refused("few-shot", 4).contains("names no seed; give the --out of `mm1 run`"));
}
