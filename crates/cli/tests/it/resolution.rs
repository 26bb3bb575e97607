//! Stages with another size of pictures, and with tiles.

use std::fs;
use std::path::Path;

use mm1_model::positions::resize_positions;
use safetensors::SafeTensors;
use serde_json::Value;

use crate::refuse::refused;
use crate::resume::run_with_kills;
use crate::{TINY, losses, mm1, run, stderr, succeeds};

/// Tuning at twice the size, with tiles; pictures of the built-in world are twice as large, so that they have
/// some.
const EDITS: [&str; 5] = [
    "world.picture_size=48",
    "model.connector={kind=\"c-abstractor\",tokens=4,dim=16,depth=1}",
    "stage.sft.image_size=32",
    "stage.sft.tiling={kind=\"dynamic\",min_tiles=2,max_tiles=4,indicators=\"separators\"}",
    "stage.few-shot.image_size=24",
];

fn set<'a>(edits: &[&'a str]) -> Vec<&'a str> {
    edits.iter().flat_map(|edit| ["--set", *edit]).collect()
}

/// A parameter as the last checkpoint of `stage` has it.
fn parameter(out: &Path, stage: &str, path: &str) -> (Vec<usize>, Vec<f32>) {
    let folder = out.join("checkpoints").join(stage);
    let mut steps: Vec<_> = fs::read_dir(folder).unwrap().map(|e| e.unwrap().path()).collect();
    steps.sort();
    let bytes = fs::read(steps.last().unwrap().join("model.safetensors")).unwrap();
    let file = SafeTensors::deserialize(&bytes).unwrap();
    let tensor = file.tensor(path).unwrap();
    let value = |b: &[u8]| f32::from_le_bytes(b.try_into().unwrap());
    (tensor.shape().to_vec(), tensor.data().chunks(4).map(value).collect())
}

#[test]
fn stages_of_two_sizes_with_tiles_killed_at_any_moment_give_the_same_digits() {
    let dir = tempfile::tempdir().unwrap();
    let (whole, killed) = (dir.path().join("whole"), dir.path().join("killed"));
    let edits = set(&EDITS);
    let done = run(&whole, &[edits.as_slice(), &["--threads", "1"]].concat());
    succeeds(&done);
    let kills = run_with_kills(TINY, &edits, dir.path(), &killed);
    assert!(kills >= 3, "only {kills} kills: the run is too short to prove anything");
    assert_eq!(losses(&killed), losses(&whole));
    let eval = |out: &Path| fs::read_to_string(out.join("eval.json")).unwrap();
    assert_eq!(eval(&killed), eval(&whole));

    // What is said of it: before, in the plan, in the report, in the checkpoint.
    let told = stderr(&done);
    assert!(told.contains("5.0 views of 32 pixels a picture (20 image tokens"), "{told}");
    let plan: toml::Table = fs::read_to_string(whole.join("plan.toml")).unwrap().parse().unwrap();
    let of_sft = &plan["settled"]["derived"]["stage_pictures"]["sft"];
    assert_eq!(of_sft["image_size"].as_integer(), Some(32));
    let most = of_sft["most_tokens"].as_integer().unwrap();
    assert!(most > 5 * 4, "{most}");
    let report = fs::read_to_string(whole.join("report.html")).unwrap();
    let fact = format!("sft: pictures of 32 pixels a side, at most {most} tokens a picture");
    assert!(report.contains(&fact));
    let state = |stage: &str, step: &str| -> Value {
        let path = whole.join("checkpoints").join(stage).join(step).join("state.json");
        serde_json::from_slice(&fs::read(path).unwrap()).unwrap()
    };
    assert_eq!(state("sft", "step-00000006")["image_size"], 32);
    assert_eq!(state("pretrain", "step-00000012")["image_size"], Value::Null);

    // Another size is another run.
    let other = [&edits[..], &["--set", "stage.sft.image_size=48"]].concat();
    refused(&run(&whole, &other), &["belongs to another run", "image_size"]);
    asked_at_other_sizes(&whole, dir.path());
}

