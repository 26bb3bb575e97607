//! The law from run folders whose results are known.

use std::fs;
use std::path::Path;

use mm1_lab::law::PowerLaw;
use mm1_lab::law::observation::{LawAxis, LawTarget};
use mm1_lab::law::page;
use mm1_lab::law::reading::{LawMeasure, LawRuns, run_folders};
use serde_json::json;

use crate::html::elements;
use crate::random::Random;

const A: f64 = -0.35;
const B: f64 = -1.0;

/// A run as `mm1 run` leaves it, but for its weights.
fn run(folder: &Path, parameters: u64, lr: f64, seed: u64, loss: Option<f64>) {
    fs::create_dir_all(folder).unwrap();
    let plan = format!(
        "[settled.recipe]\nseed = {seed}\n[[settled.recipe.stage]]\nkind = \"pretrain\"\nname = \
         \"pretrain\"\nsteps = 20\n[settled.recipe.stage.optimizer]\nweight_decay = \
         0.1\n[settled.derived.parameters]\nlm = {parameters}\n[settled.derived.lr]\npretrain = {lr:e}\n"
    );
    fs::write(folder.join("plan.toml"), plan).unwrap();
    let steps = (1..=20)
        .map(|step| json!({"step": step, "stage": "pretrain", "loss": loss.map(|l| l + (20 - step) as f64)}));
    fs::write(folder.join("metrics.jsonl"), steps.map(|step| step.to_string() + "\n").collect::<String>())
        .unwrap();
    let end = if loss.is_some() { "done" } else { "failed: stage pretrain: the loss is not finite" };
    let process = json!([{"started": "", "last": "", "machine": "", "threads": 1, "version": "", "commit": "", "end": end}]);
    fs::write(folder.join("processes.json"), process.to_string()).unwrap();
    if let Some(loss) = loss {
        let score = json!([{"stage": "held-out", "task": "perplexity:text", "shots": 0, "metric": "perplexity",
                            "value": loss.exp(), "ci95": null, "n": 100}]);
        fs::write(folder.join("eval.json"), score.to_string()).unwrap();
    }
}

/// Four sizes, six rates, three seeds; the highest rate of the largest size diverges.
fn grid(root: &Path) {
    let mut random = Random::new(8);
    for parameters in [50_000_u64, 200_000, 800_000, 3_200_000] {
        let best = A * (parameters as f64).ln() + B;
        for (i, step) in [-2.0, -1.0, 0.0, 1.0, 2.0, 3.0].into_iter().enumerate() {
            let ln = best + 0.2 + step * 2_f64.ln();
            for seed in 1..=3 {
                let loss = 2.0 + 0.1 * (ln - best).powi(2) + 0.004 * random.normal();
                let diverged = parameters == 3_200_000 && i == 5;
                let folder = root.join(format!("{parameters}-{i}-{seed}"));
                run(&folder, parameters, ln.exp(), seed, (!diverged).then_some(loss));
            }
        }
    }
}

#[test]
fn the_law_of_run_folders_is_the_one_that_made_them() {
    let root = tempfile::tempdir().unwrap();
    grid(root.path());
    let folders = run_folders(root.path()).unwrap();
    assert_eq!(folders.len(), 72);
    let runs = LawRuns::read(&folders, LawAxis::LearningRate, &LawMeasure::Loss).unwrap();
    assert_eq!((runs.target, runs.runs.len(), runs.notes.len()), (LawTarget::Loss, 72, 0));
    assert_eq!(runs.measured, "loss of held-out texts in nats a token (perplexity:text)");
    let law = PowerLaw::fit(LawAxis::LearningRate, runs.target, &runs.observations()).unwrap();
    let [low, high] = law.a.ci95();
    assert!(low < A && A < high && high - low < 0.1, "{:?}", law.a);
    assert_eq!(law.optima[3].diverged, 3);
    assert!(law.sentence().contains("the paper's −0.4214 lies outside of ["), "{}", law.sentence());
    // Without an evaluation: the last two of twenty steps, whose mean is half a nat higher.
    for folder in &folders {
        drop(fs::remove_file(folder.join("eval.json")));
    }
    let trained = LawRuns::read(&folders, LawAxis::LearningRate, &LawMeasure::Loss).unwrap();
    assert_eq!(trained.measured, "loss of training over its last 2 steps, in nats a token");
    let (a, b) = (trained.runs[0].observation.result.unwrap(), runs.runs[0].observation.result.unwrap());
    assert!((a - b - 0.5).abs() < 1e-9, "{a} {b}");
}

