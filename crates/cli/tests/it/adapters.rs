//! Stages that train low-rank adapters: what they leave, and who goes on with it.

use std::collections::BTreeMap;
use std::fs;
use std::path::Path;

use safetensors::SafeTensors;

use crate::backbones::recipe;
use crate::refuse::refused;
use crate::resume::run_with_kills;
use crate::{TINY, losses, mm1, run, stderr, succeeds};

const PRETRAIN: &str =
    "stage.pretrain.adapter={rank=2,dropout=0.2,targets=[\"q\",\"up\"],parts=[\"vision\",\"lm\"]}";
const KEPT: &str = "stage.pretrain.adapter={rank=2,targets=[\"q\",\"up\"],merge=false}";
const SFT: &str = "stage.sft.adapter={rank=2,targets=[\"q\",\"up\"],dropout=0.1}";

/// The tensors of one file of the last checkpoint of `stage`, as bytes.
fn tensors(out: &Path, stage: &str, file: &str) -> BTreeMap<String, Vec<u8>> {
    let folder = out.join("checkpoints").join(stage);
    let mut steps: Vec<_> = fs::read_dir(folder).unwrap().map(|e| e.unwrap().path()).collect();
    steps.sort();
    let bytes = fs::read(steps.last().unwrap().join(file)).unwrap();
    let file = SafeTensors::deserialize(&bytes).unwrap();
    file.tensors().into_iter().map(|(path, view)| (path, view.data().to_vec())).collect()
}

fn model(out: &Path, stage: &str) -> BTreeMap<String, Vec<u8>> {
    tensors(out, stage, "model.safetensors")
}

fn set<'a>(edits: &[&'a str]) -> Vec<&'a str> {
    edits.iter().flat_map(|edit| ["--set", *edit]).collect()
}

#[test]
fn adapters_killed_at_any_moment_give_the_same_digits() {
    let dir = tempfile::tempdir().unwrap();
    let (whole, killed) = (dir.path().join("whole"), dir.path().join("killed"));
    let edits = set(&[PRETRAIN, SFT]);
    succeeds(&run(&whole, &[edits.as_slice(), &["--threads", "1"]].concat()));
    let kills = run_with_kills(TINY, &edits, dir.path(), &killed);
    assert!(kills >= 3, "only {kills} kills: the run is too short to prove anything");
    assert_eq!(losses(&killed), losses(&whole));
    let eval = |out: &Path| fs::read_to_string(out.join("eval.json")).unwrap();
    assert_eq!(eval(&killed), eval(&whole));
    let checkpointed = dir.path().join("checkpointed");
    let again = ["pretrain", "sft"].map(|stage| format!("stage.{stage}.activation_checkpointing=true"));
    let more = [edits, set(&[&again[0], &again[1]])].concat();
    succeeds(&run(&checkpointed, &more));
    assert_eq!(losses(&checkpointed), losses(&whole), "activation checkpointing changes digits");
}

/// A part with adapters keeps its weights and has moments for adapters alone; the next stage begins with both
/// as one.
#[test]
fn adapters_become_part_of_the_weights_when_their_stage_ends() {
    let dir = tempfile::tempdir().unwrap();
    succeeds(&run(dir.path(), &set(&[PRETRAIN])));
    let (encoder, pretrain, sft) =
        (model(dir.path(), "encoder"), model(dir.path(), "pretrain"), model(dir.path(), "sft"));
    for (path, values) in encoder.iter().filter(|(path, _)| path.starts_with("vision.")) {
        assert!(&pretrain[path] == values, "{path} has changed beside its adapter");
    }
    let moments = tensors(dir.path(), "pretrain", "optimizer.safetensors");
    let trained = |path: &str| path.contains(".adapter.") || path.starts_with("connector.");
    assert!(moments.keys().all(|path| trained(path)), "{:?}", moments.keys());
    let adapters: Vec<_> = pretrain.keys().filter(|path| path.contains(".adapter.")).collect();
    assert_eq!(adapters.len(), 2 * 4, "{adapters:?}");
    for path in adapters {
        assert!(moments.contains_key(&format!("{path}.m")), "{path} has no moments");
        assert!(pretrain[path].iter().any(|&byte| byte != 0), "{path} was not trained");
    }
    assert!(sft.keys().all(|path| !path.contains(".adapter.")), "sft has no adapters");
    assert_eq!(sft.keys().collect::<Vec<_>>(), {
        let plain = pretrain.keys().filter(|path| !path.contains(".adapter."));
        plain.collect::<Vec<_>>()
    });
    let chat =
        ["chat", "--run", dir.path().to_str().unwrap(), "--stage", "pretrain", "--max-tokens", "3", "a"];
    succeeds(&mm1(&chat).output().unwrap());
}

