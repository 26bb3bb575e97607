//! [`DualEncoder`]: images and texts in one space, for zero-shot classification and retrieval. It is a
//! contrastive model of this run, or an imported one.

use std::path::Path;
use std::sync::Arc;

use anyhow::{Context as _, Result};
use burn::tensor::{Device, Tensor};
use mm1_data::foreign::ForeignTokenizer;
use mm1_data::tokenizer::Tokenizer;
use mm1_model::clip::{Clip, PackedCaptions};
use mm1_model::import::towers;
use mm1_model::towers::Towers;
use mm1_model::vision::Vision;
use mm1_model::vision::VisionConfig;
use mm1_model::weights;
use mm1_model::{Compute, Mm1};

use crate::checkpoints;
use crate::context::Context;
use crate::error::input;
use crate::output::tell;
use crate::plan::caption_tokens;
use crate::recipe::{Recipe, Stage};

/// An image encoder with its text tower.
pub(crate) enum DualEncoder {
    /// Of a run of ours, with its tokens.
    Trained(Box<Clip>, Arc<Tokenizer>),
    /// Of another program, which has tokens of its own.
    Imported(Box<Towers>, Box<ForeignTokenizer>),
}

impl DualEncoder {
    /// The pair that the stages before `stage` have left: of the last that trains, if it was contrastive;
    /// where none trains, of the run or folder that the recipe's encoder is from. `encoder` is the image
    /// encoder as it is then. Why a pair can't be used is said on standard error.
    ///
    /// # Errors
    /// A missing checkpoint; towers or a tokenizer that can't be imported.
    pub(super) fn before(context: &Context, stage: &str, encoder: &Vision) -> Result<Option<Self>> {
        let (recipe, device) = (&context.plan.recipe, context.plan.compute.device());
        if let Some(last) = recipe.trained_before(stage) {
            let clip = trained(recipe, context.folder.root(), last, device)?;
            let tokenizer = context.plan.tokenizer.clone();
            return Ok(clip.map(|clip| Self::Trained(Box::new(clip), tokenizer)));
        }
        let vision = &recipe.model.vision;
        match vision.from.as_deref() {
            None => Ok(None),
            Some(from) if from.join("plan.toml").exists() => Self::of_run(vision, stage, from, encoder),
            Some(from) => Self::imported(vision, stage, from, device),
        }
    }

    /// The pair that the run in `root` has trained, with the recipe of its encoder stage and its name;
    /// where it has no encoder stage, the pair that its encoder is from.
    ///
    /// # Errors
    /// As [`Self::before`].
    pub(crate) fn of_folder(root: &Path, device: &Device) -> Result<Option<(Self, Recipe, String)>> {
        let recipe = Recipe::of_run(root)?;
        let stages = || recipe.stage.iter().filter(|stage| matches!(stage, Stage::Encoder(_)));
        if let Some(last) = stages().rfind(|stage| checkpoints::of_stage(root, stage.name()).is_dir()) {
            let Some(clip) = trained(&recipe, root, last, device)? else { return Ok(None) };
            let tokenizer = input(Tokenizer::of_run(root))?;
            let name = last.name().to_owned();
            let recipe = recipe.as_of(&name);
            return Ok(Some((Self::Trained(Box::new(clip), Arc::new(tokenizer)), recipe, name)));
        }
        let vision = &recipe.model.vision;
        match vision.from.as_deref() {
            None => Ok(None),
            Some(from) if from.join("plan.toml").exists() => Self::of_folder(from, device),
            Some(from) => {
                let pair = Self::imported(vision, "serve", from, device)?;
                Ok(pair.map(|pair| (pair, recipe.clone(), "encoder".to_owned())))
            }
        }
    }

    /// The text tower of another run of ours beside `encoder`, which is that run's at this recipe's
    /// resolution.
    fn of_run(vision: &VisionConfig, stage: &str, from: &Path, encoder: &Vision) -> Result<Option<Self>> {
        let theirs = Recipe::of_run(from)?;
        let Some(last) = checkpoints::last_stage(&theirs, from) else { return Ok(None) };
        let Some(mut clip) = trained(&theirs, from, last, &encoder.patch.val().device())? else {
            return Ok(None);
        };
        if !reaches_space(vision, stage) {
            return Ok(None);
        }
        clip.vision = encoder.clone();
        let tokenizer = input(Tokenizer::load(&from.join("tokenizer.json")))?;
        Ok(Some(Self::Trained(Box::new(clip), Arc::new(tokenizer))))
    }

