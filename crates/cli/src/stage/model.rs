//! The model as the stages of a run have left it on disk.

use std::path::{Path, PathBuf};

use anyhow::{Context as _, Result};
use burn::tensor::Device;
use mm1_model::{Mm1, weights};
use mm1_train::{Checkpoint, checkpoint};

use crate::error::input;
use crate::recipe::{Recipe, Stage};

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

/// The model as the stages before `stage` have left it.
///
/// # Errors
/// If one of them has no good checkpoint.
pub(crate) fn before(recipe: &Recipe, root: &Path, stage: &str, device: &Device) -> Result<Mm1> {
    let end = recipe.stage.iter().position(|s| s.name() == stage).unwrap_or(recipe.stage.len());
    after(&recipe.stage[..end], recipe, root, device)
}

/// The model as the stages `done` of `recipe` have left it.
///
/// # Errors
/// If one of them has no good checkpoint.
pub(crate) fn after(done: &[Stage], recipe: &Recipe, root: &Path, device: &Device) -> Result<Mm1> {
    // A language stage writes the whole model: nothing before the last of them matters.
    let first = done.iter().rposition(|s| matches!(s, Stage::Pretrain(_) | Stage::Sft(_))).unwrap_or(0);
    let mut model = Mm1::new(&recipe.model, recipe.seed, device)?;
    for stage in &done[first..] {
        let weights = |name: &str| -> Result<PathBuf> {
            let folder = checkpoints(root, name);
            let missing = || format!("stage {name} has no checkpoint in {}", folder.display());
            Ok(latest(&folder)?.with_context(missing)?.weights())
        };
        match stage {
            Stage::Pretrain(s) | Stage::Sft(s) => model = weights::load(model, &weights(&s.name)?)?,
            Stage::Encoder(s) => {
                model.vision = weights::load_part(model.vision, "vision", &weights(&s.name)?)?;
            }
            Stage::Eval(_) => {}
        }
    }
    Ok(model)
}
