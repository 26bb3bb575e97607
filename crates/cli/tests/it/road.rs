//! The whole road, and what it leaves.

use std::fs;

use serde_json::Value;

use crate::{mm1, picture, run, stderr, succeeds};

#[test]
fn every_connector_objective_and_precision_takes_the_whole_road() {
    for (kind, settings, objective, precision, moments) in [
        ("average-pool", ", tokens = 4", "clip", "f32", "f32"),
        ("attention-pool", ", tokens = 4, heads = 2", "superclass", "bf16", "8bit"),
        ("c-abstractor", ", tokens = 4, dim = 16, depth = 1", "superclass", "f32", "f32"),
        ("mlp", "", "clip", "f32", "f32"),
        ("cross-attention", ", latents = 4, depth = 1, heads = 2", "clip", "bf16", "f32"),
    ] {
        let dir = tempfile::tempdir().unwrap();
        let out = dir.path().join("run");
        let edits = [
            format!("model.connector={{kind = \"{kind}\"{settings}}}"),
            format!("stage.encoder.objective={objective}"),
            format!("precision={precision}"),
            format!("stage.pretrain.optimizer.moments={moments}"),
        ];
        let mut arguments = vec!["--json"];
        arguments.extend(edits.iter().flat_map(|edit| ["--set", edit]));
        let done = run(&out, &arguments);
        succeeds(&done);
        let last: Value = serde_json::from_slice(done.stdout.split(|&b| b == b'\n').next().unwrap()).unwrap();
        assert_eq!(
            last["eval"].as_array().unwrap().len(),
            2 * 6,
            "{kind}: a task and five categories, two shots"
        );
        for file in
            ["plan.toml", "metrics.jsonl", "eval.json", "samples.json", "report.html", "tokenizer.json"]
        {
            assert!(out.join(file).exists(), "{kind}: {file} is missing");
        }
        assert!(fs::read_to_string(out.join("plan.toml")).unwrap().contains(kind));
    }
}

#[test]
fn eval_records_hold_interval_and_baselines() {
    let dir = tempfile::tempdir().unwrap();
    succeeds(&run(dir.path(), &[]));
    let eval: Vec<Value> = serde_json::from_slice(&fs::read(dir.path().join("eval.json")).unwrap()).unwrap();
    for record in &eval {
        let (value, ci) = (record["value"].as_f64().unwrap(), record["ci95"].as_array().unwrap());
        assert!(ci[0].as_f64().unwrap() <= value && value <= ci[1].as_f64().unwrap(), "{record}");
        for baseline in ["constant", "blind"] {
            assert!(record["baselines"][baseline].is_number(), "{record} lacks {baseline}");
        }
    }
}

#[test]
fn a_frozen_part_keeps_its_weights() {
    let dir = tempfile::tempdir().unwrap();
    succeeds(&run(dir.path(), &["--set", "stage.sft.optimizer.freeze=[\"vision\", \"connector\"]"]));
    let weights = |stage: &str| {
        let folder = dir.path().join("checkpoints").join(stage);
        let mut steps: Vec<_> = fs::read_dir(folder).unwrap().map(|e| e.unwrap().path()).collect();
        steps.sort();
        fs::read(steps.last().unwrap().join("model.safetensors")).unwrap()
    };
    let (before, after) = (weights("pretrain"), weights("sft"));
    let tensor = |bytes: &[u8], name: &str| {
        safetensors::SafeTensors::deserialize(bytes).unwrap().tensor(name).unwrap().data().to_vec()
    };
    assert_eq!(tensor(&before, "vision.patch"), tensor(&after, "vision.patch"));
    assert_eq!(tensor(&before, "connector.project"), tensor(&after, "connector.project"));
    assert_ne!(tensor(&before, "lm.embedding"), tensor(&after, "lm.embedding"));
}

#[test]
fn a_folder_of_ones_own_is_trained_on_and_scored() {
    let dir = tempfile::tempdir().unwrap();
    let pictures = dir.path().join("pictures");
    fs::create_dir(&pictures).unwrap();
    for i in 0..30 {
        picture(pictures.join(format!("{i:02}.png")), 1 + i * 3, [i as u8 * 8, 90, 200]);
        fs::write(pictures.join(format!("{i:02}.txt")), format!("a square of shade {i}")).unwrap();
    }
    let whole = fs::read(pictures.join("07.png")).unwrap();
    fs::write(pictures.join("07.png"), &whole[..whole.len() / 2]).unwrap();
    let out = dir.path().join("run");
    let path = format!("data.captioned.path={}", pictures.display());
    let done = run(
        &out,
        &[
            "--set",
            "data.captioned.kind=folder",
            "--set",
            &path,
            "--set",
            "stage.few-shot.tasks=[\"captions:captioned\"]",
        ],
    );
    succeeds(&done);
    let eval: Vec<Value> = serde_json::from_slice(&fs::read(out.join("eval.json")).unwrap()).unwrap();
    assert_eq!(eval[0]["task"], "captions:captioned");
    assert!(stderr(&done).contains("07.png"), "the damaged picture is listed: {}", stderr(&done));
}

#[test]
fn chat_answers_about_pictures() {
    let dir = tempfile::tempdir().unwrap();
    let out = dir.path().join("run");
    succeeds(&run(&out, &[]));
    let file = dir.path().join("red.png");
    picture(file.clone(), 40, [220, 20, 20]);
    let (out, file) = (out.to_str().unwrap(), file.to_str().unwrap());
    let ask = [
        "chat",
        "--run",
        out,
        "--image",
        file,
        "--image",
        file,
        "--max-tokens",
        "5",
        "--json",
        "What is this?",
    ];
    let (first, again) = (mm1(&ask).output().unwrap(), mm1(&ask).output().unwrap());
    succeeds(&first);
    let answer: Value = serde_json::from_slice(&first.stdout).unwrap();
    assert!(answer["answer"].is_string(), "{answer}");
    assert_eq!(first.stdout, again.stdout);
}
