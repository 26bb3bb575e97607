//! The checkpoints that stages have left in a run folder.

use std::fs;
use std::path::{Path, PathBuf};

use anyhow::{Context as _, Result};
use mm1_train::{Checkpoint, checkpoint};
use xxhash_rust::xxh3::xxh3_64;

use crate::error::input;
use crate::output::tell;
use crate::recipe::{Recipe, Stage};

/// Where a stage's checkpoints are in the run folder `root`.
pub(crate) fn of_stage(root: &Path, stage: &str) -> PathBuf {
    root.join("checkpoints").join(stage)
}

/// The newest good checkpoint in `folder`; damaged ones are named on standard error.
///
/// # Errors
/// If all of them are damaged.
pub(crate) fn latest(folder: &Path) -> Result<Option<Checkpoint>> {
    let latest = input(checkpoint::latest(folder))?;
    for warning in latest.iter().flat_map(|l| &l.warnings) {
        tell(format_args!("mm1: warning: {warning}"));
    }
    Ok(latest)
}

/// Stage, steps and a hash of the weights: the same for the same model.
///
/// # Errors
/// If the stage has no good checkpoint.
pub(crate) fn identity(root: &Path, stage: &str) -> Result<String> {
    let folder = of_stage(root, stage);
    let checkpoint = latest(&folder)?.with_context(|| format!("{}: no checkpoint yet", folder.display()))?;
    // The manifest holds the checksums of all files.
    let sum = xxh3_64(&fs::read(checkpoint.path.join("manifest.json"))?);
    Ok(format!("{stage} after {} steps, {sum:016x}", checkpoint.step))
}

/// The file with the weights that a stage has left.
///
/// # Errors
/// If the stage has no good checkpoint.
pub(crate) fn weights(root: &Path, stage: &str) -> Result<PathBuf> {
    let folder = of_stage(root, stage);
    let missing = || format!("stage {stage} has no checkpoint in {}", folder.display());
    Ok(latest(&folder)?.with_context(missing)?.weights())
}

/// The last stage that trains and has checkpoints in the run folder `root` of `recipe`.
pub(crate) fn last_stage<'a>(recipe: &'a Recipe, root: &Path) -> Option<&'a Stage> {
    recipe.stage.iter().rfind(|s| s.training().is_some() && of_stage(root, s.name()).is_dir())
}
