//! [`RunRecords`]: what a run folder holds, read with forbearance. A part that is missing or damaged becomes
//! a note, since the report of a killed run is worth most.

use std::collections::{BTreeMap, BTreeSet};
use std::fmt::Display;
use std::path::Path;

use anyhow::{Result, ensure};
use serde::Deserialize;
use serde::de::DeserializeOwned;
use serde_json::Value;
use toml::Table;

/// All that a report is made of.
#[derive(Debug, Default)]
pub struct RunRecords {
    /// The recipe's name, or the folder's where there is no plan.
    pub name: String,
    /// `plan.toml` as written.
    pub plan_text: Option<String>,
    /// `plan.toml` as data; empty if it is missing or damaged.
    pub plan: Table,
    /// The training stages in their order, each with its steps in ascending order.
    pub stages: Vec<StageRecords>,
    /// `eval.json`.
    pub scores: Vec<ScoreRecord>,
    /// `samples.json`.
    pub samples: Vec<AnswerRecord>,
    /// What is missing, damaged or unfinished, one sentence each.
    pub notes: Vec<String>,
}

/// The steps of one stage.
#[derive(Debug, Default)]
pub struct StageRecords {
    /// Its name in the recipe.
    pub name: String,
    /// How many steps the plan has, if it says so.
    pub planned: Option<u64>,
    /// What it learns, if it is no language model: `clip`, `dino`, …
    pub objective: Option<String>,
    /// One for each step, in order.
    pub steps: Vec<StepRecord>,
}

/// One line of `metrics.jsonl`. A number that JSON can't write, such as `NaN`, is `None`.
#[derive(Clone, Debug, Deserialize)]
pub struct StepRecord {
    /// The optimisation step within its stage.
    pub step: u64,
    /// The stage's name.
    pub stage: String,
    /// Mean loss over the step's weights, in nats.
    pub loss: Option<f64>,
    /// Learning rate.
    pub lr: Option<f64>,
    /// Norm of all gradients together, before clipping.
    pub grad_norm: Option<f64>,
    /// Positions that this step saw.
    pub tokens: Option<f64>,
    /// Pictures that this step saw.
    pub images: Option<f64>,
    /// Wall time of this step.
    pub seconds: Option<f64>,
    /// The part of `seconds` spent waiting for data.
    pub data_seconds: Option<f64>,
    /// Throughput; `tokens / seconds` where it is not written.
    pub tokens_per_second: Option<f64>,
    /// Damaged samples met on the way to this step.
    #[serde(default)]
    pub skipped: Vec<SkippedRecord>,
    /// What the losses of its examples weigh together.
    pub weight: Option<f64>,
    /// What the objective reports of itself, such as DINO's `rank`.
    #[serde(flatten)]
    pub figures: BTreeMap<String, Value>,
}

/// One entry of `eval.json`.
#[derive(Clone, Debug, Deserialize)]
pub struct ScoreRecord {
    /// The stage after which it was measured.
    pub stage: String,
    /// `task`, or `task/category`.
    pub task: String,
    /// Number of demonstrations.
    pub shots: u64,
    /// What is measured, such as `accuracy` or `cider`.
    pub metric: String,
    /// As papers print it.
    pub value: Option<f64>,
    /// 95% interval.
    pub ci95: Option<[Option<f64>; 2]>,
    /// Number of questions.
    pub n: Option<u64>,
    /// What simpler answers score, by name.
    #[serde(default)]
    pub baselines: serde_json::Map<String, Value>,
}

/// One entry of `samples.json`: a test question with what the model said.
#[derive(Clone, Debug, Deserialize)]
pub struct AnswerRecord {
    /// The question's id.
    pub id: String,
    /// The stage after which it was asked.
    pub stage: String,
    /// The task.
    pub task: String,
    /// Number of demonstrations.
    pub shots: u64,
    /// The question; empty for captioning.
    pub question: String,
    /// The accepted answers.
    pub answers: Vec<String>,
    /// What the model said.
    pub output: String,
    /// The item's score as `eval.json` has it: 100 is right, 0 is wrong; a caption's CIDEr × 100.
    pub score: Option<f64>,
    /// The pictures that were shown.
    #[serde(default)]
    pub pictures: Vec<EmbeddedPng>,
}