/// `mm1 eval` and `mm1 chat` at the size of the training and at others.
fn asked_at_other_sizes(run: &Path, folder: &Path) {
    let picture = folder.join("wide.png");
    crate::picture(picture.clone(), 90, [200, 0, 0]);
    let run = run.to_str().unwrap();
    let chat = |more: &[&str]| {
        let image = ["--image", picture.to_str().unwrap(), "--max-tokens", "3", "what is it?"];
        mm1(&["chat", "--run", run]).args(more).args(image).output().unwrap()
    };
    for more in [&[][..], &["--image-size", "16"], &["--stage", "pretrain", "--image-size", "64"]] {
        succeeds(&chat(more));
    }
    refused(&chat(&["--image-size", "20"]), &["--image-size 20", "must divide image_size = 20"]);
    let eval = |out: &str, more: &[&str]| {
        let out = folder.join(out);
        let asked = ["--tasks", "scene-vqa", "--shots", "2", "--questions", "3", "--contamination", "0"];
        let command = ["eval", "--run", run, "--out", out.to_str().unwrap()];
        mm1(&command).args(asked).args(more).output().unwrap()
    };
    succeeds(&eval("own", &[]));
    succeeds(&eval("small", &["--image-size", "16"]));
    succeeds(&eval("overviews", &["--demonstration-overviews", "--full-resolution-demonstrations", "1"]));
    let lone = eval("lone", &["--full-resolution-demonstrations", "1"]);
    refused(&lone, &["full_resolution_demonstrations = 1", "--demonstration-overviews"]);
    refused(&eval("wrong", &["--image-size", "20"]), &["--image-size 20"]);
    // Captions are written of tiled pictures, too; a damaged one is left out.
    let (pictures, captions) = (folder.join("pictures"), folder.join("captions"));
    fs::create_dir(&pictures).unwrap();
    for (name, side) in [("a", 20), ("b", 90), ("c", 40)] {
        crate::picture(pictures.join(format!("{name}.png")), side, [0, 90, 200]);
        fs::write(pictures.join(format!("{name}.txt")), "a thing").unwrap();
    }
    let whole = fs::read(pictures.join("b.png")).unwrap();
    fs::write(pictures.join("b.png"), &whole[..whole.len() / 2]).unwrap();
    let folders = [&pictures, &captions].map(|path| path.to_str().unwrap());
    let written = mm1(&["data", "recaption", "--run", run, folders[0], "--to", folders[1]])
        .args(["--max-tokens", "4", "--max-skipped-share", "0.5"])
        .output()
        .unwrap();
    succeeds(&written);
    let told = String::from_utf8(written.stdout).unwrap();
    assert!(told.contains("2 captions") && told.contains("1 documents skipped"), "{told}");
}

/// The size follows an encoder's training and its measures, and adapters that a stage keeps for the next.
#[test]
fn encoders_and_kept_adapters_go_with_a_change_of_size() {
    let dir = tempfile::tempdir().unwrap();
    let kept = "stage.pretrain.adapter={rank=2,targets=[\"q\",\"up\"],parts=[\"vision\",\"lm\"],merge=false}";
    let adapter = "stage.sft.adapter={rank=2,targets=[\"q\",\"up\"],parts=[\"vision\",\"lm\"]}";
    let sizes = ["stage.encoder.image_size=32", "stage.pretrain.image_size=24", "stage.sft.image_size=16"];
    succeeds(&run(dir.path(), &set(&[&sizes[..], &[kept, adapter]].concat())));
    for (stage, grid) in [("encoder", 4), ("pretrain", 3), ("sft", 2)] {
        assert_eq!(parameter(dir.path(), stage, "vision.position").0[0], grid * grid, "{stage}");
    }
    // A probe sees pictures as the stage before it did.
    let probed = dir.path().join("probed");
    let edits = ["stage.encoder.image_size=32", "stage.encoder.steps=2", "stage.probe.attentive=true"];
    succeeds(&crate::encoders::run(&probed, &edits));
    assert_eq!(parameter(&probed, "encoder", "vision.position").0[0], 8 * 8);
    assert!(probed.join("eval.json").exists());
}

