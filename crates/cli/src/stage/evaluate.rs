//! Scores after the stages before: each task with each number of shots, beside its baselines.

use std::cell::RefCell;
use std::sync::Arc;

use anyhow::{Context as _, Result};
use burn::tensor::Device;
use mm1_data::source::Source;
use mm1_eval::baseline;
use mm1_eval::record::{self, Record, Sample};
use mm1_eval::run::{Options, Outcome, evaluate};
use mm1_eval::shots::{Prompt, Style};
use mm1_eval::task::Task;
#[cfg(feature = "emoji")]
use mm1_eval::tasks::scenes::SceneTask;
use mm1_eval::tasks::source::SourceTask;
use mm1_serve::generate::{GenerateOptions, Generator};
use mm1_serve::sampler::Sampling;

use crate::commands::run::Context;
use crate::error::{Interrupted, input};
use crate::progress::Progress;
use crate::recipe::{EvalStage, Stage};
use crate::run_folder::RunFolder;
use crate::stage::model;

/// Tasks that need no files.
pub(crate) const BUILT_IN: [&str; 5] =
    ["scene-captions", "scene-vqa", "scene-pairs", "scene-binding", "scene-ocr"];

/// A task about a source of the recipe.
pub(crate) enum SourceTaskName<'a> {
    /// `captions:SOURCE`.
    Captions(&'a str),
    /// `vqa:SOURCE`, or `vqa:SOURCE/OTHER` for demonstrations of another source.
    Questions(&'a str, &'a str),
}

impl<'a> SourceTaskName<'a> {
    /// `None` for the name of another task.
    pub(crate) fn read(task: &'a str) -> Option<Self> {
        if let Some(source) = task.strip_prefix("captions:") {
            return Some(Self::Captions(source));
        }
        let names = task.strip_prefix("vqa:")?;
        let (source, shown) = names.split_once('/').unwrap_or((names, names));
        Some(Self::Questions(source, shown))
    }

    /// The sources that it needs.
    pub(crate) fn sources(&self) -> [&'a str; 2] {
        match *self {
            Self::Captions(source) => [source, source],
            Self::Questions(source, shown) => [source, shown],
        }
    }
}

/// The longest caption of a source's picture.
const CAPTION_TOKENS: usize = 96;

/// The longest answer to a source's question.
const ANSWER_TOKENS: usize = 16;

/// Rows of each evaluation whose pictures go into the report.
const SHOWN: usize = 24;

/// The scores so far.
pub(crate) fn records(folder: &RunFolder) -> Result<Vec<Record>> {
    Ok(folder.read_json("eval.json")?.unwrap_or_default())
}

/// Evaluates the model; a stage whose scores are in `eval.json` is not done again.
pub(crate) fn run(context: &Context, stage: &EvalStage) -> Result<()> {
    let mut records = records(&context.folder)?;
    if records.iter().any(|r| r.stage == stage.name) {
        return Ok(());
    }
    let mut samples: Vec<Sample> = context.folder.read_json("samples.json")?.unwrap_or_default();
    samples.retain(|s| s.stage != stage.name); // left by a kill between the two files
    let model = model::before(&context.plan.recipe, context.folder.root(), &stage.name, &Device::flex())?;
    let generator = Generator::new(model, context.plan.tokenizer.clone(), context.plan.image.clone());
    let style = style(context, stage);
    let tasks = stage.tasks.iter().map(|t| task(context, t)).collect::<Result<Vec<_>>>()?;
    for task in &tasks {
        for &shots in &stage.shots {
            let ask = Ask { context, stage, task: task.as_ref(), shots, style };
            let seeing = ask.answer(&generator, false)?;
            let blind = if stage.blind { Some(ask.answer(&generator, true)?) } else { None };
            let baselines = baseline::baselines(task.as_ref(), &seeing.rows, context.plan.recipe.seed)?;
            for skipped in seeing.skipped.iter().chain(&baselines.skipped) {
                eprintln!("{:>14} skipped {}: {}", stage.name, skipped.id, skipped.reason);
            }
            eprintln!("{:>14} {}", stage.name, shown(&seeing, blind.as_ref()));
            records.extend(record::records(&stage.name, &seeing, &baselines, blind.as_ref()));
            samples.extend(record::samples(&stage.name, &seeing, SHOWN));
        }
    }
    // The scores last: they say that the stage is done.
    context.folder.write("samples.json", &serde_json::to_vec(&samples)?)?;
    context.folder.write("eval.json", &serde_json::to_vec_pretty(&records)?)
}

