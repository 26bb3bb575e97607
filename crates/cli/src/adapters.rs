//! The adapters of a stage: how its model gets them, and how an encoder that it has left is read.

use std::path::Path;

use anyhow::Result;
use mm1_model::vision::Vision;
use mm1_model::{Mm1, adapted, weights};
use xxhash_rust::xxh3::xxh3_64;

use crate::recipe::{Recipe, TrainStage};

/// `model` with new adapters, if `stage` has some.
pub(crate) fn with_adapters(model: Mm1, stage: &TrainStage, recipe: &Recipe) -> Mm1 {
    match &stage.adapter {
        // Each stage draws its own.
        Some(adapter) => adapted::with_adapters(model, adapter, recipe.seed ^ xxh3_64(stage.name.as_bytes())),
        None => model,
    }
}

/// The image encoder that a stage with the settings `stage` has left in `file`, its adapters in its weights.
///
/// # Errors
/// A file that can't be read or is of another encoder.
pub(crate) fn encoder_of(vision: Vision, stage: &TrainStage, file: &Path) -> Result<Vision> {
    let vision = match &stage.adapter {
        Some(adapter) => adapted::encoder_with_adapters(vision, adapter, 0),
        None => vision,
    };
    Ok(adapted::merged_encoder(weights::load_part(vision, "vision", file)?))
}
