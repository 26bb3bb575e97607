//! [`LawRuns`]: the runs of a grid of sizes and learning rates, read from their folders.

use std::fmt;
use std::path::{Path, PathBuf};
use std::str::FromStr;

use anyhow::{Context as _, Error, Result, ensure};
use serde::{Deserialize, Serialize};
use toml::Value;

use super::observation::{LawAxis, LawObservation, LawTarget};
use crate::record::ScoreRecord;
use crate::run::{RunRecords, StageRecords};

/// The share of a stage's last steps whose mean loss is its result.
const LAST: f64 = 0.1;

/// What a failure says of a run that diverged.
const DIVERGED: &str = "not finite";

/// By what runs are judged.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum LawMeasure {
    /// The loss of held-out texts after the last stage of kind `pretrain`, where an evaluation has measured
    /// it; else that stage's own over its last steps.
    Loss,
    /// The score of a task.
    Score {
        /// Its name.
        task: String,
        /// Demonstrations.
        shots: u64,
    },
}

impl FromStr for LawMeasure {
    type Err = Error;

    /// `loss`, or `TASK:SHOTS` such as `scene-vqa:8`.
    fn from_str(text: &str) -> Result<Self> {
        if text == "loss" {
            return Ok(Self::Loss);
        }
        let parts = text.rsplit_once(':').and_then(|(task, shots)| Some((task, shots.parse().ok()?)));
        let (task, shots) = parts.context("write loss, or a task with its number of shots: scene-vqa:8")?;
        Ok(Self::Score { task: task.to_owned(), shots })
    }
}

impl fmt::Display for LawMeasure {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            Self::Loss => f.write_str("loss"),
            Self::Score { task, shots } => write!(f, "{task}:{shots}"),
        }
    }
}

/// All runs of a grid.
#[derive(Clone, Debug, PartialEq, Serialize, Deserialize)]
pub struct LawRuns {
    /// What is looked for.
    pub axis: LawAxis,
    /// Whether less is better.
    pub target: LawTarget,
    /// What the results are, in words with their unit.
    pub measured: String,
    /// The runs that are finished or diverged.
    pub runs: Vec<LawRun>,
    /// Which runs are left out, and why.
    pub notes: Vec<String>,
}

/// One run.
#[derive(Clone, Debug, PartialEq, Serialize, Deserialize)]
pub struct LawRun {
    /// Its folder.
    pub folder: PathBuf,
    /// What came out.
    #[serde(flatten)]
    pub observation: LawObservation,
}

/// What one run says of itself.
struct RunResult {
    measured: String,
    target: LawTarget,
    value: f64,
}

impl LawRuns {
    /// The runs in `folders`.
    ///
    /// # Errors
    /// A folder that is none of a run; runs that were measured in different ways; none that is finished.
    pub fn read(folders: &[PathBuf], axis: LawAxis, measure: &LawMeasure) -> Result<Self> {
        let (mut runs, mut notes) = (Vec::new(), Vec::new());
        let mut kinds: Vec<(String, LawTarget)> = Vec::new();
        for folder in folders {
            if !folder.join("plan.toml").exists() {
                notes.push(format!("{}: not begun, left out", folder.display()));
                continue;
            }
            let records = RunRecords::read(folder)?;
            let observation = settings(&records).with_context(|| folder.display().to_string())?;
            let failure = records.processes.last().and_then(|last| last.end.clone()).unwrap_or_default();
            let result = match result(&records, measure) {
                _ if failure.starts_with("failed") && failure.contains(DIVERGED) => None,
                _ if failure != "done" => {
                    notes.push(format!("{}: not finished, left out", folder.display()));
                    continue;
                }
                Ok(result) => Some(result),
                Err(e) => {
                    notes.push(format!("{}: left out: {e:#}", folder.display()));
                    continue;
                }
            };
            if let Some(RunResult { measured, target, .. }) = &result {
                let kind = (measured.clone(), *target);
                if !kinds.contains(&kind) {
                    kinds.push(kind);
                }
            }
            let result = result.map(|result| rounded(result.value));
            let observation = LawObservation { result, ..observation };
            runs.push(LawRun { folder: folder.clone(), observation });
        }
        ensure!(kinds.len() < 2, "the runs were measured in different ways: {}", shown(&kinds));
        let (measured, target) = kinds.pop().with_context(|| {
            let why = notes.first().map_or(String::new(), |note| format!(" ({note})"));
            format!("no run is finished and has a {measure}{why}")
        })?;
        Ok(Self { axis, target, measured, runs, notes })
    }