#[test]
fn the_page_shows_the_law_beside_the_papers_and_every_size() {
    let root = tempfile::tempdir().unwrap();
    grid(root.path());
    let runs =
        LawRuns::read(&run_folders(root.path()).unwrap(), LawAxis::LearningRate, &LawMeasure::Loss).unwrap();
    let law = PowerLaw::fit(LawAxis::LearningRate, runs.target, &runs.observations()).unwrap();
    let html = page::page("Law", &runs, Ok(&law));
    let names = elements(&html);
    // The law, two keys, four curves.
    assert_eq!(names.iter().filter(|name| *name == "svg").count(), 7);
    assert_eq!(names.iter().filter(|name| *name == "circle").count(), 4 + 69);
    let file = page::svg_file(&law);
    assert!(file.starts_with("<svg xmlns=\"http://www.w3.org/2000/svg\" class=\"plot\""), "{file}");
    assert!(elements(&format!("<!DOCTYPE html>{file}")).contains(&"style".to_owned()));
    let without = page::page("Law", &runs, Err("size 50 k: the best <rate>"));
    assert!(elements(&without).len() > 50 && without.contains("No law: size 50 k: the best &lt;rate&gt;"));
}

#[test]
fn the_law_of_weight_decay_is_found_in_the_same_way() {
    let root = tempfile::tempdir().unwrap();
    grid(root.path());
    let folders = run_folders(root.path()).unwrap();
    let of_rate = LawRuns::read(&folders, LawAxis::LearningRate, &LawMeasure::Loss).unwrap();
    for folder in &folders {
        let plan = fs::read_to_string(folder.join("plan.toml")).unwrap();
        let (head, rate) = plan.trim_end().rsplit_once("pretrain = ").unwrap();
        let turned = head.replace("weight_decay = 0.1", &format!("weight_decay = {rate}"));
        fs::write(folder.join("plan.toml"), turned + "pretrain = 1e-3\n").unwrap();
    }
    let of_decay = LawRuns::read(&folders, LawAxis::WeightDecay, &LawMeasure::Loss).unwrap();
    let fit = |runs: &LawRuns| PowerLaw::fit(runs.axis, runs.target, &runs.observations()).unwrap();
    let (rate, decay) = (fit(&of_rate), fit(&of_decay));
    assert_eq!((decay.a, decay.b, decay.axis), (rate.a, rate.b, LawAxis::WeightDecay));
    assert!(
        decay.sentence().starts_with("ln c = ") && decay.sentence().contains("the paper's 0 lies outside")
    );
    let html = page::page("Law", &of_decay, Ok(&decay));
    assert!(html.contains("best weight decay") && elements(&html).len() > 50);
    // Runs that differ in both say nothing of one.
    let mixed = LawRuns::read(&folders, LawAxis::LearningRate, &LawMeasure::Loss).unwrap();
    let error = PowerLaw::fit(mixed.axis, mixed.target, &mixed.observations()).unwrap_err().to_string();
    assert!(error.contains("two runs have the same learning rate and seed"), "{error}");
    assert!("weight-decay".parse::<LawAxis>().is_ok() && "decay".parse::<LawAxis>().is_err());
}

