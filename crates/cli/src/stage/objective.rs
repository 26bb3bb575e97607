//! From a stage's objective to the model that is trained: the one place that knows which network belongs to
//! which objective.

use std::path::Path;

use anyhow::Result;
use mm1_data::batch::Batch;
use mm1_data::document::Special;
use mm1_data::source::Split;
use mm1_model::Mm1;
use mm1_model::aim::Aim;
use mm1_model::alignment::Alignment;
use mm1_model::clip::{Clip, Contrast};
use mm1_model::dino::Dino;
use mm1_model::superclass::{SuperClass, inverse_document_frequency};
use mm1_model::vision::Vision;
use mm1_train::Objective;

use crate::adapters::with_adapters;
use crate::error::input;
use crate::plan::Plan;
use crate::recipe::{ObjectiveConfig, TrainStage};
use crate::sources::Sources;
use crate::stage::model;

/// Captions of each source from which the frequencies of labels are counted.
const COUNTED: u64 = 2000;

/// What is done with the model of a stage, whatever its type.
pub(super) trait WithModel {
    /// What comes of it.
    type Output;

    /// Does it.
    ///
    /// # Errors
    /// Its own.
    fn with<M: Objective<Batch = Batch>>(self, model: M) -> Result<Self::Output>;
}

/// Where a stage's weights are from.
#[derive(Clone, Copy)]
pub(super) enum InitialWeights<'a> {
    /// The stages before it, in the run folder.
    Stages(&'a Path),
    /// None were trained: random ones, which cost the same time.
    Random,
}

/// Makes the model of `stage` on the training device, and lets `work` do its part with it.
///
/// # Errors
/// A missing or damaged checkpoint; what `work` gives.
pub(super) fn with_model<W: WithModel>(
    plan: &Plan,
    stage: &TrainStage,
    weights: InitialWeights<'_>,
    work: W,
) -> Result<W::Output> {
    let (device, recipe) = (plan.compute.training_device(), &plan.recipe);
    let shape = recipe.as_of(&stage.name).model;
    let encoder = || -> Result<Vision> {
        match weights {
            InitialWeights::Stages(root) => model::encoder_before(recipe, root, &stage.name, &device),
            InitialWeights::Random => Ok(Mm1::encoder(&shape, recipe.seed, &device)?),
        }
    };
    let clip = |contrast: Contrast| Clip::new(encoder()?, &recipe.model.lm, contrast, recipe.seed);
    let whole = || -> Result<Mm1> {
        match weights {
            InitialWeights::Stages(root) => model::to_train(recipe, root, stage, &device),
            InitialWeights::Random => {
                Ok(with_adapters(Mm1::new(&shape, recipe.seed, &device)?, stage, recipe))
            }
        }
    };
    match &stage.objective {
        ObjectiveConfig::Language => work.with(whole()?),
        ObjectiveConfig::Align => work.with(Alignment::new(whole()?, plan.tokenizer.id(Special::End))),
        ObjectiveConfig::Clip { .. } => work.with(clip(Contrast::Softmax)?),
        ObjectiveConfig::Siglip { .. } => work.with(clip(Contrast::Sigmoid)?),
        ObjectiveConfig::Dino { dino, .. } => {
            work.with(Dino::new(encoder()?, dino, stage.steps, recipe.seed))
        }
        ObjectiveConfig::Aim { aim, .. } => {
            work.with(Aim::new(encoder()?, aim, recipe.model.vision.patch, recipe.seed))
        }
        ObjectiveConfig::Superclass { .. } => {
            let sources = match weights {
                InitialWeights::Stages(root) => input(plan.sources.with_written(recipe, root))?,
                InitialWeights::Random => plan.sources.clone(),
            };
            let captions = first_captions(plan, stage, &sources);
            let weights = inverse_document_frequency(&captions, plan.tokenizer.vocab());
            work.with(SuperClass::new(encoder()?, weights, recipe.seed))
        }
    }
}

/// The tokens of the first captions of each source.
fn first_captions(plan: &Plan, stage: &TrainStage, sources: &Sources) -> Vec<Vec<u32>> {
    let mut captions = Vec::new();
    for name in stage.mixture.keys() {
        let source = sources.named(name);
        for index in 0..source.len(Split::Train).unwrap_or(u64::MAX).min(COUNTED) {
            // What can't be read is named when training meets it.
            let Ok(texts) = source.texts(Split::Train, index) else { continue };
            captions.push(texts.iter().flat_map(|text| plan.tokenizer.encode(text)).collect());
        }
    }
    captions
}