/// The weights beside kept adapters stay for ever; merged ones are part of the next stage's.
#[test]
fn kept_adapters_are_trained_further() {
    let dir = tempfile::tempdir().unwrap();
    let (kept, merged) = (dir.path().join("kept"), dir.path().join("merged"));
    succeeds(&run(&kept, &set(&[KEPT, SFT, "stage.sft.steps=1"])));
    let merge = KEPT.replace("merge=false", "merge=true");
    succeeds(&run(&merged, &set(&[&merge, SFT, "stage.sft.steps=1"])));
    let qkv = "lm.blocks.0.attention.qkv";
    let b = "lm.blocks.0.attention.adapter.q.lora_b";
    assert!(model(&kept, "pretrain") == model(&merged, "pretrain"));
    assert!(model(&kept, "pretrain")[qkv] == model(&kept, "sft")[qkv]);
    assert!(model(&merged, "pretrain")[qkv] != model(&merged, "sft")[qkv], "it has no part of the adapter");
    // AdamW moves a value by about the learning rate in its first step: new adapters are still near 0.
    let largest = |out: &Path, stage: &str| {
        let tensors = model(out, stage);
        let values = tensors[b].chunks_exact(4).map(|v| f32::from_le_bytes(v.try_into().unwrap()));
        values.fold(0f32, |most, value| most.max(value.abs()))
    };
    assert!(largest(&kept, "sft") > 2e-3 && largest(&kept, "pretrain") > 2e-3);
    assert!(largest(&merged, "sft") < 1.1e-3, "{}", largest(&merged, "sft"));
    // Both are the same function at the beginning.
    let first = |out: &Path| {
        let of_sft = losses(out).into_iter().find(|(stage, ..)| stage == "sft");
        of_sft.unwrap().2.parse::<f64>().unwrap()
    };
    let plain = |out: &Path| {
        let set = [
            set(&[KEPT, "stage.sft.steps=1"]),
            vec!["--set", "stage.sft.adapter={rank=2,targets=[\"q\",\"up\"]}"],
        ];
        succeeds(&run(out, &set.concat()));
        first(out)
    };
    let without = dir.path().join("without");
    succeeds(&run(&without, &set(&[KEPT, "stage.sft.steps=1"])));
    assert!((plain(&dir.path().join("plain")) - first(&without)).abs() < 1e-5);
}

/// Another recipe's encoder from a run whose last stage has an adapter in it.
#[test]
fn an_adapted_encoder_is_taken_as_it_sees() {
    let dir = tempfile::tempdir().unwrap();
    let (first, second) = (dir.path().join("first"), dir.path().join("second"));
    let sft = "stage.sft.adapter={rank=2,parts=[\"vision\"]}";
    succeeds(&run(&first, &set(&[sft])));
    let from = format!("model.vision.from={}", first.display());
    let recipe = fs::read_to_string(TINY).unwrap();
    let file = dir.path().join("recipe.toml");
    let start = recipe.find("[[stage]]").unwrap();
    let pretrain = recipe.find("[[stage]]\nname = \"pretrain\"").unwrap();
    fs::write(&file, format!("{}{}", &recipe[..start], &recipe[pretrain..])).unwrap();
    let arguments = ["run", file.to_str().unwrap(), "--out", second.to_str().unwrap(), "--set", &from];
    let frozen = ["--set", "stage.pretrain.optimizer.freeze=[\"vision\"]"];
    succeeds(&mm1(&arguments).args(frozen).output().unwrap());
    let (given, taken) = (model(&first, "sft"), model(&second, "pretrain"));
    let path = "vision.blocks.0.attention.qkv";
    assert!(taken.keys().all(|path| !path.contains(".adapter.")));
    assert_ne!(given[path], taken[path], "it has no part of the adapter");
    assert_eq!(given["vision.patch"], taken["vision.patch"]);
}