#[test]
fn a_stage_begins_with_interpolated_positions() {
    let dir = tempfile::tempdir().unwrap();
    let frozen = "stage.sft.optimizer.freeze=[\"vision\",\"connector\"]";
    succeeds(&run(dir.path(), &set(&[EDITS[1], "stage.sft.image_size=32", frozen])));
    for path in ["vision.position", "connector.CAbstractor.position", "connector.position"] {
        let folder = dir.path().join("checkpoints/sft");
        let step = fs::read_dir(&folder).unwrap().next().unwrap().unwrap().path();
        let bytes = fs::read(step.join("model.safetensors")).unwrap();
        if SafeTensors::deserialize(&bytes).unwrap().tensor(path).is_err() {
            continue;
        }
        let ((before, values), (after, resized)) =
            (parameter(dir.path(), "pretrain", path), parameter(dir.path(), "sft", path));
        assert_eq!((before[0], after[0]), (2 * 2, 4 * 4), "{path}");
        assert_eq!(resized, resize_positions(&values, [2; 2], [4; 2]), "{path}");
    }
}

#[test]
fn previews_show_tiles() {
    let dir = tempfile::tempdir().unwrap();
    let page = dir.path().join("page.html");
    let done =
        mm1(&["data", "preview", TINY, "--stage", "sft", "--rows", "1", "--html", page.to_str().unwrap()])
            .args(set(&EDITS))
            .output()
            .unwrap();
    succeeds(&done);
    let text = String::from_utf8(done.stdout).unwrap();
    assert!(text.contains(" in ") && text.contains("views"), "{text}");
    let page = fs::read_to_string(&page).unwrap();
    assert_eq!(page.matches("width=\"32\"").count(), page.matches("4 image tokens").count());
    assert!(page.matches("width=\"32\"").count() >= 5);
}

#[test]
fn sizes_and_tiles_that_are_wrong_are_refused() {
    let plan = |edits: &[&str]| mm1(&["plan", TINY]).args(set(edits)).output().unwrap();
    refused(&plan(&["stage.sft.image_size=20"]), &["stage.sft", "image_size = 20"]);
    refused(&plan(&["stage.few-shot.image_size=20"]), &["stage.few-shot", "image_size = 20"]);
    let tiled = |stage: &str| format!("stage.{stage}.tiling={{kind=\"mm1\"}}");
    refused(
        &plan(&[&tiled("encoder")]),
        &["stage.encoder.tiling", "objective = \"superclass\"", "leave it out"],
    );
    refused(&plan(&[&tiled("sft"), "stage.sft.length=21"]), &["stage.sft.length = 21", "20 tokens"]);
    refused(&plan(&["image.tiling={kind=\"mm1\",min_tiles=2}"]), &["min_tiles"]);
    refused(&plan(&["image.tiling={kind=\"mm2\"}"]), &["mm2", "mm1"]);
    refused(&plan(&["image.tiling=mm1"]), &["image.tiling = \"mm1\"", "a table with its kind"]);
    refused(&plan(&["image.tiling={kind=\"dynamic\",min_tiles=5,max_tiles=4}"]), &["image", "min_tiles = 5"]);
    let dir = tempfile::tempdir().unwrap();
    let short = [
        "image.tiling={kind=\"mm1\"}",
        "stage.encoder.steps=1",
        "stage.pretrain.steps=1",
        "stage.sft.steps=1",
        "stage.few-shot.questions=1",
    ];
    succeeds(&run(dir.path(), &set(&short)));
    let out = dir.path().join("export");
    let run = dir.path().to_str().unwrap();
    let export = mm1(&["export", run, "--format", "hf", "--out", out.to_str().unwrap()]).output().unwrap();
    refused(&export, &["tiling", "leave tiling out"]);
    // A language model alone sees no pictures.
    let alone = dir.path().join("lm.gguf");
    succeeds(&mm1(&["export", run, "--format", "gguf", "--out", alone.to_str().unwrap()]).output().unwrap());
}
