//! The loop: next batch, step, log, save if due. Encoder training, pre-training and tuning are values of a recipe,
//! not loops of their own.

use std::path::Path;
use std::sync::atomic::Ordering;
use std::time::Instant;

use anyhow::{Context as _, Result};
use burn::module::Module;
use burn::tensor::Device;
use mm1_data::batch::Batch;
use mm1_data::loader::{Cursor, Loader, LoaderConfig, Skipped};
use mm1_data::pack::Packing;
use mm1_model::clip::Clip;
use mm1_model::weights::Group;
use mm1_train::{MicroBatch, OptimizerConfig, Part, Schedule, StepReport, Trainer, checkpoint};
use serde::Serialize;
use serde_json::json;
use xxhash_rust::xxh3::xxh3_64;

use crate::commands::run::Context;
use crate::error::{Interrupted, input};
use crate::plan::thousands;
use crate::progress::Progress;
use crate::recipe::{Objective, TrainStage};
use crate::stage::model;

/// Trains one stage from its last checkpoint, or else from where the stage before it ended.
///
/// # Errors
/// Wrong input, a loss that is not finite, a full disk, or an interrupt.
pub(crate) fn run(context: &Context, stage: &TrainStage) -> Result<()> {
    let device = Device::flex().autodiff();
    match stage.objective {
        Objective::Language => {
            let model = model::before(&context.plan.recipe, context.folder.root(), &stage.name, &device)?;
            train(context, stage, model)
        }
        Objective::Clip => {
            let model = model::before(&context.plan.recipe, context.folder.root(), &stage.name, &device)?;
            let lm = &context.plan.recipe.model.lm;
            train(context, stage, Clip::new(model.vision, lm, context.plan.recipe.seed)?)
        }
    }
}

fn train<M: Module>(context: &Context, stage: &TrainStage, model: M) -> Result<()>
where
    Batch: MicroBatch<M>,
{
    let folder = model::checkpoints(context.folder.root(), &stage.name);
    checkpoint::remove_leftovers(&folder)?;
    let mut trainer = Trainer::new(model, optimizer(stage))?;
    let mut cursor = Cursor::default();
    if let Some(last) = model::latest(&folder)? {
        let snapshot = last.load()?;
        cursor =
            serde_json::from_value(snapshot.state["cursor"].clone()).context("the checkpoint's cursor")?;
        trainer.restore(snapshot)?;
        eprintln!("{:>14} continues after step {} of {}", stage.name, trainer.steps_done(), stage.steps);
    }
    let schedule = Schedule {
        peak: context.plan.derived.lr[&stage.name],
        warmup_steps: stage.optimizer.warmup_steps,
        steps: stage.steps,
    };
    let mut metrics = context.folder.metrics_after(&stage.name, trainer.steps_done())?;
    let mut loader = Loader::start(loader_config(context, stage)?, cursor.clone())?;
    let mut told = 0;
    let mut progress = Progress::new(&stage.name, trainer.steps_done(), stage.steps);
    while trainer.steps_done() < stage.steps {
        let started = Instant::now();
        let batches;
        (batches, cursor) = input(next(&mut loader, stage.accumulate))?;
        let data_seconds = started.elapsed().as_secs_f64();
        let lr = schedule.lr(trainer.steps_done());
        let report = trainer.step(&batches, lr).with_context(|| last_good(&folder))?;
        let seconds = started.elapsed().as_secs_f64();
        let skipped = loader.skipped()[told..].to_vec();
        told += skipped.len();
        let (step, name) = (trainer.steps_done(), &stage.name);
        let line = Line { step, stage: name, lr, seconds, data_seconds, skipped, ..report.into() };
        metrics.push(&line)?;
        progress.update(line.step, &line.figures());
        let stop = context.stop.load(Ordering::Relaxed);
        if stop || line.step.is_multiple_of(stage.checkpoint.every) || line.step == stage.steps {
            let state = json!({ "cursor": cursor, "stage": stage.name });
            checkpoint::save(&folder, &trainer.snapshot(state), stage.checkpoint.keep)?;
        }
        if stop && line.step < stage.steps {
            return Err(Interrupted.into());
        }
    }
    progress.finish(&format!("{} steps done", stage.steps));
    report_skipped(context, &stage.name, &cursor)
}

