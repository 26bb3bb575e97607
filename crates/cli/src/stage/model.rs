//! The model as the stages of a run have left it on disk.

use std::fs;
use std::path::{Path, PathBuf};

use anyhow::{Context as _, Result};
use burn::tensor::Device;
use mm1_model::vision::Vision;
use mm1_model::{Mm1, weights};
use mm1_train::{Checkpoint, checkpoint};
use xxhash_rust::xxh3::xxh3_64;

use crate::error::input;
use crate::recipe::{Origin, Recipe, Stage};

/// Where a stage's checkpoints are in the run folder `root`.
pub(crate) fn checkpoints(root: &Path, stage: &str) -> PathBuf {
    root.join("checkpoints").join(stage)
}

/// The newest good checkpoint in `folder`; damaged ones are told.
pub(crate) fn latest(folder: &Path) -> Result<Option<Checkpoint>> {
    let latest = input(checkpoint::latest(folder))?;
    for warning in latest.iter().flat_map(|l| &l.warnings) {
        eprintln!("mm1: warning: {warning}");
    }
    Ok(latest)
}

/// Stage, steps and a hash of the weights: the same for the same model.
///
/// # Errors
/// If the stage has no good checkpoint.
pub(crate) fn identity(root: &Path, stage: &str) -> Result<String> {
    let folder = checkpoints(root, stage);
    let checkpoint = latest(&folder)?.with_context(|| format!("{}: no checkpoint yet", folder.display()))?;
    // The manifest holds the checksums of all files.
    let sum = xxh3_64(&fs::read(checkpoint.path.join("manifest.json"))?);
    Ok(format!("{stage} after {} steps, {sum:016x}", checkpoint.step))
}

/// The model as the stages before `stage` have left it.
///
/// # Errors
/// If one of them has no good checkpoint.
pub(crate) fn before(recipe: &Recipe, root: &Path, stage: &str, device: &Device) -> Result<Mm1> {
    let end = recipe.stage.iter().position(|s| s.name() == stage).unwrap_or(recipe.stage.len());
    after(&recipe.stage[..end], recipe, root, device)
}

/// The image encoder as the stages before `stage` have left it; the decoder is not made.
///
/// # Errors
/// If the last of them that trains has no good checkpoint.
pub(crate) fn encoder_before(recipe: &Recipe, root: &Path, stage: &str, device: &Device) -> Result<Vision> {
    let vision = Mm1::encoder(&recipe.model, recipe.seed, device)?;
    // Every stage that trains writes the encoder: nothing before the last of them matters.
    match recipe.trained_before(stage) {
        Some(last) => weights::load_part(vision, "vision", &weights_of(root, last.name())?),
        None => from_origin(vision, recipe),
    }
}

/// The last stage that trains and has left checkpoints in the run folder `root` of `recipe`.
pub(crate) fn last_left<'a>(recipe: &'a Recipe, root: &Path) -> Option<&'a Stage> {
    recipe.stage.iter().rfind(|s| s.training().is_some() && checkpoints(root, s.name()).is_dir())
}

/// The encoder of random weights `vision` with those of the recipe's `model.vision.from`, if it has one.
fn from_origin(vision: Vision, recipe: &Recipe) -> Result<Vision> {
    let config = &recipe.model.vision;
    match &config.from {
        Some(from) => weights::assign(vision, input(Origin::open(from))?.encoder.fit(config)?),
        None => Ok(vision),
    }
}

/// The file with the weights that a stage has left.
pub(crate) fn weights_of(root: &Path, stage: &str) -> Result<PathBuf> {
    let folder = checkpoints(root, stage);
    let missing = || format!("stage {stage} has no checkpoint in {}", folder.display());
    Ok(latest(&folder)?.with_context(missing)?.weights())
}

/// The model as the stages `done` of `recipe` have left it.
///
/// # Errors
/// If one of them has no good checkpoint.
pub(crate) fn after(done: &[Stage], recipe: &Recipe, root: &Path, device: &Device) -> Result<Mm1> {
    // A language stage writes the whole model: nothing before the last of them matters.
    let first = done.iter().rposition(|s| matches!(s, Stage::Pretrain(_) | Stage::Sft(_))).unwrap_or(0);
    let mut model = Mm1::new(&recipe.model, recipe.seed, device)?;
    if done.iter().all(|stage| stage.training().is_none()) {
        model.vision = from_origin(model.vision, recipe)?;
    }
    for stage in &done[first..] {
        match stage {
            Stage::Pretrain(s) | Stage::Sft(s) => model = weights::load(model, &weights_of(root, &s.name)?)?,
            Stage::Encoder(s) => {
                model.vision = weights::load_part(model.vision, "vision", &weights_of(root, &s.name)?)?;
            }
            Stage::Probe(_) | Stage::Eval(_) => {}
        }
    }
    Ok(model)
}
