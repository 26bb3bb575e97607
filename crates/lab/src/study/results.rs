//! [`StudyResults`]: all that a study's page is made of, in one file that needs no run folder.

use std::collections::BTreeMap;
use std::fs;
use std::path::{Path, PathBuf};

use anyhow::{Context as _, Result, ensure};
use serde::{Deserialize, Serialize};

use super::answers::RunAnswers;
use super::record::{RunState, StudyRecord, StudyRun};
use super::scores::ScoredRun;
use crate::ablation::{AblationRun, AblationTable};
use crate::record::ScoreRecord;
use crate::run::RunRecords;

/// The file's name in the folder of a study.
pub const FILE: &str = "results.json";

/// Scores of single examples are kept to this: 0.0001 of a point.
const ROUNDED: f64 = 1e4;

/// What the runs of a study that are done have scored.
#[derive(Clone, Debug, PartialEq, Serialize, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct StudyResults {
    /// Axes, runs, and the paper's table.
    pub study: StudyRecord,
    /// Lists of examples that were answered, by their ids. Most tasks have one, whatever the run.
    pub examples: Vec<Vec<String>>,
    /// The runs that are done, in the study's order.
    pub runs: Vec<RunResults>,
}

/// What one run has scored.
#[derive(Clone, Debug, PartialEq, Serialize, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct RunResults {
    /// Its value on each axis.
    pub names: Vec<String>,
    /// Its run folder, from the study's folder.
    pub folder: PathBuf,
    /// The machines that worked on it, without repeats.
    pub machines: Vec<String>,
    /// Wall time of all its training steps in seconds, those of shared stages among them.
    pub training_seconds: f64,
    /// Its `eval.json`.
    pub scores: Vec<ScoreRecord>,
    /// Its answers.
    pub evaluations: Vec<EvaluationResults>,
    /// What could not be read, a sentence each.
    #[serde(default, skip_serializing_if = "Vec::is_empty")]
    pub notes: Vec<String>,
}

/// The answers of one evaluation with one number of demonstrations.
#[derive(Clone, Debug, PartialEq, Serialize, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct EvaluationResults {
    /// The stage that evaluates.
    pub stage: String,
    /// Demonstrations.
    pub shots: u64,
    /// The seed of the run's training.
    pub seed: u64,
    /// The tasks whose score is the mean over their examples.
    pub tasks: BTreeMap<String, TaskResults>,
    /// Tasks whose score is another; see [`RunAnswers`].
    #[serde(default, skip_serializing_if = "Vec::is_empty")]
    pub left_out: Vec<String>,
}

/// The scores of a task's examples.
#[derive(Clone, Debug, PartialEq, Serialize, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct TaskResults {
    /// Which list of [`StudyResults::examples`].
    pub examples: usize,
    /// The score of each of them, rounded to 0.0001.
    pub scores: Vec<f64>,
}

impl StudyResults {
    /// Reads what `path` has: the folder of a study, or a file with [`Self::text`].
    ///
    /// # Errors
    /// Neither of both, or a damaged file.
    pub fn read(path: &Path) -> Result<Self> {
        if path.is_dir() {
            return Ok(Self::collect(StudyRecord::read(path)?, path));
        }
        let bytes = fs::read(path).with_context(|| path.display().to_string())?;
        let results: Self = serde_json::from_slice(&bytes).with_context(|| {
            let path = path.display();
            format!("{path}: not the {FILE} of `mm1 ablate`, nor the law.json of `mm1 law`")
        })?;
        let check = || {
            results.study.check()?;
            results.runs.iter().try_for_each(|run| results.study.check_names(&run.names))
        };
        check().with_context(|| format!("{}: damaged; take a whole file", path.display()))?;
        for task in results.runs.iter().flat_map(|run| &run.evaluations).flat_map(|of| of.tasks.values()) {
            let examples = results.examples.get(task.examples).map(Vec::len);
            ensure!(
                examples == Some(task.scores.len()),
                "{}: {} scores for list {} of examples, which has {}; take a whole file",
                path.display(),
                task.scores.len(),
                task.examples,
                examples.map_or("no entry".to_owned(), |n| n.to_string())
            );
        }
        Ok(results)
    }

