//! [`RunRecords`]: what a run folder holds, read with forbearance. A part that is missing or damaged becomes
//! a note, since the report of a killed run is worth most.

use std::collections::{BTreeMap, BTreeSet};
use std::fmt::Display;
use std::path::Path;

use anyhow::{Result, ensure};
use serde::de::DeserializeOwned;
use serde_json::Value;
use toml::Table;

use crate::balance::{self, RanksRecord};
use crate::process::{self, ProcessRecord};
use crate::recaptioned::{self, CaptionRecord};
use crate::record::{AnswerRecord, ScoreRecord, SkippedRecord, StepRecord};

/// The kinds of stages that have steps.
const TRAINS: [&str; 3] = ["encoder", "pretrain", "sft"];

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
    /// `processes.json`: the programs that worked on the run, in order.
    pub processes: Vec<ProcessRecord>,
    /// `ranks.json`: how several ranks spent their time, by stage.
    pub ranks: Vec<RanksRecord>,
    /// What stages have written anew of captions.
    pub captions: Vec<CaptionRecord>,
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
    /// What it minimises: `language`, `clip`, `dino`, …; `None` where the plan does not say.
    pub objective: Option<String>,
    /// One for each step, in order.
    pub steps: Vec<StepRecord>,
}

impl RunRecords {
    /// Reads the folder.
    ///
    /// # Errors
    /// `folder` is not a folder. Everything else becomes a note.
    pub fn read(folder: &Path) -> Result<Self> {
        ensure!(folder.is_dir(), "{}: not a run folder; give the --out of `mm1 run`", folder.display());
        let mut run = Self::default();
        let scores = read_list(folder, "eval.json", &mut run.notes);
        // What `mm1 eval` leaves has no plan and no training, and lacks nothing.
        let evaluated_alone = scores.is_some() && !folder.join("plan.toml").exists();
        run.read_plan(folder, evaluated_alone);
        run.read_metrics(folder, evaluated_alone);
        run.captions = recaptioned::read(folder, &mut run.notes);
        run.processes = read_list(folder, "processes.json", &mut run.notes).unwrap_or_default();
        run.ranks = read_list(folder, balance::FILE, &mut run.notes).unwrap_or_default();
        if scores.is_none() && run.plans(&["eval", "probe"]) {
            run.note("There are no scores yet: eval.json is missing.".into());
        }
        let samples = read_list(folder, "samples.json", &mut run.notes);
        if samples.is_none() && run.plans(&["eval"]) {
            run.note("There are no test pictures yet: samples.json is missing.".into());
        }
        if let Some(failure) = process::failure(&run.processes) {
            run.note(failure);
        }
        (run.scores, run.samples) = (scores.unwrap_or_default(), samples.unwrap_or_default());
        Ok(run)
    }

    /// Samples that could not be used, in order.
    pub fn skipped(&self) -> impl Iterator<Item = &SkippedRecord> {
        self.stages.iter().flat_map(|stage| &stage.steps).flat_map(|step| &step.skipped)
    }

    /// Whether a stage has fewer steps than planned.
    pub(crate) fn is_unfinished(&self) -> bool {
        self.stages.iter().any(|s| s.planned.is_some_and(|planned| (s.steps.len() as u64) < planned))
    }

    /// Whether there ought to be a training stage: the plan has one, or nothing is known of the run at all.
    pub(crate) fn lacks_training(&self) -> bool {
        self.stages.is_empty() && self.scores.is_empty() && self.plans(&TRAINS)
    }

    /// The first value named `key` in the plan's tables (lists are not entered), the outermost first.
    pub fn planned(&self, key: &str) -> Option<&toml::Value> {
        find(&self.plan, key)
    }

    /// The last step of the training stage before the stage `name`, or of that stage itself; 0 where there is
    /// none.
    pub fn trained_before(&self, name: &str) -> u64 {
        let stages = self.planned("stage").and_then(|s| s.as_array()).into_iter().flatten();
        let names: Vec<&str> = stages.filter_map(|stage| stage.get("name")?.as_str()).collect();
        // A stage that the plan does not have is its own.
        let until = names.iter().position(|of| *of == name).map_or(vec![name], |at| names[..=at].to_vec());
        let last = |name: &&str| self.stages.iter().find(|stage| stage.name == *name)?.steps.last();
        until.iter().rev().find_map(last).map_or(0, |step| step.step)
    }

    /// Whether a stage is of one of these kinds; true where there is no plan.
    fn plans(&self, kinds: &[&str]) -> bool {
        let stages = self.planned("stage").and_then(|s| s.as_array());
        let kind = |stage: &toml::Value| stage.get("kind").and_then(|kind| kind.as_str().map(str::to_owned));
        stages.is_none_or(|stages| stages.iter().filter_map(kind).any(|kind| kinds.contains(&kind.as_str())))
    }

    fn read_plan(&mut self, folder: &Path, may_lack: bool) {
        match std::fs::read_to_string(folder.join("plan.toml")) {
            Ok(text) => {
                match text.parse() {
                    Ok(plan) => self.plan = plan,
                    Err(e) => self.note(format!("plan.toml is damaged: {}", one_line(&e))),
                }
                self.plan_text = Some(text);
            }
            Err(_) if may_lack => {}
            Err(e) => self.note(format!("The plan can't be shown: plan.toml {}.", unread(&e))),
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

    fn read_metrics(&mut self, folder: &Path, may_lack: bool) {
        // A recipe that only measures has no steps, and none is missed.
        let may_lack = may_lack || !self.plans(&TRAINS);
        let text = match std::fs::read(folder.join("metrics.jsonl")) {
            Ok(bytes) => String::from_utf8_lossy(&bytes).into_owned(),
            Err(_) if may_lack => return,
            Err(e) => {
                return self.note(format!("No training step is recorded: metrics.jsonl {}.", unread(&e)));
            }
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
        if count == 0 && !may_lack {
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
        // From 0: the sum of nothing is -0 in IEEE arithmetic, and would be shown so.
        self.steps.iter().filter_map(value).fold(0.0, |sum, value| sum + value)
    }

    /// Whether it trains a language model, whose loss is a mean over tokens.
    pub(crate) fn is_language(&self) -> bool {
        self.objective.as_deref().is_none_or(|objective| objective == "language")
    }

    /// The unit of its loss.
    pub(crate) fn loss_unit(&self) -> &'static str {
        match self.objective.as_deref() {
            _ if self.is_language() => "nats a token",
            Some("superclass") => "nats a caption",
            Some("aim") => "squared error a value",
            Some(_) | None => "nats a picture",
        }
    }
}

/// The first value named `key` in a table and its tables (lists are not entered), the outermost first.
pub(crate) fn find<'a>(table: &'a Table, key: &str) -> Option<&'a toml::Value> {
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

/// Why a file of the run has no content here.
fn unread(error: &std::io::Error) -> &'static str {
    match error.kind() {
        std::io::ErrorKind::NotFound => "is not there",
        _ => "can't be read",
    }
}

fn one_line(error: &impl Display) -> String {
    error.to_string().lines().map(str::trim).filter(|l| !l.is_empty()).collect::<Vec<_>>().join(" ")
}