/// One task with one number of shots.
struct Ask<'a> {
    context: &'a Context,
    stage: &'a EvalStage,
    task: &'a dyn Task,
    shots: usize,
    style: Style,
}

impl Ask<'_> {
    fn answer(&self, generator: &Generator, blind: bool) -> Result<Outcome> {
        let Self { context, stage, task, shots, style } = *self;
        let sight = if blind { ", blind" } else { "" };
        let title = format!("{} {shots}-shot{sight}", task.name());
        let progress = RefCell::new(Progress::new(&stage.name, 0, task.tests().min(stage.questions as u64)));
        let options = Options {
            n: stage.questions as u64,
            batch: stage.batch,
            seed: context.plan.recipe.seed,
            blind,
            keep_pictures: if blind { 0 } else { SHOWN },
            context: generator.context(),
            tokens: &|segments| generator.tokens(segments),
            progress: &|done, _| progress.borrow_mut().update(done, &title),
        };
        let ask = GenerateOptions {
            max_tokens: task.max_tokens(),
            stop: task.stop().iter().map(|s| (*s).to_string()).collect(),
            sampling: Sampling::Greedy,
            batch: stage.batch,
        };
        let mut generate = |prompts: &[Prompt]| -> Result<Vec<String>> {
            if context.stop.load(std::sync::atomic::Ordering::Relaxed) {
                return Err(Interrupted.into());
            }
            let segments: Vec<_> = prompts.iter().map(|p| p.segments.clone()).collect();
            generator.generate(&segments, &ask, None)
        };
        evaluate(task, shots, style, &mut generate, &options)
    }
}

fn shown(seeing: &Outcome, blind: Option<&Outcome>) -> String {
    let [low, high] = seeing.score.ci95;
    let blind = blind.map_or(String::new(), |b| format!(", blind {:.1}", b.score.value));
    format!("{} {}-shot {:.1} [{low:.1}, {high:.1}]{blind}", seeing.task, seeing.shots, seeing.score.value)
}

/// A tuned model is asked in turns of a conversation, one that was only pre-trained in running text.
fn style(context: &Context, stage: &EvalStage) -> Style {
    let before = context.plan.recipe.stage.iter().take_while(|s| s.name() != stage.name);
    match before.filter(|s| matches!(s, Stage::Pretrain(_) | Stage::Sft(_))).last() {
        Some(Stage::Sft(_)) => Style::Chat,
        _ => Style::Pretrained,
    }
}

fn task(context: &Context, name: &str) -> Result<Box<dyn Task>> {
    input(named_task(context, name).with_context(|| format!("task {name}")))
}

fn named_task(context: &Context, name: &str) -> Result<Box<dyn Task>> {
    let source = |name: &str| -> Arc<dyn Source> { context.plan.sources[name].clone() };
    match SourceTaskName::read(name) {
        Some(SourceTaskName::Captions(of)) => {
            return Ok(Box::new(SourceTask::captions(name, source(of), CAPTION_TOKENS)));
        }
        Some(SourceTaskName::Questions(of, shown)) => {
            return Ok(Box::new(SourceTask::questions(name, source(of), source(shown), ANSWER_TOKENS)));
        }
        None => {}
    }
    #[cfg(feature = "emoji")]
    if let Some(world) = &context.plan.world {
        let task = match name {
            "scene-captions" => SceneTask::captions,
            "scene-pairs" => SceneTask::pairs,
            "scene-binding" => SceneTask::binding,
            "scene-ocr" => SceneTask::ocr,
            _ => SceneTask::vqa,
        };
        return Ok(Box::new(task(world.clone())));
    }
    anyhow::bail!("it needs the built-in pictures: build with the cargo feature \"emoji\"")
}