    /// Whether `path` is a file as [`Self::read_file`] reads it, and not the results of a study.
    pub fn is_file(path: &Path) -> bool {
        let text = std::fs::read(path).unwrap_or_default();
        let parsed: Option<serde_json::Value> = serde_json::from_slice(&text).ok();
        path.is_file() && parsed.is_some_and(|value| value.get("measured").is_some())
    }

    /// The runs in the `law.json` of `mm1 law`, which needs no run folder.
    ///
    /// # Errors
    /// A file that is damaged or another one.
    pub fn read_file(path: &Path) -> Result<Self> {
        let text = std::fs::read(path).with_context(|| path.display().to_string())?;
        serde_json::from_slice(&text)
            .with_context(|| format!("{}: not the law.json that `mm1 law` writes", path.display()))
    }

    /// The same with the folders of runs as they are reached from `folder`, where they lie in it or beside
    /// it.
    pub fn seen_from(mut self, folder: &Path) -> Self {
        for run in &mut self.runs {
            let around = folder.parent();
            let beside = || Some(Path::new("..").join(run.folder.strip_prefix(around?).ok()?));
            let inside = run.folder.strip_prefix(folder).ok().map(Path::to_owned);
            if let Some(seen) = inside.or_else(beside) {
                run.folder = seen;
            }
        }
        self
    }

    /// What came out of each.
    pub fn observations(&self) -> Vec<LawObservation> {
        self.runs.iter().map(|run| run.observation).collect()
    }
}

/// To ten digits, far finer than runs repeat: a number of so few is read from JSON as it was written, so that
/// a file gives the digits of the folders.
fn rounded(value: f64) -> f64 {
    format!("{value:.9e}").parse().unwrap_or(value)
}

fn shown(kinds: &[(String, LawTarget)]) -> String {
    kinds.iter().map(|(measured, _)| measured.as_str()).collect::<Vec<_>>().join("; ")
}

/// Size, rate, decay and seed of a run, from its plan.
fn settings(run: &RunRecords) -> Result<LawObservation> {
    let missing = || "its plan.toml has no stage of kind pretrain; give runs of `mm1 run` or `mm1 ablate`";
    let stage = last_stage(run).with_context(missing)?;
    let name = stage.get("name").and_then(Value::as_str).with_context(missing)?;
    let parameters = run.planned("parameters").and_then(|of| of.get("lm")).and_then(Value::as_integer);
    let learning_rate = run.planned("lr").and_then(|of| of.get(name)).and_then(Value::as_float);
    let weight_decay = stage.get("optimizer").and_then(|of| of.get("weight_decay")).and_then(Value::as_float);
    let seed = run.planned("seed").and_then(Value::as_integer).and_then(|seed| u64::try_from(seed).ok());
    Ok(LawObservation {
        parameters: parameters.and_then(|n| u64::try_from(n).ok()).with_context(missing)?,
        learning_rate: rounded(learning_rate.with_context(missing)?),
        weight_decay: rounded(weight_decay.with_context(missing)?),
        seed: seed.with_context(missing)?,
        result: None,
    })
}

/// The last stage of kind `pretrain`.
fn last_stage(run: &RunRecords) -> Option<&Value> {
    let stages = run.planned("stage")?.as_array()?;
    stages.iter().rfind(|stage| stage.get("kind").and_then(Value::as_str) == Some("pretrain"))
}

