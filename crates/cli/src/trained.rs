//! [`Trained`]: the model that a run has left, ready to answer.

use std::fs;
use std::path::Path;
use std::sync::Arc;

use anyhow::{Context as _, Result};
use burn::tensor::Device;
use mm1_data::tokenizer::Tokenizer;
use mm1_serve::generate::Generator;
use xxhash_rust::xxh3::xxh3_64;

use crate::error::{InputError, input};
use crate::recipe::{Precision, Recipe, Stage};
use crate::stage::model;

/// The newest model of a run folder.
pub(crate) struct Trained {
    pub(crate) generator: Generator,
    /// As it was trained in.
    pub(crate) precision: Precision,
    /// Whether it was tuned on conversations, and is asked in turns.
    pub(crate) tuned: bool,
    /// The stage that left it.
    pub(crate) stage: String,
    /// Stage, steps and a hash of the weights: the same for the same model.
    pub(crate) id: String,
}

impl Trained {
    /// Reads the model of the last stage that has a checkpoint in the run folder `root`.
    ///
    /// # Errors
    /// A folder that is no run folder, or has no trained model.
    pub(crate) fn load(root: &Path) -> Result<Self> {
        let path = root.join("plan.toml");
        let missing = |e: &dyn std::fmt::Display| {
            InputError::new(format!("--run {}: not a run folder: {e}", root.display()))
        };
        let plan: toml::Table =
            fs::read_to_string(&path).map_err(|e| missing(&e))?.parse().map_err(|e| missing(&e))?;
        let recipe: Recipe = plan
            .get("settled")
            .and_then(|s| s.get("recipe"))
            .cloned()
            .ok_or_else(|| missing(&"plan.toml has no recipe"))?
            .try_into()
            .map_err(|e| missing(&e))?;
        let trained = |s: &&Stage| {
            matches!(s, Stage::Pretrain(_) | Stage::Sft(_)) && model::checkpoints(root, s.name()).is_dir()
        };
        let last = recipe.stage.iter().rposition(|s| trained(&s));
        let last = last.ok_or_else(|| missing(&"no stage has a checkpoint yet"))?;
        let stage = recipe.stage[last].name().to_owned();
        let checkpoint = model::latest(&model::checkpoints(root, &stage))?;
        let checkpoint = checkpoint.with_context(|| missing(&"no stage has a checkpoint yet"))?;
        // The manifest holds the checksums of all files.
        let sum = xxh3_64(&fs::read(checkpoint.path.join("manifest.json"))?);
        let model = model::after(&recipe.stage[..=last], &recipe, root, &Device::flex())?;
        let tokenizer = Arc::new(input(Tokenizer::load(&root.join("tokenizer.json")))?);
        Ok(Self {
            generator: Generator::new(model, tokenizer, recipe.image_spec()),
            precision: recipe.precision,
            tuned: matches!(recipe.stage[last], Stage::Sft(_)),
            id: format!("{stage} after {} steps, {sum:016x}", checkpoint.step),
            stage,
        })
    }
}
