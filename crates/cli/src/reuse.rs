//! `--reuse`: stages that another run has done, taken over where they are sure to come to the same digits.

use std::fs;
use std::path::Path;

use anyhow::{Context as _, Result};
use mm1_data::recaption::finished;
use mm1_data::text_file;
use mm1_eval::result::TaskScore;
use toml::{Table, Value};

use crate::checkpoints;
use crate::continuation::{DATA, DEVICES, SETS};
use crate::error::{InputError, input};
use crate::evaluation::{replace_scores, scores};
use crate::output::tell;
use crate::plan::Plan;
use crate::recipe::{Recipe, Stage, TrainStage};
use crate::run_folder::{LOCK, PLAN, RunFolder};
use crate::sources::captions_of;
use crate::stage_key::{run_key, shared_prefix};

/// What must be the same of the weights and the tokenizer that both runs begin with.
const ORIGINS: [&str; 5] = ["encoder", "connector", "lm", "tokenizer", "special_tokens"];

/// Takes the first stages of the run in `from` into `folder`, as far as they are done there and equal those
/// of `plan`. What is not taken is said, with the reason: this run does it itself.
///
/// # Errors
/// [`InputError`]: `from` is no run folder. A file that can't be read or written.
pub(crate) fn take_over(plan: &Plan, folder: &RunFolder, from: &Path) -> Result<()> {
    let shown = from.display();
    let wrong = |e: anyhow::Error| InputError::new(format!("--reuse {shown}: not a run folder: {e:#}"));
    let theirs = Recipe::of_run(from).map_err(wrong)?;
    let their_plan: Table = text_file::read(&from.join(PLAN))?.parse()?;
    let own_plan = folder.plan()?.unwrap_or_default();
    if let Some(other) = other_origin(&own_plan, &their_plan) {
        tell(format_args!("--reuse {shown}: its {other} is another one: all stages are done here"));
        return Ok(());
    }
    let count = common_stages(&plan.recipe, &theirs)?;
    if count == 0 {
        tell(format_args!("--reuse {shown}: no stage is sure to be the same: all are done here"));
    }
    for stage in &plan.recipe.stage[..count] {
        if is_done(folder.root(), stage)? {
            continue;
        }
        if !is_done(from, stage)? {
            tell(format_args!("{:>14} is not done in {shown}: it is done here", stage.name()));
            return Ok(());
        }
        match stage {
            Stage::Encoder(s) | Stage::Pretrain(s) | Stage::Sft(s) => take_training(s, folder, from),
            Stage::Probe(_) | Stage::Eval(_) => take_scores(stage.name(), folder, from),
            Stage::Recaption(s) => {
                take_folder(&captions_of(from, &s.name), &captions_of(folder.root(), &s.name))
            }
        }
        .with_context(|| format!("taking stage {} of {shown}", stage.name()))?;
        tell(format_args!("{:>14} is that of {shown}", stage.name()));
    }
    Ok(())
}

/// What differs of what both runs were begun with: data, origins, instruction set.
fn other_origin(own: &Table, theirs: &Table) -> Option<String> {
    let derived =
        |plan: &Table, key: &str| -> Option<Value> { plan.get("settled")?.get("derived")?.get(key).cloned() };
    if let Some(key) = ORIGINS.into_iter().find(|key| derived(own, key) != derived(theirs, key)) {
        return Some(key.to_owned());
    }
    if own.get(DATA) != theirs.get(DATA) {
        return Some("data".to_owned());
    }
    // The last digits are those of an instruction set and of a device.
    if own.get(SETS) != theirs.get(SETS) {
        return Some("instruction set".to_owned());
    }
    (own.get(DEVICES) != theirs.get(DEVICES)).then(|| "device".to_owned())
}

/// How many first stages of both are sure to be the same.
fn common_stages(own: &Recipe, theirs: &Recipe) -> Result<usize> {
    let most = own.stage.len().min(theirs.stage.len());
    for count in (1..=most).rev() {
        // Theirs may end with them.
        let their_prefix =
            if count == theirs.stage.len() { Some(theirs.clone()) } else { shared_prefix(theirs, count) };
        let (Some(a), Some(b)) = (shared_prefix(own, count), their_prefix) else { continue };
        if run_key(&a)? == run_key(&b)? {
            return Ok(count);
        }
    }
    Ok(0)
}

/// Whether the run in `root` has done a stage.
fn is_done(root: &Path, stage: &Stage) -> Result<bool> {
    if let Stage::Recaption(s) = stage {
        return Ok(input(finished(&captions_of(root, &s.name)))?.is_some());
    }
    let Some(training) = stage.training() else {
        return Ok(scores(root)?.iter().any(|score| score.stage == stage.name()));
    };
    let folder = checkpoints::of_stage(root, stage.name());
    let last = if folder.is_dir() { checkpoints::latest(&folder)? } else { None };
    Ok(last.is_some_and(|last| last.step == training.steps))
}

/// The last checkpoint of a stage, and before it the figures of its steps: a checkpoint never knows of steps
/// that have none.
fn take_training(stage: &TrainStage, folder: &RunFolder, from: &Path) -> Result<()> {
    let theirs =
        checkpoints::latest(&checkpoints::of_stage(from, &stage.name))?.context("its checkpoint is gone")?;
    let mut metrics = folder.metrics_after(&stage.name, 0)?;
    let path = from.join("metrics.jsonl");
    for line in
        fs::read(&path).with_context(|| path.display().to_string())?.split_inclusive(|&byte| byte == b'\n')
    {
        let of_stage =
            serde_json::from_slice::<serde_json::Value>(line).is_ok_and(|v| v["stage"] == *stage.name);
        if of_stage && line.ends_with(b"\n") {
            metrics.push_line(line)?;
        }
    }
    metrics.flush()?;
    let name = theirs.path.file_name().context("a checkpoint without a name")?;
    take_folder(&theirs.path, &checkpoints::of_stage(folder.root(), &stage.name).join(name))
}

/// The files of a folder in the place of what is at `place`, which is whole or not there.
fn take_folder(theirs: &Path, place: &Path) -> Result<()> {
    let own = place.parent().context("a folder without one around it")?;
    fs::create_dir_all(own)?;
    let name = place.file_name().context("a folder without a name")?.to_string_lossy().into_owned();
    // As a writer of checkpoints does: what a kill leaves is taken for no checkpoint.
    let beside = own.join(format!("{name}.tmp-{}", std::process::id()));
    fs::create_dir_all(&beside)?;
    for entry in fs::read_dir(theirs)? {
        let entry = entry?;
        // Who writes in their folder holds a lock of theirs.
        if entry.file_name() == LOCK {
            continue;
        }
        let place = beside.join(entry.file_name());
        // Such files are never written to again, so both runs may have the same bytes of the disk.
        if fs::hard_link(entry.path(), &place).is_err() {
            fs::copy(entry.path(), &place).with_context(|| place.display().to_string())?;
        }
    }
    if place.exists() {
        fs::remove_dir_all(place)?;
    }
    fs::rename(&beside, place).with_context(|| place.display().to_string())
}

/// The scores of a stage that measures.
fn take_scores(stage: &str, folder: &RunFolder, from: &Path) -> Result<()> {
    let mut taken: Vec<TaskScore> = input(scores(from))?;
    taken.retain(|score| score.stage == stage);
    replace_scores(folder, stage, taken)
}
