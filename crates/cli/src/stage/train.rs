//! The loop: next batch, step, log, save if due. Encoder training, pre-training and tuning are values of a
//! recipe, not loops of their own.

use std::mem;
use std::path::Path;
use std::time::Instant;

use anyhow::{Context as _, Result};
use mm1_data::batch::Batch;
use mm1_data::loader::{Cursor, Loader, SkippedSample};
use mm1_eval::counted::counted;
use mm1_kernels::allocator::TrainingMemory;
use mm1_kernels::arena;
use mm1_train::{Checkpoint, Objective, Trainer, checkpoint};
use serde_json::{Value, json};

use crate::checkpoints;
use crate::context::Context;
use crate::error::{Interrupted, input};
use crate::memory;
use crate::output::tell;
use crate::ranks::{RankClock, StepNote, StepNotes};
use crate::recipe::TrainStage;
use crate::stage::objective::{InitialWeights, WithModel, with_model};
use crate::stage::step_log::{StepLog, UnreadStep};

/// Trains one stage from its last checkpoint, or else from where the stage before it ended.
///
/// # Errors
/// Wrong input, a loss that is not finite, a full disk, or an interrupt.
pub(crate) fn run(context: &Context, stage: &TrainStage) -> Result<()> {
    let folder = checkpoints::of_stage(context.folder.root(), &stage.name);
    if context.ranks.is_first() {
        checkpoint::remove_leftovers(&folder)?;
    }
    let last = checkpoints::latest(&folder)?;
    let step = last.as_ref().map_or(0, |last| last.step);
    context
        .ranks
        .agree(&step.to_le_bytes(), "they see other checkpoints: give --out on a disk that all share")?;
    if let Some(done) = last.as_ref().filter(|last| last.step == stage.steps) {
        if !context.ranks.is_first() {
            return Ok(());
        }
        // A later stage that was killed may have left half a line.
        context.folder.metrics_after(&stage.name, done.step)?;
        tell(format_args!("{:>14} {} steps were done before", stage.name, done.step));
        report_missing(context, stage);
        return report_skipped(context, &stage.name, &cursor(&done.state()?)?);
    }
    let weights = InitialWeights::Stages(context.folder.root());
    with_model(&context.plan, stage, weights, StageTraining { context, stage, last })
}

/// The training of one stage, from the checkpoint `last` where there is one.
struct StageTraining<'a> {
    context: &'a Context,
    stage: &'a TrainStage,
    last: Option<Checkpoint>,
}

impl WithModel for StageTraining<'_> {
    type Output = ();

    fn with<M: Objective<Batch = Batch>>(self, model: M) -> Result<()> {
        train(self.context, self.stage, model, self.last)
    }
}

/// What a checkpoint says beside weights and moments: where the run is in its data, and the size of pictures
/// where it is not that of the model at first.
fn checkpoint_state(context: &Context, stage: &TrainStage, cursor: &Cursor) -> Value {
    let mut state = json!({ "cursor": cursor, "stage": stage.name });
    // Checkpoints of other runs stay the same byte by byte.
    if let Some(pictures) = context.plan.derived.stage_pictures.get(&stage.name) {
        state["image_size"] = json!(pictures.image_size);
    }
    state
}

/// Where a checkpoint's run was in its data.
fn cursor(state: &Value) -> Result<Cursor> {
    serde_json::from_value(state["cursor"].clone()).context("the checkpoint's cursor")
}

/// Trains `model` from the checkpoint `last`, where there is one.
fn train<M: Objective<Batch = Batch>>(
    context: &Context,
    stage: &TrainStage,
    model: M,
    last: Option<Checkpoint>,
) -> Result<()> {
    let folder = checkpoints::of_stage(context.folder.root(), &stage.name);
    let compute = context.plan.compute.with_checkpointing(stage.activation_checkpointing);
    let _memory = TrainingMemory::new();
    let ranks = &context.ranks;
    let trainer = Trainer::among(&compute, model, stage.optimizer.clone(), ranks.exchange());
    let mut trainer = input(trainer.with_context(|| format!("stage.{}.objective", stage.name)))?;
    let accumulate = ranks.share_of(&stage.name, stage.accumulate)?;
    let mut cursor = match last {
        Some(last) => resume(&mut trainer, &last, stage)?,
        None => Cursor::default(),
    };
    let schedule = stage.optimizer.schedule(context.plan.derived.lr[&stage.name], stage.steps);
    let mut log = StepLog::begin(context, stage, trainer.steps_done())?;
    let config = context.plan.loader_of(stage, context.worker, &context.sources()?)?;
    let mut loader = Loader::start(config, cursor.clone())?;
    let (mut listed, mut clock) = (0, RankClock::begin(ranks));
    log.go_on();
    while trainer.steps_done() < stage.steps {
        let started = Instant::now();
        let batches;
        (batches, cursor) = input(next_batches(&mut loader, accumulate))?;
        let data_seconds = started.elapsed().as_secs_f64();
        let lr = schedule.lr(trainer.steps_done());
        let exchanged = ranks.spent();
        let mut skipped = loader.skipped()[listed..].to_vec();
        listed += skipped.len();
        let note = || {
            let skipped = mem::take(&mut skipped);
            StepNote { stop: context.stopped(), skipped, time: clock.read(ranks) }.bytes()
        };
        let told = trainer.take_step_telling(&batches, lr, note).with_context(|| last_good(&folder))?;
        let StepNotes { stop, skipped, times } = ranks.notes(&told)?;
        let step = trainer.steps_done();
        let exchanged = ranks.spent_since(exchanged);
        log.push(UnreadStep { step, lr, data_seconds, exchanged, skipped }, &times);
        let save = stop || step.is_multiple_of(stage.checkpoint.every) || step == stage.steps;
        if save || log.is_due() {
            log.write(trainer.reports().with_context(|| last_good(&folder))?)?;
        }
        if save {
            keep(context, stage, &trainer, &cursor, &mut log)?;
            log.go_on();
        }
        if stop && step < stage.steps {
            return Err(Interrupted.into());
        }
    }
    if !ranks.is_first() {
        return Ok(());
    }
    log.finish(&format!("{} steps done{}", stage.steps, memory::and_peak(memory::peak_mib())));
    report_missing(context, stage);
    report_skipped(context, &stage.name, &cursor)
}