    fn imported(vision: &VisionConfig, stage: &str, from: &Path, device: &Device) -> Result<Option<Self>> {
        let Some(found) = input(towers::open(from))? else { return Ok(None) };
        if !reaches_space(vision, stage) {
            return Ok(None);
        }
        let tokenizer = from.join("tokenizer.json");
        if !tokenizer.exists() {
            warn(stage, &format!("{} has a text tower, but no tokenizer.json", from.display()));
            return Ok(None);
        }
        let towers = input(found.fit(vision, device))?;
        let tokenizer = input(ForeignTokenizer::load(&tokenizer, towers.text.length()))?;
        Ok(Some(Self::Imported(Box::new(towers), Box::new(tokenizer))))
    }

    /// Unit vectors of pictures `[n, s, s, 3] -> [n, e]`.
    pub(crate) fn embed_pictures(&self, compute: &Compute, pixels: Tensor<4>) -> Tensor<2> {
        match self {
            Self::Trained(clip, _) => clip.embed_pictures(compute, pixels),
            Self::Imported(towers, _) => towers.embed_pictures(compute, pixels),
        }
    }

    /// How many tokens a text has.
    ///
    /// # Errors
    /// As [`Self::embed_texts`].
    pub(crate) fn tokens(&self, text: &str) -> Result<usize> {
        match self {
            Self::Trained(_, tokenizer) => Ok(caption_tokens(tokenizer, text).len()),
            Self::Imported(_, tokenizer) => Ok(tokenizer.encode(text)?.len()),
        }
    }

    /// Unit vectors of texts `[n, e]`.
    ///
    /// # Errors
    /// A text that an imported pair's tokenizer gives no ids for, or ids that its tower does not know.
    pub(crate) fn embed_texts(&self, compute: &Compute, texts: &[String]) -> Result<Tensor<2>> {
        match self {
            Self::Trained(clip, tokenizer) => {
                let tokens: Vec<Vec<u32>> =
                    texts.iter().map(|text| caption_tokens(tokenizer, text)).collect();
                let lens: Vec<usize> = tokens.iter().map(Vec::len).collect();
                Ok(clip.embed_captions(compute, PackedCaptions { ids: &tokens.concat(), lens: &lens }))
            }
            Self::Imported(towers, tokenizer) => {
                let tokens = texts.iter().map(|text| tokenizer.encode(text)).collect::<Result<Vec<_>>>();
                let vectors = tokens.and_then(|tokens| towers.embed_texts(compute, &tokens));
                input(vectors.context("the imported text tower"))
            }
        }
    }
}

/// What `last`, the last stage that trains of the run in `root`, has left, if it was contrastive.
fn trained(recipe: &Recipe, root: &Path, last: &Stage, device: &Device) -> Result<Option<Clip>> {
    let Stage::Encoder(last) = last else { return Ok(None) };
    let Some(contrast) = last.objective.contrast() else { return Ok(None) };
    let vision = Mm1::encoder(&recipe.as_of(&last.name).model, recipe.seed, device)?;
    let clip = Clip::new(vision, &recipe.model.lm, contrast, recipe.seed)?;
    weights::load(clip, &checkpoints::weights(root, &last.name)?).map(Some)
}

/// Whether all blocks of the encoder and its last norm are used; said on standard error where not.
fn reaches_space(vision: &VisionConfig, stage: &str) -> bool {
    let cut = match (vision.blocks(), vision.last_norm) {
        (block, true) if block == vision.layers => return true,
        (block, true) => format!("feature_block = {block}"),
        (_, false) => "last_norm = false".to_owned(),
    };
    warn(stage, &format!("model.vision.{cut} is before the towers' common space"));
    false
}

fn warn(stage: &str, missing: &str) {
    tell(format_args!("{stage:>14} no text tower: {missing}"));
}