    /// What the run folders of `study` hold, which lie beside its `folder`. What can't be read is a note.
    pub fn collect(study: StudyRecord, folder: &Path) -> Self {
        let mut found = Self { study, examples: Vec::new(), runs: Vec::new() };
        let done = |run: &&StudyRun| run.state == RunState::Done;
        for run in found.study.runs.clone().iter().filter(done) {
            let of_run = found.run(run, folder);
            found.runs.push(of_run);
        }
        found
    }

    fn run(&mut self, run: &StudyRun, folder: &Path) -> RunResults {
        let mut found = RunResults {
            names: run.names.clone(),
            folder: run.folder.clone(),
            machines: Vec::new(),
            training_seconds: 0.0,
            scores: Vec::new(),
            evaluations: Vec::new(),
            notes: Vec::new(),
        };
        let folder = folder.join(&run.folder);
        let records = match RunRecords::read(&folder) {
            Ok(records) => records,
            Err(e) => {
                found.notes.push(format!("{e:#}"));
                return found;
            }
        };
        for process in &records.processes {
            if !found.machines.contains(&process.machine) {
                found.machines.push(process.machine.clone());
            }
        }
        let steps = records.stages.iter().flat_map(|stage| &stage.steps);
        found.training_seconds = steps.filter_map(|step| step.seconds).sum();
        found.scores.clone_from(&records.scores);
        let mut asked: Vec<(&str, u64)> = Vec::new();
        for score in records.scores.iter().filter(|score| !score.is_of_encoder() && !score.lower_is_better())
        {
            if !asked.contains(&(&score.stage, score.shots)) {
                asked.push((&score.stage, score.shots));
            }
        }
        for (stage, shots) in asked {
            match RunAnswers::of(&records, &folder, stage, shots) {
                Ok(answers) => {
                    let of_evaluation = self.evaluation(answers, stage, shots);
                    found.evaluations.push(of_evaluation);
                }
                Err(e) => found.notes.push(format!("{e:#}")),
            }
        }
        found
    }

    fn evaluation(&mut self, answers: RunAnswers, stage: &str, shots: u64) -> EvaluationResults {
        let RunAnswers { scored, left_out } = answers;
        let mut tasks = BTreeMap::new();
        for (task, scores) in scored.tasks {
            let (ids, scores): (Vec<String>, Vec<f64>) = scores.into_iter().unzip();
            let place = self.examples.iter().position(|of| *of == ids).unwrap_or_else(|| {
                self.examples.push(ids);
                self.examples.len() - 1
            });
            let scores = scores.into_iter().map(|score| (score * ROUNDED).round() / ROUNDED).collect();
            tasks.insert(task, TaskResults { examples: place, scores });
        }
        EvaluationResults { stage: stage.to_owned(), shots, seed: scored.seed, tasks, left_out }
    }

    /// The scores of an evaluation's examples, as the statistics take them.
    pub fn scored(&self, evaluation: &EvaluationResults) -> ScoredRun {
        let by_id = |task: &TaskResults| {
            self.examples[task.examples].iter().cloned().zip(task.scores.iter().copied()).collect()
        };
        let tasks = evaluation.tasks.iter().map(|(name, task)| (name.clone(), by_id(task))).collect();
        ScoredRun { seed: evaluation.seed, tasks }
    }

    /// A row for each run, a column for each score.
    pub fn table(&self) -> AblationTable {
        let row = |run: &RunResults| AblationRun {
            names: run.names.clone(),
            folder: run.folder.clone(),
            scores: run.scores.clone(),
        };
        let axes = self.study.axes.iter().map(|axis| axis.name.clone()).collect();
        let rows: Vec<AblationRun> = self.runs.iter().map(row).collect();
        AblationTable::new(axes, &rows, self.study.paper.clone())
    }

    /// As a file: a line for each list of examples and each run.
    ///
    /// # Errors
    /// Never of what was read; numbers that JSON can't write are not among scores.
    pub fn text(&self) -> Result<String> {
        let line = |value: serde_json::Result<String>| value.context("writing results");
        let examples = self.examples.iter().map(|ids| line(serde_json::to_string(ids)));
        let runs = self.runs.iter().map(|run| line(serde_json::to_string(run)));
        Ok(format!(
            "{{\n\"study\": {},\n\"examples\": [\n{}\n],\n\"runs\": [\n{}\n]\n}}\n",
            line(serde_json::to_string(&self.study))?,
            examples.collect::<Result<Vec<_>>>()?.join(",\n"),
            runs.collect::<Result<Vec<_>>>()?.join(",\n")
        ))
    }
}