/// The batches of one step, and the cursor after them.
fn next(loader: &mut Loader, accumulate: usize) -> Result<(Vec<Batch>, Cursor)> {
    let mut batches = Vec::with_capacity(accumulate);
    let mut cursor = Cursor::default();
    for _ in 0..accumulate {
        let batch;
        (batch, cursor) = loader.next()?;
        batches.push(batch);
    }
    Ok((batches, cursor))
}

/// One line of `metrics.jsonl`.
#[derive(Serialize)]
struct Line<'a> {
    step: u64,
    stage: &'a str,
    /// Mean over the step's learned tokens.
    loss: f64,
    lr: f64,
    grad_norm: f64,
    /// Positions of text and pictures.
    tokens: usize,
    images: usize,
    /// Of the whole step, waiting for data included.
    seconds: f64,
    /// Waiting for data.
    data_seconds: f64,
    /// Damaged samples met on the way to this step.
    #[serde(skip_serializing_if = "Vec::is_empty")]
    skipped: Vec<Skipped>,
}

impl From<StepReport> for Line<'_> {
    fn from(r: StepReport) -> Self {
        Self {
            step: 0,
            stage: "",
            loss: r.loss,
            lr: 0.0,
            grad_norm: r.grad_norm,
            tokens: r.tokens,
            images: r.images,
            seconds: 0.0,
            data_seconds: 0.0,
            skipped: Vec::new(),
        }
    }
}

impl Line<'_> {
    fn figures(&self) -> String {
        let per_second = |n: usize| thousands((n as f64 / self.seconds) as u64);
        format!(
            "loss {:.3}  lr {:.1e}  {} tokens/s  {} images/s",
            self.loss,
            self.lr,
            per_second(self.tokens),
            per_second(self.images)
        )
    }
}

fn loader_config(context: &Context, stage: &TrainStage) -> Result<LoaderConfig> {
    let plan = &context.plan;
    Ok(LoaderConfig {
        mixture: plan.mixture(stage)?,
        packing: Packing {
            tokenizer: plan.tokenizer.clone(),
            image: plan.image.clone(),
            image_tokens: plan.derived.image_tokens,
            length: stage.length,
        },
        rows: stage.rows,
        // Each stage has an order of its own.
        seed: plan.recipe.seed ^ xxh3_64(stage.name.as_bytes()),
        threads: context.threads,
        max_skipped_share: 0.1,
    })
}

fn optimizer(stage: &TrainStage) -> OptimizerConfig {
    let o = &stage.optimizer;
    let part = |group: Group, scale| Part { scale, frozen: o.freeze.iter().any(|f| f == group.name()) };
    OptimizerConfig {
        weight_decay: o.weight_decay,
        clip_norm: o.clip_norm,
        vision: part(Group::Vision, o.scale.vision),
        connector: part(Group::Connector, o.scale.connector),
        lm: part(Group::Lm, o.scale.lm),
        ..OptimizerConfig::default()
    }
}

fn last_good(folder: &Path) -> String {
    match checkpoint::latest(folder) {
        Ok(Some(last)) => format!("the last good checkpoint is {}", last.path.display()),
        _ => "there is no checkpoint yet".to_string(),
    }
}

/// Says what could not be used, from the whole stage's metrics: nothing is dropped silently.
fn report_skipped(context: &Context, stage: &str, cursor: &Cursor) -> Result<()> {
    if cursor.skipped() > 0 {
        eprintln!("{stage:>14} skipped {} damaged samples:", cursor.skipped());
        for line in std::fs::read_to_string(context.folder.metrics())?.lines() {
            let line: serde_json::Value = serde_json::from_str(line)?;
            for skip in line["skipped"].as_array().into_iter().flatten().filter(|_| line["stage"] == stage) {
                let text = |key: &str| skip[key].as_str().unwrap_or_default().to_string();
                eprintln!("{:>14}   {}: {}", "", text("id"), text("reason"));
            }
        }
    }
    if cursor.truncated() > 0 {
        eprintln!("{stage:>14} cut {} documents that were longer than a row", cursor.truncated());
    }
    Ok(())
}