/// A picture inside `samples.json`.
#[derive(Clone, Debug, PartialEq, Deserialize)]
pub struct EmbeddedPng {
    /// In pixels.
    pub width: u32,
    /// In pixels.
    pub height: u32,
    /// The PNG file, in base64.
    pub png_base64: String,
}

/// A sample that could not be used.
#[derive(Clone, Debug, Deserialize)]
pub struct SkippedRecord {
    /// The sample's id or file.
    pub id: String,
    /// Why it was skipped.
    pub reason: String,
}

impl RunRecords {
    /// Reads the folder.
    ///
    /// # Errors
    /// `folder` is not a folder. Everything else becomes a note.
    pub fn read(folder: &Path) -> Result<Self> {
        ensure!(folder.is_dir(), "{}: not a run folder; give the --out of `mm1 run`", folder.display());
        let mut run = Self::default();
        run.read_plan(folder);
        run.read_metrics(folder);
        let scores = read_list(folder, "eval.json", &mut run.notes);
        if scores.is_none() && run.plans(&["eval", "probe"]) {
            run.note("There are no scores yet: eval.json is missing.".into());
        }
        let samples = read_list(folder, "samples.json", &mut run.notes);
        if samples.is_none() && run.plans(&["eval"]) {
            run.note("There are no test pictures yet: samples.json is missing.".into());
        }
        (run.scores, run.samples) = (scores.unwrap_or_default(), samples.unwrap_or_default());
        Ok(run)
    }

    /// Samples that could not be used, in order.
    pub fn skipped(&self) -> impl Iterator<Item = &SkippedRecord> {
        self.stages.iter().flat_map(|stage| &stage.steps).flat_map(|step| &step.skipped)
    }

    /// The first value named `key` in the plan's tables (lists are not entered), the outermost first.
    pub fn planned(&self, key: &str) -> Option<&toml::Value> {
        find(&self.plan, key)
    }

    /// Whether a stage is of one of these kinds; true where there is no plan.
    fn plans(&self, kinds: &[&str]) -> bool {
        let stages = self.planned("stage").and_then(|s| s.as_array());
        let kind = |stage: &toml::Value| stage.get("kind").and_then(|kind| kind.as_str().map(str::to_owned));
        stages.is_none_or(|stages| stages.iter().filter_map(kind).any(|kind| kinds.contains(&kind.as_str())))
    }

    fn read_plan(&mut self, folder: &Path) {
        match std::fs::read_to_string(folder.join("plan.toml")) {
            Ok(text) => {
                match text.parse() {
                    Ok(plan) => self.plan = plan,
                    Err(e) => self.note(format!("plan.toml is damaged: {}", one_line(&e))),
                }
                self.plan_text = Some(text);
            }
            Err(e) => self.note(format!("The plan can't be shown: plan.toml: {e}.")),
        }
        let folder_name = || {
            let full = folder.canonicalize().unwrap_or_else(|_| folder.to_path_buf());
            full.file_name().map_or_else(|| "run".into(), |n| n.to_string_lossy().into_owned())
        };
        self.name = self.planned("name").and_then(|n| n.as_str()).map_or_else(folder_name, Into::into);
        let stages = self.planned("stage").and_then(|s| s.as_array()).cloned().unwrap_or_default();
        for stage in stages {
            let planned =
                stage.get("steps").and_then(toml::Value::as_integer).and_then(|n| u64::try_from(n).ok());
            if let (Some(name), Some(_)) = (stage.get("name").and_then(|n| n.as_str()), planned) {
                let objective = stage.get("objective").and_then(|o| o.as_str()).map(Into::into);
                self.stages.push(StageRecords { name: name.into(), planned, objective, steps: Vec::new() });
            }
        }
    }

    fn read_metrics(&mut self, folder: &Path) {
        let text = match std::fs::read(folder.join("metrics.jsonl")) {
            Ok(bytes) => String::from_utf8_lossy(&bytes).into_owned(),
            Err(e) => return self.note(format!("No training step is recorded: metrics.jsonl: {e}.")),
        };
        let mut steps = BTreeMap::new();
        let (mut damaged, mut count) = (Vec::new(), 0);
        for (number, line) in text.lines().enumerate().filter(|(_, l)| !l.trim().is_empty()) {
            count += 1;
            match serde_json::from_str::<StepRecord>(line) {
                // A step that a continued run did again replaces the one before.
                Ok(step) => drop(steps.insert((self.place(&step.stage), step.step), step)),
                Err(_) => damaged.push((number + 1).to_string()),
            }
        }
        for ((stage, _), step) in steps {
            self.stages[stage].steps.push(step);
        }
        if !damaged.is_empty() {
            self.note(format!("metrics.jsonl: left out, since it can't be read: line {}.", listed(&damaged)));
        }
        if count == 0 {
            self.note("No training step is recorded: metrics.jsonl is empty.".into());
        }
        self.note_unfinished();
    }