/// Writes a checkpoint at the rank that has the log; all ranks give their part.
fn keep<M: Objective>(
    context: &Context,
    stage: &TrainStage,
    trainer: &Trainer<M>,
    cursor: &Cursor,
    log: &mut StepLog<'_>,
) -> Result<()> {
    // Else what the step has left would stand beside the snapshot, a copy of weights and moments.
    arena::give_back();
    let snapshot = trainer.snapshot_of_all(checkpoint_state(context, stage, cursor))?;
    let Some(snapshot) = snapshot else { return Ok(()) };
    log.flush()?;
    let folder = checkpoints::of_stage(context.folder.root(), &stage.name);
    checkpoint::save(&folder, &snapshot, stage.checkpoint.keep)?;
    log.keep_balance(&context.folder)?;
    context.report.update(&context.folder)
}

/// Says how many steps have no line, as after a loss of power: their figures are lost, their work is not.
fn report_missing(context: &Context, stage: &TrainStage) {
    let missing = context.folder.missing_metrics(&stage.name, stage.steps);
    if missing > 0 {
        let path = context.folder.metrics();
        tell(format_args!(
            "mm1: warning: {} lacks the figures of {missing} of the {} steps of {}: they were lost, as in a \
             loss of power",
            path.display(),
            stage.steps,
            stage.name
        ));
    }
}

/// Continues from the checkpoint `last`: where the run was in its data then.
fn resume<M: Objective>(trainer: &mut Trainer<M>, last: &Checkpoint, stage: &TrainStage) -> Result<Cursor> {
    let snapshot = last.load()?;
    let cursor = cursor(&snapshot.state)?;
    trainer.restore(snapshot)?;
    tell(format_args!("{:>14} continues after step {} of {}", stage.name, trainer.steps_done(), stage.steps));
    Ok(cursor)
}

/// The batches of one step, and the cursor after them.
///
/// # Errors
/// Too many damaged documents.
pub(super) fn next_batches(loader: &mut Loader, accumulate: usize) -> Result<(Vec<Batch>, Cursor)> {
    let mut batches = Vec::with_capacity(accumulate);
    let mut cursor = Cursor::default();
    for _ in 0..accumulate {
        let batch;
        (batch, cursor) = loader.next()?;
        batches.push(batch);
    }
    Ok((batches, cursor))
}

fn last_good(folder: &Path) -> String {
    match checkpoint::latest(folder) {
        Ok(Some(last)) => format!("the last good checkpoint is {}", last.path.display()),
        _ => "there is no checkpoint yet".to_string(),
    }
}

/// Damaged samples that are named; the report names all.
const NAMED: usize = 20;

/// Says what could not be used, from the whole stage's metrics, each sample once: nothing is dropped
/// silently.
fn report_skipped(context: &Context, stage: &str, cursor: &Cursor) -> Result<()> {
    if cursor.skipped() > 0 {
        let found = damaged(&context.folder.metrics(), stage)?;
        let (number, times) = (found.len(), cursor.skipped());
        tell(format_args!(
            "{stage:>14} left out {}, met {} in all:",
            counted(number as u64, "damaged sample"),
            counted(times, "time")
        ));
        for (SkippedSample { id, reason }, times) in found.iter().take(NAMED) {
            let times = if *times > 1 { format!(" (met {times} times)") } else { String::new() };
            tell(format_args!("{:>14}   {id}{times}: {reason}", ""));
        }
        if number > NAMED {
            tell(format_args!("{:>14}   … and {} more; the report lists all", "", number - NAMED));
        }
    }
    if cursor.truncated() > 0 {
        let documents = counted(cursor.truncated(), "document");
        tell(format_args!("{stage:>14} cut {documents} longer than a row"));
    }
    Ok(())
}

/// The damaged samples that a stage has met, in the order of their first meeting, and how often.
fn damaged(metrics: &Path, stage: &str) -> Result<Vec<(SkippedSample, u64)>> {
    #[derive(serde::Deserialize)]
    struct Line {
        stage: String,
        #[serde(default)]
        skipped: Vec<SkippedSample>,
    }
    let mut found: Vec<(SkippedSample, u64)> = Vec::new();
    let text = std::fs::read(metrics)?;
    for line in String::from_utf8_lossy(&text).lines() {
        // A line that is no object is named by the report.
        let Ok(line) = serde_json::from_str::<Line>(line) else { continue };
        for skipped in line.skipped.into_iter().filter(|_| line.stage == stage) {
            match found.iter_mut().find(|(seen, _)| *seen == skipped) {
                Some((_, times)) => *times += 1,
                None => found.push((skipped, 1)),
            }
        }
    }
    Ok(found)
}