#[test]
fn a_plan_says_how_many_parameters_adapters_have() {
    let plan = mm1(&["plan", TINY, "--set", PRETRAIN]).output().unwrap();
    succeeds(&plan);
    // Queries: (16 + 16) * 2 in both; up: (16 + 32) * 2 in both.
    let text = String::from_utf8_lossy(&plan.stdout).into_owned();
    assert!(text.contains("adapters of 320 parameters"), "{text}");
    let plan = mm1(&["plan", TINY, "--set", PRETRAIN, "--json"]).output().unwrap();
    let plan: serde_json::Value = serde_json::from_slice(&plan.stdout).unwrap();
    let counts = &plan["settled"]["derived"]["adapters"]["pretrain"];
    assert_eq!((&counts["vision"], &counts["lm"]), (&160.into(), &160.into()));
}

#[test]
fn adapters_that_are_wrong_are_refused() {
    let refuses = |edits: &[&str], words: &[&str]| {
        let dir = tempfile::tempdir().unwrap();
        refused(&run(&dir.path().join("run"), &set(edits)), words);
    };
    refuses(&["stage.sft.adapter.targets=[\"gates\"]"], &["unknown variant `gates`", "did you mean `gate`?"]);
    refuses(&["stage.sft.adapter.parts=[\"connector\"]"], &["unknown variant `connector`", "`vision`"]);
    refuses(&["stage.sft.adapter.rnak=4"], &["unknown field `rnak`", "did you mean `rank`?"]);
    refuses(&["stage.sft.adapter.rank=0"], &["stage.sft: adapter.rank must be at least 1"]);
    refuses(&["stage.sft.adapter.rank=17"], &["adapter.rank = 17 must be at most model.lm.dim = 16"]);
    refuses(&["stage.sft.adapter.dropout=1.0"], &["adapter.dropout = 1 must be at least 0 and below 1"]);
    refuses(
        &["stage.sft.adapter={parts=[\"vision\"],targets=[\"gate\"]}"],
        &["the image encoder has no \"gate\""],
    );
    refuses(&["stage.encoder.adapter={}"], &["stage.encoder.adapter belongs to stages of kind \"pretrain\""]);
    refuses(
        &["stage.sft.adapter={}", "stage.sft.optimizer.freeze=[\"lm\"]"],
        &["optimizer.freeze and adapter.parts both have \"lm\""],
    );
    refuses(
        &[KEPT, "stage.sft.adapter={rank=3}"],
        &["stage.sft: adapter: stage.pretrain keeps its adapters for this stage", "merge = true"],
    );
}

/// Whoever adds an adapter to a run that has begun has another run.
#[test]
fn a_run_with_an_adapter_is_another_run() {
    let dir = tempfile::tempdir().unwrap();
    succeeds(&run(dir.path(), &[]));
    let other = run(dir.path(), &set(&[SFT]));
    refused(&other, &["this folder belongs to another run"]);
    assert!(stderr(&other).contains("adapter"), "{}", stderr(&other));
}

/// The connector alone, then the decoder's adapters: what is imported stays bit for bit.
#[test]
fn imported_backbones_are_frozen_while_the_connector_or_adapters_learn() {
    let dir = tempfile::tempdir().unwrap();
    let (_, file) = recipe(dir.path(), "qwen3");
    let out = dir.path().join("run");
    let edits = set(&[
        "stage.pretrain.optimizer.freeze=[\"vision\", \"lm\"]",
        "stage.pretrain.steps=2",
        "stage.sft.optimizer.freeze=[\"vision\", \"connector\"]",
        "stage.sft.adapter.targets=[\"q_proj\", \"down\"]",
    ]);
    let arguments = ["run", file.to_str().unwrap(), "--out", out.to_str().unwrap()];
    succeeds(&mm1(&arguments).args(&edits).output().unwrap());
    let moments = |stage| tensors(&out, stage, "optimizer.safetensors");
    let (connector, adapters) = (moments("pretrain"), moments("sft"));
    assert!(!connector.is_empty() && connector.keys().all(|path| path.starts_with("connector.")));
    assert!(!adapters.is_empty() && adapters.keys().all(|path| path.contains(".adapter.")));
    let (pretrain, sft) = (model(&out, "pretrain"), model(&out, "sft"));
    assert!(pretrain.iter().all(|(path, values)| &sft[path] == values), "what is frozen has changed");
    let plan: toml::Table = fs::read_to_string(out.join("plan.toml")).unwrap().parse().unwrap();
    let stages = plan["settled"]["recipe"]["stage"].as_array().unwrap();
    let targets = stages.iter().find_map(|stage| stage.get("adapter")?.get("targets")?.as_array());
    assert_eq!(targets.unwrap()[0].as_str(), Some("q"));
}
