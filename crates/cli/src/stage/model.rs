//! The model as the stages of a run have left it on disk.

use std::path::Path;

use anyhow::Result;
use burn::tensor::Device;
use mm1_model::adapted;
use mm1_model::connector::Connector;
use mm1_model::lm::Lm;
use mm1_model::vision::Vision;
use mm1_model::{Mm1, weights};

use crate::adapters::{encoder_of, with_adapters};
use crate::checkpoints;
use crate::error::input;
use crate::pretrained::{PretrainedEncoder, open_lm, open_whole};
use crate::recipe::{Recipe, Stage, TrainStage};

/// The model that `stage` begins to train: as the stages before have left it, with its adapters.
///
/// # Errors
/// If one of them has no good checkpoint.
pub(crate) fn to_train(recipe: &Recipe, root: &Path, stage: &TrainStage, device: &Device) -> Result<Mm1> {
    match stage.adapter.as_ref().and(recipe.kept_adapter_before(&stage.name)) {
        // Its adapters have the shapes of this stage's, and go on; the checkpoint has the weights, too.
        Some(before) => {
            let shape = recipe.as_of(&before.name).model;
            let model = with_adapters(Mm1::new(&shape, recipe.seed, device)?, stage, recipe);
            let model = weights::load(model, &checkpoints::weights(root, &before.name)?)?;
            model.with_image_size(image_size(recipe, &stage.name))
        }
        None => Ok(with_adapters(before(recipe, root, &stage.name, device)?, stage, recipe)),
    }
}

/// The model as `stage` has left it, its adapters beside its weights.
///
/// # Errors
/// If it has no good checkpoint.
pub(crate) fn unmerged(recipe: &Recipe, root: &Path, stage: &TrainStage, device: &Device) -> Result<Mm1> {
    let model = Mm1::new(&recipe.as_of(&stage.name).model, recipe.seed, device)?;
    weights::load(with_adapters(model, stage, recipe), &checkpoints::weights(root, &stage.name)?)
}

/// Side of the pictures in `stage`.
fn image_size(recipe: &Recipe, stage: &str) -> usize {
    recipe.as_of(stage).model.vision.image_size
}

/// The model as the stages before `stage` have left it, for pictures of the size that `stage` has.
///
/// # Errors
/// If one of them has no good checkpoint.
pub(crate) fn before(recipe: &Recipe, root: &Path, stage: &str, device: &Device) -> Result<Mm1> {
    after(&recipe.before(stage), recipe, root, device)?.with_image_size(image_size(recipe, stage))
}

/// The image encoder as the stages before `stage` have left it, for pictures of the size that `stage` has;
/// the decoder is not made.
///
/// # Errors
/// If the last of them that trains has no good checkpoint.
pub(crate) fn encoder_before(recipe: &Recipe, root: &Path, stage: &str, device: &Device) -> Result<Vision> {
    // Every stage that trains writes the encoder: nothing before the last of them matters.
    let vision = match recipe.trained_before(stage).and_then(Stage::training) {
        Some(last) => {
            let vision = Mm1::encoder(&recipe.as_of(&last.name).model, recipe.seed, device)?;
            encoder_of(vision, last, &checkpoints::weights(root, &last.name)?)?
        }
        None => from_origin(Mm1::encoder(&recipe.model, recipe.seed, device)?, recipe)?,
    };
    Ok(vision.with_image_size(image_size(recipe, stage)))
}

/// The encoder of random weights `vision` with those of the recipe's `model.vision.from`, if it has one.
fn from_origin(vision: Vision, recipe: &Recipe) -> Result<Vision> {
    let config = &recipe.model.vision;
    match &config.from {
        Some(from) => weights::assign(vision, input(PretrainedEncoder::open(from))?.encoder.fit(config)?),
        None => Ok(vision),
    }
}

/// The decoder of random weights `lm` with those of the recipe's `model.lm.from`, if it has one.
fn lm_from_origin(lm: Lm, recipe: &Recipe) -> Result<Lm> {
    let config = &recipe.model.lm;
    match &config.from {
        Some(from) => input(open_lm(from).and_then(|imported| imported.fit(lm, config))),
        None => Ok(lm),
    }
}

/// The connector of random weights `connector` with those of the recipe's `model.from`, if it has one; before
/// a decoder of others `lm` with image tokens about as long as the embeddings that it knows.
fn connector_from_origin(connector: Connector, lm: &Lm, recipe: &Recipe) -> Result<Connector> {
    match &recipe.model.from {
        Some(from) => input(open_whole(from).and_then(|(_, imported)| imported.fit(connector))),
        None if recipe.model.lm.from.is_some() => Ok(connector.scaled(lm.embedding_spread().sqrt())),
        None => Ok(connector),
    }
}

/// The model as the stages `done` of `recipe` have left it, adapters in its weights, for pictures of the size
/// that the last of them had.
///
/// # Errors
/// If one of them has no good checkpoint.
pub(crate) fn after(done: &[&Stage], recipe: &Recipe, root: &Path, device: &Device) -> Result<Mm1> {
    // A language stage writes the whole model: nothing before the last of them matters.
    let last = done.iter().rposition(|s| matches!(s, Stage::Pretrain(_) | Stage::Sft(_)));
    let mut model = Mm1::new(&recipe.model, recipe.seed, device)?;
    if last.is_none() {
        model.lm = lm_from_origin(model.lm, recipe)?;
        model.connector = connector_from_origin(model.connector, &model.lm, recipe)?;
    }
    if done.iter().all(|stage| stage.training().is_none()) {
        model.vision = from_origin(model.vision, recipe)?;
    }
    for &stage in &done[last.unwrap_or(0)..] {
        if stage.training().is_some() {
            model = model.with_image_size(image_size(recipe, stage.name()))?;
        }
        match stage {
            Stage::Pretrain(s) | Stage::Sft(s) => {
                let file = checkpoints::weights(root, &s.name)?;
                model = adapted::merged(weights::load(with_adapters(model, s, recipe), &file)?);
            }
            Stage::Encoder(s) => {
                model.vision = encoder_of(model.vision, s, &checkpoints::weights(root, &s.name)?)?;
            }
            Stage::Probe(_) | Stage::Eval(_) | Stage::Recaption(_) => {}
        }
    }
    Ok(model)
}
