//! [`Evaluation`]: tasks × shots of one model, each beside its baselines, kept as JSON lines so that it can
//! go on.

use std::cell::RefCell;
use std::fs;
use std::path::Path;
use std::sync::Arc;

use anyhow::Result;
use mm1_data::source::{Source, Split};
use mm1_eval::baseline;
use mm1_eval::contamination::{Contamination, TrainingHashes};
use mm1_eval::counted::counted;
use mm1_eval::log::Log;
use mm1_eval::model::{Model, PromptReader};
use mm1_eval::no_answer::NoAnswerCounts;
use mm1_eval::prompt::Style;
use mm1_eval::result::{self, AnsweredSample, TaskScore};
use mm1_eval::run::{EvalPass, Outcome, evaluate};
use mm1_eval::task::Task;
use mm1_eval::tasks::TEXT_CORE;
use mm1_lab::tensorboard::EventFile;

use crate::error::input;
use crate::output::tell;
use crate::progress::Progress;
use crate::recipe::{EvalStage, Stage};
use crate::run_folder::{self, RunFolder};

/// Items of each evaluation whose pictures go into the report.
const REPORTED_ITEMS: usize = 24;

/// What is asked of which model.
pub(crate) struct Evaluation<'a> {
    /// Tasks, shots, and how demonstrations are chosen; its name is that in `eval.json`.
    pub(crate) stage: &'a EvalStage,
    /// In which style the model was trained.
    pub(crate) trained_style: Style,
    pub(crate) seed: u64,
    /// The same for the same model: answers of another one are never taken for its own.
    pub(crate) model_id: &'a str,
    pub(crate) folder: &'a RunFolder,
    /// What the model was trained on, as far as it is known.
    pub(crate) training: &'a [Arc<dyn Source>],
}

/// The scores so far of the run folder `root`.
pub(crate) fn scores(root: &Path) -> Result<Vec<TaskScore>> {
    Ok(run_folder::read_json(&root.join("eval.json"))?.unwrap_or_default())
}

/// Puts the scores of `stage` in the place of those it had; what other stages have left stays.
pub(crate) fn replace_scores(folder: &RunFolder, stage: &str, scores: Vec<TaskScore>) -> Result<()> {
    let mut all = self::scores(folder.root())?;
    all.retain(|score| score.stage != stage);
    all.extend(scores);
    folder.write("eval.json", &serde_json::to_vec_pretty(&all)?)?;
    EventFile::begin(folder.root()).map(drop)
}

/// Takes out the samples that `stage` has left.
pub(crate) fn remove_samples(folder: &RunFolder, stage: &str) -> Result<()> {
    let Some(mut all) = folder.read_json::<Vec<AnsweredSample>>("samples.json")? else { return Ok(()) };
    all.retain(|sample| sample.stage != stage);
    folder.write("samples.json", &serde_json::to_vec(&all)?)
}

/// How a model is asked that `last` has trained: a tuned one in turns of a conversation, one that was only
/// pre-trained in running text.
pub(crate) fn style_after(last: Option<&Stage>) -> Style {
    if matches!(last, Some(Stage::Sft(_))) { Style::Chat } else { Style::Pretrained }
}

/// Finds what an evaluation can't ask, before it asks anything.
///
/// # Errors
/// [`mm1_eval::refusal::Refusal`], as [`mm1_eval::rehearsal::rehearse`].
pub(crate) fn rehearse<R: PromptReader>(
    stage: &EvalStage,
    trained_style: Style,
    seed: u64,
    tasks: &[Box<dyn Task>],
    reader: &R,
) -> Result<()> {
    let protocol = &stage.protocol;
    let pass = EvalPass {
        protocol,
        style: protocol.style.style(trained_style),
        // Where the most fit, fewer do.
        shots: protocol.shots.iter().copied().max().unwrap_or_default(),
        blind: false,
        seed,
        kept_pictures: 0,
        progress: &|_, _| {},
    };
    tasks.iter().try_for_each(|task| mm1_eval::rehearsal::rehearse(task.as_ref(), reader, &pass))
}

