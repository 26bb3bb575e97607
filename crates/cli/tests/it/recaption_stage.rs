//! Captions that a stage of a run writes, and that later stages learn.

use std::collections::BTreeMap;
use std::fs;
use std::path::{Path, PathBuf};
use std::process::{Command, Stdio};
use std::time::Duration;

use serde_json::Value;

use crate::refuse::refused;
use crate::{TINY, losses, mm1, stderr, succeeds};

const IMAGES: u64 = 60;

/// A captioner, which says ends early enough, as it draws from a softmax that has learned captions.
pub(crate) const CAPTIONER: &str = "
[[stage]]
name = \"captioner\"
kind = \"pretrain\"
mixture = { captioned = 1.0 }
steps = 30
rows = 4
length = 96
optimizer = { lr = 1e-2, warmup_steps = 2 }
";

pub(crate) const REWRITTEN: &str = "
[[stage]]
name = \"rewritten\"
kind = \"recaption\"
source = \"captioned\"
images = 60
max_tokens = 40
temperature = 1.0
batch = 2
shard_mib = 0.01
";

/// Begins again after the encoder.
const PRETRAIN: &str = "
[[stage]]
name = \"pretrain\"
kind = \"pretrain\"
after = \"encoder\"
mixture = { captioned = 0.2, rewritten = 0.4, interleaved = 0.4 }
steps = 8
rows = 2
length = 192
optimizer = { warmup_steps = 2 }
checkpoint = { every = 3, keep = 2 }
";

/// The small recipe up to its encoder, and `stages`.
fn recipe(folder: &Path, stages: &[&str]) -> PathBuf {
    let tiny = fs::read_to_string(TINY).unwrap();
    let (kept, _) = tiny.split_once("[[stage]]\nname = \"pretrain\"").unwrap();
    let file = folder.join("recipe.toml");
    fs::write(&file, kept.to_owned() + &stages.concat()).unwrap();
    file
}

fn run(file: &Path, out: &Path, more: &[&str]) -> Command {
    let mut command = mm1(&["run", file.to_str().unwrap(), "--out", out.to_str().unwrap()]);
    command.args(more);
    command
}

/// What the stage has left, the lock aside.
fn written(out: &Path) -> BTreeMap<String, Vec<u8>> {
    let entries = fs::read_dir(out.join("recaptioned/rewritten")).unwrap().map(|entry| entry.unwrap());
    let named = entries.map(|e| (e.file_name().into_string().unwrap(), fs::read(e.path()).unwrap()));
    named.filter(|(name, _)| name != ".lock").collect()
}

fn tally(out: &Path) -> Value {
    let state: Value = serde_json::from_slice(&written(out)[".recaption.json"]).unwrap();
    assert_eq!(state["done"], true);
    state["tally"].clone()
}

fn shards(out: &Path) -> usize {
    let files = fs::read_dir(out.join("recaptioned/rewritten")).into_iter().flatten().flatten();
    files.filter(|file| file.file_name().to_string_lossy().ends_with(".tar")).count()
}

/// The losses of one stage.
fn losses_of(out: &Path, stage: &str) -> Vec<(String, u64, String)> {
    losses(out).into_iter().filter(|(of, ..)| of == stage).collect()
}