    /// The index of a stage; one that the plan does not have is added.
    fn place(&mut self, name: &str) -> usize {
        self.stages.iter().position(|s| s.name == name).unwrap_or_else(|| {
            self.stages.push(StageRecords { name: name.into(), ..StageRecords::default() });
            self.stages.len() - 1
        })
    }

    fn note_unfinished(&mut self) {
        let mut notes = Vec::new();
        for stage in &self.stages {
            let done = stage.steps.len() as u64;
            if let Some(planned) = stage.planned.filter(|&p| done < p) {
                notes.push(format!(
                    "The run is not finished: stage {} has {done} of {planned} steps.",
                    stage.name
                ));
            }
            let broken: Vec<_> =
                stage.steps.iter().filter(|s| s.loss.is_none()).map(|s| s.step.to_string()).collect();
            if !broken.is_empty() {
                notes.push(format!(
                    "Stage {}: the loss is not a number at step {}.",
                    stage.name,
                    listed(&broken)
                ));
            }
        }
        self.notes.append(&mut notes);
    }

    fn note(&mut self, note: String) {
        self.notes.push(note);
    }
}

impl StageRecords {
    /// The steps' values of one kind, as points over the step; `NaN` where there is none.
    pub fn points(&self, value: impl Fn(&StepRecord) -> Option<f64>) -> Vec<(f64, f64)> {
        self.steps.iter().map(|s| (s.step as f64, value(s).unwrap_or(f64::NAN))).collect()
    }

    /// The names of what its objective reports.
    pub fn figures(&self) -> BTreeSet<&str> {
        self.steps.iter().flat_map(|s| s.figures.keys()).map(String::as_str).collect()
    }

    /// Sum over the steps that have the value.
    pub fn sum(&self, value: impl Fn(&StepRecord) -> Option<f64>) -> f64 {
        self.steps.iter().filter_map(value).sum()
    }
}

impl StepRecord {
    /// Pictures a second.
    pub fn pictures_per_second(&self) -> Option<f64> {
        Some(self.images? / self.seconds.filter(|s| *s > 0.0)?)
    }

    /// Positions a second.
    pub fn throughput(&self) -> Option<f64> {
        let divided = || Some(self.tokens? / self.seconds.filter(|s| *s > 0.0)?);
        self.tokens_per_second.or_else(divided)
    }
}

fn find<'a>(table: &'a Table, key: &str) -> Option<&'a toml::Value> {
    table.get(key).or_else(|| table.values().filter_map(toml::Value::as_table).find_map(|t| find(t, key)))
}

/// A list of a JSON file; an entry of another form is left out with a note. `None` where there is no file.
fn read_list<T: DeserializeOwned>(folder: &Path, name: &str, notes: &mut Vec<String>) -> Option<Vec<T>> {
    let bytes = std::fs::read(folder.join(name)).ok()?;
    let entries: Vec<Value> = serde_json::from_slice(&bytes).unwrap_or_else(|e| {
        notes.push(format!("{name} is damaged: {}", one_line(&e)));
        Vec::new()
    });
    let (mut list, mut wrong) = (Vec::new(), Vec::new());
    for (i, entry) in entries.into_iter().enumerate() {
        match serde_json::from_value(entry) {
            Ok(item) => list.push(item),
            Err(e) => wrong.push(format!("{} ({})", i + 1, one_line(&e))),
        }
    }
    if !wrong.is_empty() {
        notes.push(format!("{name}: left out are the entries {}.", listed(&wrong)));
    }
    Some(list)
}

/// The first few, and how many more.
fn listed(items: &[String]) -> String {
    const SHOWN: usize = 5;
    let first = items[..items.len().min(SHOWN)].join(", ");
    if items.len() > SHOWN { format!("{first} and {} more", items.len() - SHOWN) } else { first }
}

fn one_line(error: &impl Display) -> String {
    error.to_string().lines().map(str::trim).filter(|l| !l.is_empty()).collect::<Vec<_>>().join(" ")
}