fn result(run: &RunRecords, measure: &LawMeasure) -> Result<RunResult> {
    let held_out =
        |score: &&ScoreRecord| score.metric == "perplexity" && score.shots == 0 && !score.task.contains('/');
    match measure {
        LawMeasure::Score { task, shots } => {
            let of_task = |score: &&ScoreRecord| score.task == *task && score.shots == *shots;
            let score = run.scores.iter().rfind(of_task);
            let score = score.with_context(|| format!("it has no score of {task} with {shots} shots"))?;
            let value = score.value.context("its score is no number")?;
            if score.lower_is_better() {
                let measured = format!("logarithm of the {} of {task}, {shots} shots", score.metric);
                return Ok(RunResult { measured, target: LawTarget::Loss, value: value.ln() });
            }
            let measured = format!("{task}, {shots} shots ({})", score.metric_name());
            Ok(RunResult { measured, target: LawTarget::Score, value })
        }
        LawMeasure::Loss => {
            let held_out: Vec<&ScoreRecord> = run.scores.iter().filter(held_out).collect();
            if held_out.is_empty() {
                return of_training(run);
            }
            let values = held_out.iter().map(|score| score.value.map(f64::ln)).collect::<Option<Vec<_>>>();
            let values = values.context("its perplexity is no number")?;
            let names: Vec<&str> = held_out.iter().map(|score| score.task.as_str()).collect();
            let measured = format!("loss of held-out texts in nats a token ({})", names.join(", "));
            let value = values.iter().sum::<f64>() / values.len() as f64;
            Ok(RunResult { measured, target: LawTarget::Loss, value })
        }
    }
}

/// The mean loss of the last steps of the last stage of kind `pretrain`.
fn of_training(run: &RunRecords) -> Result<RunResult> {
    let name = last_stage(run).and_then(|stage| stage.get("name")).and_then(Value::as_str);
    let stage = run.stages.iter().find(|stage: &&StageRecords| Some(stage.name.as_str()) == name);
    let losses: Vec<f64> =
        stage.into_iter().flat_map(|stage| &stage.steps).filter_map(|step| step.loss).collect();
    ensure!(!losses.is_empty(), "it has no steps");
    let count = ((losses.len() as f64 * LAST).ceil() as usize).max(1);
    let last = &losses[losses.len() - count..];
    let measured = format!("loss of training over its last {count} steps, in nats a token");
    Ok(RunResult { measured, target: LawTarget::Loss, value: last.iter().sum::<f64>() / count as f64 })
}

/// `run` from `folder`, without a way up and down again where there is a shorter one.
fn beside(folder: &Path, run: &Path) -> PathBuf {
    match (run.strip_prefix(".."), folder.parent()) {
        (Ok(inside), Some(parent)) if folder.file_name().is_some() => parent.join(inside),
        _ => folder.join(run),
    }
}

/// The run folders in `folder`: those of the study there, or those that lie in it.
///
/// # Errors
/// A folder with neither.
pub fn run_folders(folder: &Path) -> Result<Vec<PathBuf>> {
    use crate::study::record::{FILE, StudyRecord};
    if folder.join(FILE).exists() {
        let study = StudyRecord::read(folder)?;
        return Ok(study.runs.iter().map(|run| beside(folder, &run.folder)).collect());
    }
    let entries = std::fs::read_dir(folder).with_context(|| folder.display().to_string())?;
    let mut found = entries.map(|entry| Ok(entry?.path())).collect::<Result<Vec<_>>>()?;
    found.retain(|path| path.join("plan.toml").exists());
    found.sort();
    ensure!(
        !found.is_empty(),
        "{}: neither a study nor a folder of run folders; give what `mm1 ablate` has made",
        folder.display()
    );
    Ok(found)
}