#[test]
fn killed_at_any_moment_a_run_writes_and_learns_the_same() {
    let dir = tempfile::tempdir().unwrap();
    let file = recipe(dir.path(), &[CAPTIONER, REWRITTEN, PRETRAIN]);
    let (whole, other, killed) =
        (dir.path().join("whole"), dir.path().join("other"), dir.path().join("killed"));
    let done = run(&file, &whole, &["--threads", "1"]).output().unwrap();
    succeeds(&done);
    // Every image is in a count, and the counts are told.
    let counts = tally(&whole);
    let count = |of: &str| counts[of].as_u64().unwrap();
    assert_eq!(count("captions") + count("short") + count("cut") + count("skipped"), IMAGES, "{counts}");
    assert!(count("captions") > 5 && count("cut") > 0, "{counts}");
    let told = stderr(&done);
    assert!(told.contains(&format!("rewritten {} captions of", count("captions"))), "{told}");
    assert!(told.contains(&format!("{} refused: did not end", count("cut"))), "{told}");
    assert!(shards(&whole) > 4, "{} shards", shards(&whole));

    succeeds(&run(&file, &other, &["--threads", "3", "--set", "stage.rewritten.batch=7"]).output().unwrap());
    assert!(written(&other) == written(&whole), "threads or batch");
    assert_eq!(losses(&other), losses(&whole));

    let mut kills = 0;
    loop {
        let threads = ["1", "3"][kills % 2];
        let mut child = run(&file, &killed, &["--threads", threads]).stderr(Stdio::null()).spawn().unwrap();
        let steps = || fs::read(killed.join("metrics.jsonl")).map_or(0, |text| text.len());
        let (shards_before, steps_before) = (shards(&killed), steps());
        let mut ended = None;
        while ended.is_none() && shards(&killed) <= shards_before && steps() <= steps_before + 8000 {
            ended = child.try_wait().unwrap();
            std::thread::sleep(Duration::from_millis(1));
        }
        if let Some(status) = ended {
            assert!(status.success(), "after {kills} kills: {status}");
            break;
        }
        std::thread::sleep(Duration::from_millis(kills as u64 * 3 % 7));
        child.kill().unwrap(); // SIGKILL
        child.wait().unwrap();
        kills += 1;
        assert!(kills < 100, "it never ends");
    }
    assert!(kills >= 3, "only {kills} kills");
    assert!(written(&killed) == written(&whole), "after kills");
    assert_eq!(losses(&killed), losses(&whole));
    // Done, it is not done again.
    let again = run(&file, &whole, &[]).output().unwrap();
    succeeds(&again);
    assert!(stderr(&again).contains("rewritten done before: "), "{}", stderr(&again));
    // Another captioner writes something else, and the run that learns it comes to other losses.
    let seeded = dir.path().join("seeded");
    let edits = ["--set", "stage.captioner.steps=20"];
    succeeds(&run(&file, &seeded, &edits).output().unwrap());
    assert!(written(&seeded) != written(&whole));
    assert_eq!(losses_of(&seeded, "encoder"), losses_of(&whole, "encoder"));
    assert_ne!(losses_of(&seeded, "pretrain"), losses_of(&whole, "pretrain"));
}

#[test]
fn a_stage_begins_with_the_model_of_an_earlier_one() {
    let dir = tempfile::tempdir().unwrap();
    let (long, short) = (dir.path().join("long"), dir.path().join("short"));
    let without = PRETRAIN.replace("rewritten = 0.4, ", "");
    succeeds(&run(&recipe(dir.path(), &[CAPTIONER, &without]), &long, &[]).output().unwrap());
    let alone = without.replace("after = \"encoder\"\n", "");
    succeeds(&run(&recipe(dir.path(), &[&alone]), &short, &[]).output().unwrap());
    assert_eq!(losses_of(&long, "pretrain"), losses_of(&short, "pretrain"));
    let weights =
        |out: &Path| fs::read(out.join("checkpoints/pretrain/step-00000008/model.safetensors")).unwrap();
    assert!(weights(&long) == weights(&short), "the captioner is left aside");
    // It goes on with the captioner by default.
    let on = dir.path().join("on");
    succeeds(&run(&recipe(dir.path(), &[CAPTIONER, &alone]), &on, &[]).output().unwrap());
    assert_ne!(losses_of(&on, "pretrain"), losses_of(&short, "pretrain"));
}

