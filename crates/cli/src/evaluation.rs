//! [`Evaluation`]: tasks × shots of one model, each beside its baselines, kept as JSON lines so that it can go on.

use std::cell::RefCell;
use std::fs;
use std::sync::Arc;

use anyhow::Result;
use mm1_data::source::{Source, Split};
use mm1_eval::baseline;
use mm1_eval::contamination::{Contamination, Seen};
use mm1_eval::log::Log;
use mm1_eval::model::Model;
use mm1_eval::record::{self, Record, Sample};
use mm1_eval::run::{Options, Outcome, evaluate};
use mm1_eval::shots::Style;
use mm1_eval::task::Task;
use mm1_eval::tasks::TEXT_CORE;
use serde_json::json;

use crate::error::input;
use crate::progress::Progress;
use crate::recipe::EvalStage;
use crate::run_folder::RunFolder;

/// Rows of each evaluation whose pictures go into the report.
const SHOWN: usize = 24;

/// What is asked of which model.
pub(crate) struct Evaluation<'a> {
    /// Tasks, shots, and how demonstrations are chosen; its name is that in `eval.json`.
    pub(crate) stage: &'a EvalStage,
    pub(crate) style: Style,
    pub(crate) seed: u64,
    /// The same for the same model: answers of another one are never taken for its own.
    pub(crate) model_id: &'a str,
    pub(crate) folder: &'a RunFolder,
    /// What the model was trained on, as far as it is known.
    pub(crate) training: &'a [Arc<dyn Source>],
}

/// The scores so far.
pub(crate) fn records(folder: &RunFolder) -> Result<Vec<Record>> {
    Ok(folder.read_json("eval.json")?.unwrap_or_default())
}

/// Puts the scores of `stage` in the place of those it had; what other stages have left stays.
pub(crate) fn replace_records(folder: &RunFolder, stage: &str, records: Vec<Record>) -> Result<()> {
    let mut all = self::records(folder)?;
    all.retain(|r| r.stage != stage);
    all.extend(records);
    folder.write("eval.json", &serde_json::to_vec_pretty(&all)?)
}