#[test]
fn runs_that_tell_nothing_are_named() {
    let root = tempfile::tempdir().unwrap();
    let empty = run_folders(root.path()).unwrap_err().to_string();
    assert!(empty.contains("neither a study nor a folder of run folders"), "{empty}");
    run(&root.path().join("a"), 1000, 1e-3, 1, Some(2.0));
    run(&root.path().join("b"), 1000, 2e-3, 1, Some(2.0));
    fs::remove_file(root.path().join("b/processes.json")).unwrap();
    let folders = run_folders(root.path()).unwrap();
    let runs = LawRuns::read(&folders, LawAxis::LearningRate, &LawMeasure::Loss).unwrap();
    assert_eq!(runs.runs.len(), 1);
    assert!(runs.notes[0].ends_with("b: not finished, left out"), "{:?}", runs.notes);
    let measure: LawMeasure = "scene-vqa:8".parse().unwrap();
    let error = LawRuns::read(&folders, LawAxis::LearningRate, &measure).unwrap_err().to_string();
    assert!(error.contains("no run is finished and has a scene-vqa:8"), "{error}");
    assert!(error.contains("it has no score of scene-vqa with 8 shots"), "{error}");
    fs::write(root.path().join("a/eval.json"), "[]").unwrap();
    run(&root.path().join("b"), 1000, 2e-3, 1, Some(2.0));
    let error = LawRuns::read(&folders, LawAxis::LearningRate, &LawMeasure::Loss).unwrap_err().to_string();
    assert!(error.contains("the runs were measured in different ways: "), "{error}");
    assert!("scene-vqa".parse::<LawMeasure>().is_err() && "loss".parse::<LawMeasure>().is_ok());
}

#[test]
fn a_law_is_made_again_of_its_file() {
    let root = tempfile::tempdir().unwrap();
    let study = root.path().join("study");
    grid(&study);
    let folders = run_folders(&study).unwrap();
    let read = LawRuns::read(&folders, LawAxis::LearningRate, &LawMeasure::Loss).unwrap().seen_from(&study);
    assert!(read.runs.iter().all(|run| run.folder.components().count() == 1), "{:?}", read.runs[0].folder);
    let beside = LawRuns::read(&folders, LawAxis::LearningRate, &LawMeasure::Loss).unwrap();
    let beside = beside.seen_from(&root.path().join("other"));
    assert!(beside.runs[0].folder.starts_with("../study"), "{:?}", beside.runs[0].folder);
    let law = PowerLaw::fit(read.axis, read.target, &read.observations()).unwrap();
    let file = root.path().join("law.json");
    let mut document = serde_json::to_value(&read).unwrap();
    document["law"] = serde_json::to_value(&law).unwrap();
    fs::write(&file, document.to_string()).unwrap();
    assert!(LawRuns::is_file(&file) && !LawRuns::is_file(&study));
    let again = LawRuns::read_file(&file).unwrap();
    assert_eq!(again, read, "every digit");
    assert_eq!(PowerLaw::fit(again.axis, again.target, &again.observations()).unwrap(), law);
    let text = page::markdown("The law", &again, &law);
    assert!(text.contains(&law.sentence()[..40]), "{text}");
    // Four sizes; and six rates of each, the last of which diverged for the largest.
    assert_eq!(text.matches("\n| 50000 | ").count(), 7, "{text}");
    assert!(text.lines().last().unwrap().ends_with("|  | 0 | 3 |"), "{text}");
    assert!(text.lines().all(|line| line.starts_with('|') || line.chars().count() <= 110), "{text}");
    let csv = page::csv(&again);
    assert_eq!((csv.lines().count(), csv.matches(",\n").count()), (73, 3), "{csv}");
    fs::write(&file, "{\"measured\": 3}").unwrap();
    let error = format!("{:#}", LawRuns::read_file(&file).unwrap_err());
    assert!(error.contains("not the law.json that `mm1 law` writes"), "{error}");
}