#[test]
fn runs_of_a_study_share_captions() {
    let dir = tempfile::tempdir().unwrap();
    let axes = "
[[ablation.axis]]
path = \"stage.pretrain.mixture.rewritten\"
values = [0.0, 0.4]
";
    let text = fs::read_to_string(recipe(dir.path(), &[CAPTIONER, REWRITTEN, PRETRAIN, axes])).unwrap();
    let (file, out) = (dir.path().join("study.toml"), dir.path().join("out"));
    fs::write(&file, text).unwrap();
    let study = |more: &[&str]| {
        let mut command = mm1(&["ablate", file.to_str().unwrap(), "--out", out.to_str().unwrap()]);
        command.args(more).output().unwrap()
    };
    let bill = study(&["--bill"]);
    succeeds(&bill);
    assert!(stderr(&bill).contains("of captions written anew"), "{}", stderr(&bill));
    let done = study(&["--no-measure"]);
    succeeds(&done);
    let told = stderr(&done);
    assert!(told.contains("first stages that several runs have in common are done once: 1"), "{told}");
    assert!(told.contains("rewritten is that of"), "{told}");
    let alone = dir.path().join("alone");
    let recipe = recipe(dir.path(), &[CAPTIONER, REWRITTEN, PRETRAIN]);
    succeeds(&run(&recipe, &alone, &[]).output().unwrap());
    let folders: Vec<PathBuf> =
        fs::read_dir(out.join("runs")).unwrap().map(|entry| entry.unwrap().path()).collect();
    assert_eq!(folders.len(), 3);
    for folder in &folders {
        assert!(written(folder) == written(&alone), "{}", folder.display());
    }
    let of_runs: Vec<_> = folders.iter().map(|folder| losses_of(folder, "pretrain")).collect();
    let expected = losses_of(&alone, "pretrain");
    assert_eq!(of_runs.iter().filter(|losses| **losses == expected).count(), 1, "the run with captions");
    assert_eq!(of_runs.iter().filter(|losses| losses.is_empty()).count(), 1, "the shared stages");
}

#[test]
fn plan_and_preview_say_what_a_stage_writes() {
    let dir = tempfile::tempdir().unwrap();
    let file = recipe(dir.path(), &[CAPTIONER, REWRITTEN, PRETRAIN]);
    let plan = |more: &[&str]| mm1(&["plan", file.to_str().unwrap()]).args(more).output().unwrap();
    let planned = plan(&[]);
    succeeds(&planned);
    let text = String::from_utf8_lossy(&planned.stdout).into_owned();
    for line in [
        "rewritten: captions of 60 training images of data.captioned written anew by the model of captioner,",
        "    at most 40 tokens each; mixtures of later stages name them rewritten\n",
        "    begins with the model of encoder,\n",
        "of captions written anew (rewritten ",
    ] {
        assert!(text.contains(line), "{line:?} in {text}");
    }
    assert!(text.lines().last().unwrap().ends_with(" of captions with their images"), "{text}");
    let planned = plan(&["--json"]);
    succeeds(&planned);
    let json: Value = serde_json::from_slice(&planned.stdout).unwrap();
    assert!(json["estimate"]["recaption_seconds"]["rewritten"].as_f64().unwrap() > 0.0, "{json}");
    let bytes = json["estimate"]["caption_bytes"].as_u64().unwrap();
    assert!((60 * 2048..60 * 4096).contains(&bytes), "{json}");
    let stage = &json["settled"]["recipe"]["stage"][2];
    assert_eq!((&stage["kind"], &stage["keep_alt_text"]), (&"recaption".into(), &true.into()));
    let preview = mm1(&["data", "preview", file.to_str().unwrap(), "--stage", "pretrain"]).output().unwrap();
    succeeds(&preview);
    assert!(stderr(&preview).contains("here its images have those of data.captioned"), "{preview:?}");
}