impl Evaluation<'_> {
    /// Asks `model` all tasks and writes `eval.json` and `samples.json`. Answers that are there from before are kept.
    ///
    /// # Errors
    /// A task that can't be asked, an interrupt, or a failure of the model.
    pub(crate) fn run(&self, tasks: &[Box<dyn Task>], model: &mut dyn Model) -> Result<()> {
        let (mut records, mut samples) = (Vec::new(), Vec::new());
        let seen = self.seen();
        for task in tasks {
            let contamination =
                seen.as_ref().map(|seen| seen.check(task.as_ref(), self.stage.questions as u64));
            if let Some(found) = &contamination {
                self.tell(task.name(), found);
            }
            for &shots in &self.stage.shots {
                let seeing = self.answer(task.as_ref(), shots, false, model)?;
                let blind = self.stage.blind && task.has_pictures();
                let blind = blind.then(|| self.answer(task.as_ref(), shots, true, model)).transpose()?;
                let baselines = baseline::baselines(task.as_ref(), &seeing.rows, self.seed)?;
                let stage = &self.stage.name;
                for skipped in seeing.skipped.iter().chain(&baselines.skipped) {
                    eprintln!("{stage:>14} skipped {}: {}", skipped.id, skipped.reason);
                }
                eprintln!("{stage:>14} {}", shown(&seeing, blind.as_ref()));
                let mut of_task = record::records(stage, &seeing, &baselines, blind.as_ref());
                of_task[0].contamination = contamination.clone();
                records.extend(of_task);
                samples.extend(record::samples(stage, &seeing, SHOWN));
            }
        }
        for &shots in &self.stage.shots {
            if let Some(mean) = text_core(&records, shots) {
                eprintln!("{:>14} TextCore {shots}-shot {mean:.1}", self.stage.name);
            }
        }
        self.write(records, samples)
    }

    /// The first documents of what the model was trained on.
    fn seen(&self) -> Option<Seen> {
        let most = self.stage.contamination;
        if most == 0 || self.training.is_empty() {
            return None;
        }
        let mut seen = Seen::default();
        for source in self.training {
            let there = source.len(Split::Train).unwrap_or(u64::MAX).min(most);
            // What is damaged was not trained on.
            (0..there).filter_map(|i| source.document(Split::Train, i).ok()).for_each(|d| seen.add(&d));
        }
        Some(seen)
    }

    fn tell(&self, task: &str, found: &Contamination) {
        let Contamination { documents, items, same_pictures, near_pictures, texts, .. } = found;
        if same_pictures + near_pictures + texts > 0 {
            eprintln!(
                "{:>14} {task}: of {items} items, {same_pictures} show a picture of the first {documents} training documents, \
                 {near_pictures} one like it, {texts} share 13 words in a row",
                self.stage.name
            );
        }
    }

    /// Adds to what other stages have left. The scores last: they say that the stage is done.
    fn write(&self, records: Vec<Record>, samples: Vec<Sample>) -> Result<()> {
        let mut all_samples: Vec<Sample> = self.folder.read_json("samples.json")?.unwrap_or_default();
        all_samples.retain(|s| s.stage != self.stage.name);
        all_samples.extend(samples);
        self.folder.write("samples.json", &serde_json::to_vec(&all_samples)?)?;
        replace_records(self.folder, &self.stage.name, records)
    }

    fn answer(&self, task: &dyn Task, shots: usize, blind: bool, model: &mut dyn Model) -> Result<Outcome> {
        let Self { stage, style, seed, .. } = *self;
        let title = format!("{} {shots}-shot{}", task.name(), if blind { ", blind" } else { "" });
        let progress = RefCell::new(Progress::new(&stage.name, 0, task.tests().min(stage.questions as u64)));
        let options = Options {
            shots,
            style,
            demonstrations: stage.demonstrations,
            pool: stage.pool,
            reasoned: stage.chain_of_thought,
            demonstration_size: stage.demonstration_size,
            sharp: stage.sharp_demonstrations,
            n: stage.questions as u64,
            batch: stage.batch,
            seed,
            blind,
            keep_pictures: if blind { 0 } else { SHOWN },
            progress: &|done, _| progress.borrow_mut().update(done, &title),
        };
        let mut log = self.log(task, &options)?;
        let outcome = evaluate(task, model, &mut log, &options)?;
        log.finish(&outcome.rows)?;
        Ok(outcome)
    }

    /// `eval/STAGE/TASK-K-shot.jsonl`.
    fn log(&self, task: &dyn Task, options: &Options) -> Result<Log> {
        let folder = self.folder.root().join("eval").join(&self.stage.name);
        fs::create_dir_all(&folder)?;
        let plain = |c: char| if c.is_alphanumeric() || c == '-' || c == '_' { c } else { '.' };
        let name: String = task.name().chars().map(plain).collect();
        let blind = if options.blind { "-blind" } else { "" };
        let about = json!({
            "model": self.model_id,
            "task": task.name(),
            "shots": options.shots,
            "blind": options.blind,
            "style": options.style,
            "seed": options.seed,
            "demonstrations": options.demonstrations,
            "pool": options.pool,
            "chain_of_thought": options.reasoned,
            "demonstration_size": options.demonstration_size,
            "sharp_demonstrations": options.sharp,
        });
        input(Log::open(&folder.join(format!("{name}-{}-shot{blind}.jsonl", options.shots)), &about))
    }
}

/// The paper's TextCore: the mean over its nine sets, where all were asked.
fn text_core(records: &[Record], shots: usize) -> Option<f64> {
    let score =
        |task: &&str| records.iter().find(|r| r.task == **task && r.shots == shots).map(|r| r.score.value);
    let scores: Vec<f64> = TEXT_CORE.iter().map(score).collect::<Option<_>>()?;
    Some(scores.iter().sum::<f64>() / scores.len() as f64)
}

fn shown(seeing: &Outcome, blind: Option<&Outcome>) -> String {
    let [low, high] = seeing.score.ci95;
    let blind = blind.map_or(String::new(), |b| format!(", blind {:.1}", b.score.value));
    format!("{} {}-shot {:.1} [{low:.1}, {high:.1}]{blind}", seeing.task, seeing.shots, seeing.score.value)
}
