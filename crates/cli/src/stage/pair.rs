//! What a probe can ask for pictures and texts in one space: a contrastive model of this run, or an imported one.

use std::path::Path;

use anyhow::{Context as _, Result};
use burn::tensor::{Device, Tensor};
use mm1_data::foreign::ForeignTokenizer;
use mm1_model::Mm1;
use mm1_model::clip::{Captions, Clip};
use mm1_model::import::towers;
use mm1_model::towers::Towers;
use mm1_model::weights;

use crate::commands::run::Context;
use crate::error::input;
use crate::plan::Plan;
use crate::recipe::Stage;
use crate::stage::model;

/// An image encoder with its text tower.
pub(super) enum Pair {
    /// Trained by the stage before; it knows the run's own tokens.
    Trained(Box<Clip>),
    /// Of another program, which has tokens of its own.
    Imported(Box<Towers>, Box<ForeignTokenizer>),
}

impl Pair {
    /// The pair that the stages before `stage` have left: of the last that trains, if it was contrastive; where none trains,
    /// of the folder that the recipe's encoder is from. A folder whose pair can't be used is told.
    ///
    /// # Errors
    /// A missing checkpoint; towers or a tokenizer that can't be imported.
    pub(super) fn before(context: &Context, stage: &str) -> Result<Option<Self>> {
        let recipe = &context.plan.recipe;
        let Some(last) = recipe.trained_before(stage) else {
            let from = recipe.model.vision.from.as_deref();
            return from.map_or(Ok(None), |from| Self::imported(&context.plan, stage, from));
        };
        let Stage::Encoder(last) = last else { return Ok(None) };
        let Some(contrast) = last.objective.contrast() else { return Ok(None) };
        let vision = Mm1::encoder(&recipe.model, recipe.seed, &Device::flex())?;
        let clip = Clip::new(vision, &recipe.model.lm, contrast, recipe.seed)?;
        let file = model::weights_of(context.folder.root(), &last.name)?;
        Ok(Some(Self::Trained(Box::new(weights::load(clip, &file)?))))
    }

    fn imported(plan: &Plan, stage: &str, from: &Path) -> Result<Option<Self>> {
        let Some(found) = input(towers::open(from))? else { return Ok(None) };
        let (vision, tokenizer) = (&plan.recipe.model.vision, from.join("tokenizer.json"));
        let missing = if vision.blocks() < vision.layers {
            format!(
                "model.vision.feature_block = {} is before the towers' common space",
                vision.feature_block
            )
        } else if !tokenizer.exists() {
            format!("{} has a text tower, but no tokenizer.json", from.display())
        } else {
            let towers = input(found.fit(vision, &Device::flex()))?;
            let tokenizer = input(ForeignTokenizer::load(&tokenizer, towers.text.length()))?;
            return Ok(Some(Self::Imported(Box::new(towers), Box::new(tokenizer))));
        };
        eprintln!("{stage:>14} no zero-shot: {missing}");
        Ok(None)
    }

    /// Unit vectors of pictures `[n, s, s, 3] -> [n, e]`.
    pub(super) fn embed_pictures(&self, pixels: Tensor<4>) -> Tensor<2> {
        match self {
            Self::Trained(clip) => clip.embed_pictures(pixels),
            Self::Imported(towers, _) => towers.embed_pictures(pixels),
        }
    }

    /// Unit vectors of texts `[n, e]`.
    ///
    /// # Errors
    /// A text that an imported pair's tokenizer gives no ids for, or ids that its tower does not know.
    pub(super) fn embed_texts(&self, plan: &Plan, texts: &[String]) -> Result<Tensor<2>> {
        match self {
            Self::Trained(clip) => {
                let tokens: Vec<Vec<u32>> = texts.iter().map(|text| plan.caption_tokens(text)).collect();
                let lens: Vec<usize> = tokens.iter().map(Vec::len).collect();
                Ok(clip.embed_captions(Captions { ids: &tokens.concat(), lens: &lens }))
            }
            Self::Imported(towers, tokenizer) => {
                let tokens = texts.iter().map(|text| tokenizer.encode(text)).collect::<Result<Vec<_>>>();
                input(
                    tokens.and_then(|tokens| towers.embed_texts(&tokens)).context("the imported text tower"),
                )
            }
        }
    }
}