#[test]
fn captions_that_are_gone_are_missed() {
    let dir = tempfile::tempdir().unwrap();
    let (file, out) = (recipe(dir.path(), &[CAPTIONER, REWRITTEN, PRETRAIN]), dir.path().join("out"));
    succeeds(&run(&file, &out, &[]).output().unwrap());
    // Training data of a run is looked at beside its scores.
    let scores = dir.path().join("scores");
    let asked = [
        "eval",
        "--run",
        out.to_str().unwrap(),
        "--out",
        scores.to_str().unwrap(),
        "--tasks",
        "scene-captions",
        "--shots",
        "0",
        "--questions",
        "4",
        "--contamination",
        "10",
    ];
    succeeds(&mm1(&asked).output().unwrap());
    // More steps of the captioner would have written others.
    let more = run(&file, &out, &["--set", "stage.captioner.steps=31"]).output().unwrap();
    refused(&more, &["stage captioner can't have more steps, since stage rewritten has written captions"]);
    fs::remove_dir_all(out.join("checkpoints/pretrain")).unwrap();
    fs::remove_file(out.join("recaptioned/rewritten/synthetic-000001.tar")).unwrap();
    let words = ["synthetic-000001.tar", "not what stage rewritten has written there", "another --out"];
    refused(&run(&file, &out, &[]).output().unwrap(), &words);
}

#[test]
fn stages_that_are_wrong() {
    let dir = tempfile::tempdir().unwrap();
    let out = dir.path().join("out");
    let stages = |stages: &[&str], edits: &[&str]| {
        let edits: Vec<&str> = edits.iter().flat_map(|edit| ["--set", edit]).collect();
        run(&recipe(dir.path(), stages), &out, &edits).output().unwrap()
    };
    let all = [CAPTIONER, REWRITTEN, PRETRAIN];
    let late = PRETRAIN.replace("after = \"encoder\"\n", "");
    for (output, words) in [
        (
            stages(&[CAPTIONER, &late, REWRITTEN], &[]),
            &["stage.pretrain: mixture: stage.rewritten writes these captions, and comes later"][..],
        ),
        (
            stages(&[CAPTIONER, PRETRAIN], &[]),
            &["mixture: no [data.rewritten], and no stage of kind \"recaption\"", "captioned, chat, interl"],
        ),
        (stages(&[REWRITTEN], &[]), &["stage.rewritten: no stage of kind \"pretrain\" or \"sft\" before"]),
        (stages(&all, &["data.rewritten.kind=emoji-text"]), &["name: [data.rewritten] has this name too"]),
        (stages(&all, &["stage.rewritten.source=nope"]), &["stage.rewritten: source: no [data.nope]"]),
        (
            stages(&all, &["stage.rewritten.source=interleaved"]),
            &["source = \"interleaved\": give a source of pictures with one caption each", "not a picture"],
        ),
        (stages(&all, &["stage.rewritten.images=0"]), &["stage.rewritten: images must be at least 1"]),
        (stages(&all, &["stage.rewritten.prompt=''"]), &["stage.rewritten: prompt: it is empty"]),
        (stages(&all, &["stage.rewritten.temperature=-1.0"]), &["temperature = -1"]),
        (stages(&all, &["stage.rewritten.top_p=0.0"]), &["top_p = 0"]),
        (stages(&all, &["stage.rewritten.max_skipped_share=1.0"]), &["max_skipped_share = 1"]),
        (stages(&all, &["stage.rewritten.shard_mib=0.0"]), &["shard_mib = 0"]),
        (
            stages(&all, &["stage.rewritten.steps=4"]),
            &["stage.rewritten.steps: recaption has no such setting"],
        ),
        (
            stages(&all, &["stage.pretrain.after=later"]),
            &["after = \"later\": no earlier stage", "rewritten"],
        ),
        (
            stages(&all, &["stage.encoder.after=pretrain"]),
            &["after = \"pretrain\": no earlier stage has this name; this is the first one: leave it out"],
        ),
    ] {
        refused(&output, words);
        assert!(!out.join("checkpoints").exists(), "{words:?}");
    }
    // A folder of pictures ends.
    let pictures = dir.path().join("pictures");
    fs::create_dir(&pictures).unwrap();
    for i in 0..12_u8 {
        crate::picture(pictures.join(format!("{i}.png")), 16, [i * 20, 9, 9]);
        fs::write(pictures.join(format!("{i}.txt")), format!("number {i}")).unwrap();
    }
    let path = format!("data.captioned={{kind=\"folder\", path={pictures:?}}}");
    let words = ["stage.rewritten.images = 60", "for training: give at most that"];
    refused(&stages(&all, &[&path]), &words);
}