impl Evaluation<'_> {
    /// Asks `model` all tasks and writes `eval.json` and `samples.json`, where the folder is its own. Answers
    /// that are there from before are kept.
    ///
    /// # Errors
    /// A task that can't be asked, an interrupt, or a failure of the model.
    pub(crate) fn run<M: Model>(&self, tasks: &[Box<dyn Task>], model: &mut M) -> Result<()> {
        let (protocol, stage) = (&self.stage.protocol, &self.stage.name);
        rehearse(self.stage, self.trained_style, self.seed, tasks, model)?;
        let (mut scores, mut samples) = (Vec::new(), Vec::new());
        let training = self.training_hashes();
        for task in tasks {
            let task = task.as_ref();
            let contamination = training.as_ref().map(|seen| seen.check(task, protocol.questions as u64));
            if let Some(found) = &contamination {
                self.report_contamination(task.name(), found);
            }
            for &shots in &protocol.shots {
                let seeing = self.answer(task, shots, false, model)?;
                let blind = protocol.blind && task.has_pictures();
                let blind = blind.then(|| self.answer(task, shots, true, model)).transpose()?;
                let baselines = baseline::baselines(task, &seeing.items, self.seed)?;
                for skipped in seeing.skipped.iter().chain(&baselines.skipped) {
                    tell(format_args!("{stage:>14} skipped {}: {}", skipped.id, skipped.reason));
                }
                tell(format_args!("{stage:>14} {}", summary(&seeing, blind.as_ref())));
                for outcome in [&seeing].into_iter().chain(&blind) {
                    self.report_no_answers(outcome);
                }
                let mut of_task = result::task_scores(stage, &seeing, &baselines, blind.as_ref());
                of_task[0].contamination = contamination.clone();
                scores.extend(of_task);
                samples.extend(result::samples(stage, &seeing, REPORTED_ITEMS));
            }
        }
        for &shots in &protocol.shots {
            if let Some(mean) = text_core(&scores, shots) {
                tell(format_args!("{stage:>14} TextCore {shots}-shot {mean:.1}%"));
            }
        }
        self.write(scores, samples)
    }

    /// The first documents of what the model was trained on.
    fn training_hashes(&self) -> Option<TrainingHashes> {
        let most = self.stage.protocol.contamination;
        if most == 0 || self.training.is_empty() {
            return None;
        }
        let mut seen = TrainingHashes::default();
        for source in self.training {
            let there = source.len(Split::Train).unwrap_or(u64::MAX).min(most);
            // What is damaged was not trained on.
            (0..there).filter_map(|i| source.document(Split::Train, i).ok()).for_each(|d| seen.add(&d));
        }
        Some(seen)
    }

    fn report_contamination(&self, task: &str, found: &Contamination) {
        let Contamination { documents, items, same_pictures, near_pictures, texts, .. } = found;
        if same_pictures + near_pictures + texts > 0 {
            tell(format_args!(
                "{:>14} {task}: of {}, {same_pictures} show a picture of the first {}, {near_pictures} one \
                 like it, {texts} share 13 words in a row",
                self.stage.name,
                counted(*items, "item"),
                counted(*documents, "training document"),
            ));
        }
    }

    /// Items without an answer: how many, and why.
    fn report_no_answers(&self, outcome: &Outcome) {
        let NoAnswerCounts { empty, failed, reasons } = &outcome.no_answers;
        if outcome.no_answers.is_none() {
            return;
        }
        let (stage, of) = (&self.stage.name, counted(outcome.items.len() as u64, "question"));
        let again = if *failed > 0 { "; the same command asks what failed again" } else { "" };
        tell(format_args!(
            "{stage:>14} of {of}, {empty} got an empty answer and {failed} failed: they count as empty \
             answers{again}"
        ));
        for (reason, count) in reasons {
            tell(format_args!("{:>14} {count} x {reason}", ""));
        }
    }

    /// Adds to what other stages have left. The scores last: they say that the stage is done.
    fn write(&self, scores: Vec<TaskScore>, samples: Vec<AnsweredSample>) -> Result<()> {
        if !self.folder.is_own() {
            return Ok(());
        }
        let mut all_samples: Vec<AnsweredSample> = self.folder.read_json("samples.json")?.unwrap_or_default();
        all_samples.retain(|s| s.stage != self.stage.name);
        all_samples.extend(samples);
        self.folder.write("samples.json", &serde_json::to_vec(&all_samples)?)?;
        replace_scores(self.folder, &self.stage.name, scores)
    }

    fn answer<M: Model>(&self, task: &dyn Task, shots: usize, blind: bool, model: &mut M) -> Result<Outcome> {
        let protocol = &self.stage.protocol;
        let title = format!("{} {shots}-shot{}", task.name(), if blind { ", blind" } else { "" });
        let total = task.tests().min(protocol.questions as u64);
        let progress = RefCell::new(Progress::new(&self.stage.name, 0, total));
        let pass = EvalPass {
            protocol,
            style: protocol.style.style(self.trained_style),
            shots,
            blind,
            seed: self.seed,
            kept_pictures: if blind { 0 } else { REPORTED_ITEMS },
            progress: &|done, _| progress.borrow_mut().update(done, &title),
        };
        let mut log = self.log(task, &pass)?;
        let outcome = evaluate(task, model, &mut log, &pass)?;
        log.finish(&outcome.items)?;
        Ok(outcome)
    }

    /// `eval/STAGE/TASK-K-shot.jsonl`.
    fn log(&self, task: &dyn Task, pass: &EvalPass<'_>) -> Result<Log> {
        let folder = self.folder.root().join("eval").join(&self.stage.name);
        let plain = |c: char| if c.is_alphanumeric() || c == '-' || c == '_' { c } else { '.' };
        let name: String = task.name().chars().map(plain).collect();
        let blind = if pass.blind { "-blind" } else { "" };
        let path = folder.join(format!("{name}-{}-shot{blind}.jsonl", pass.shots));
        let header = pass.log_header(self.model_id, task.name());
        if !self.folder.is_own() {
            return input(Log::open_to_read(&path, &header));
        }
        fs::create_dir_all(&folder)?;
        input(Log::open(&path, &header))
    }
}

/// The paper's TextCore: the mean over its nine sets, where all were asked.
fn text_core(scores: &[TaskScore], shots: usize) -> Option<f64> {
    let score = |task: &&str| {
        scores
            .iter()
            .find(|score| score.task == **task && score.shots == shots)
            .map(|score| score.score.value)
    };
    let scores: Vec<f64> = TEXT_CORE.iter().map(score).collect::<Option<_>>()?;
    Some(scores.iter().sum::<f64>() / scores.len() as f64)
}

/// A score with its metric and unit, as a line of a terminal.
fn summary(seeing: &Outcome, blind: Option<&Outcome>) -> String {
    let Outcome { task, shots, metric, score, .. } = seeing;
    let ([low, high], value) = (score.ci95, score.value);
    let (name, unit) = (metric.name(), metric.unit());
    let blind = blind.map_or(String::new(), |b| format!(", blind {:.1}{unit}", b.score.value));
    let n = counted(score.n as u64, "question");
    format!("{task} {shots}-shot: {name} {value:.1}{unit} [{low:.1}, {high:.1}]{blind}, {n}")
}
