//! [`Trained`]: the model that a run has left, ready to answer.

use std::path::Path;
use std::sync::Arc;

use anyhow::{Context as _, Result, ensure};
use mm1_data::tokenizer::Tokenizer;
use mm1_model::import::exported;
use mm1_model::{Compute, Mm1};
use mm1_serve::generate::Generator;
use toml::{Table, Value};

use crate::arguments::{DeviceArgs, Weights};
use crate::checkpoints;
use crate::error::{InputError, input};
use crate::pretrained::CompleteRecipe;
use crate::recipe::check::check_stages;
use crate::recipe::{Recipe, Stage, WrittenRecipe, put};
use crate::stage::model;
use crate::{pretrained, recipe_tokenizer};

/// The newest model of a run folder.
pub(crate) struct Trained {
    pub(crate) generator: Generator,
    /// Whether it was tuned on conversations, and is asked in turns.
    pub(crate) tuned: bool,
    /// Whether it has an image encoder.
    pub(crate) sees: bool,
    pub(crate) recipe: Recipe,
    /// The stage that left it.
    pub(crate) stage: String,
    /// Stage, steps and a hash of the weights: the same for the same model.
    pub(crate) id: String,
}

impl Trained {
    /// Reads the model of the last stage that has a checkpoint in the run folder `root`.
    ///
    /// # Errors
    /// A folder that is no run folder, or has no trained model; a device that was not built in.
    pub(crate) fn load(root: &Path, device: DeviceArgs) -> Result<Self> {
        Self::of_stage(root, None, device, None, Weights::default())
    }

    /// The same of the stage of that name, for pictures of `image_size` pixels a side in place of those that
    /// it was trained with, its language model's weights kept as `weights` says.
    ///
    /// # Errors
    /// As [`Self::load`]; a stage that is not there or trains no language model; a size that is not whole
    /// patches.
    pub(crate) fn of_stage(
        root: &Path,
        name: Option<&str>,
        device: DeviceArgs,
        image_size: Option<usize>,
        weights: Weights,
    ) -> Result<Self> {
        let RunModel { mut model, tokenizer, compute, mut recipe, stage } =
            RunModel::read(root, name, device)?;
        let compute = compute.with_weight_format(weights.on(device.or(recipe.device))?);
        let id = checkpoints::identity(root, stage.name())?;
        if let Some(size) = image_size {
            (model, recipe) = of_size(model, recipe, size)?;
        }
        Ok(Self {
            generator: Generator::new(&compute, model, Arc::new(tokenizer), recipe.image_spec()),
            tuned: matches!(stage, Stage::Sft(_)),
            sees: true,
            id: match weights {
                Weights::Precision => id,
                Weights::Q8_0 => format!("{id} in q8_0"),
            },
            stage: stage.name().to_owned(),
            recipe,
        })
    }
}

/// The model that a run has left, and what it was trained with.
pub(crate) struct RunModel {
    pub(crate) model: Mm1,
    pub(crate) tokenizer: Tokenizer,
    pub(crate) compute: Compute,
    /// With the size of pictures and the tiling of that stage.
    pub(crate) recipe: Recipe,
    /// The stage that left it.
    pub(crate) stage: Stage,
}

impl RunModel {
    /// Reads the model of the run folder `root` as the stage `name` has left it, or the last that has a
    /// checkpoint.
    ///
    /// # Errors
    /// A folder that is no run folder, or has no trained model; a plan that was changed to what is no recipe;
    /// a stage that is not there or trains no language model; a device that was not built in.
    pub(crate) fn read(root: &Path, name: Option<&str>, device: DeviceArgs) -> Result<Self> {
        let missing = |e: &dyn std::fmt::Display| {
            InputError::new(format!(
                "--run {}: not a run folder, the --out of `mm1 run`: {e}",
                root.display()
            ))
        };
        let recipe = Recipe::of_run(root).map_err(|e| missing(&format!("{e:#}")))?;
        let told = || format!("--run {}: its plan.toml was changed", root.display());
        input(check_stages(&recipe).with_context(told))?;
        let trained = |s: &&Stage| matches!(s, Stage::Pretrain(_) | Stage::Sft(_)) && has_checkpoint(root, s);
        let last = recipe.stage.iter().rposition(|s| trained(&s) && name.is_none_or(|name| s.name() == name));
        let encoder = || {
            let of_encoder = |s: &&Stage| matches!(s, Stage::Encoder(_)) && has_checkpoint(root, s);
            recipe.stage.iter().rfind(of_encoder).map(Stage::name)
        };
        let last = last.ok_or_else(|| match (name, encoder()) {
            (None, Some(encoder)) => InputError::new(format!(
                "--run {}: it has an image encoder alone (stage {encoder}), which answers nothing: a stage \
                 of kind pretrain or sft makes a language model",
                root.display()
            )),
            (None, None) => missing(&"no stage has a checkpoint yet"),
            (Some(name), _) => {
                let known: Vec<&str> = recipe.stage.iter().filter(trained).map(Stage::name).collect();
                InputError::new(format!(
                    "--stage {name}: no such stage with a checkpoint; there are: {}",
                    known.join(", ")
                ))
            }
        })?;
        let device = input(device.or(recipe.device).open())?;
        let compute = Compute::new(device).with_precision(recipe.precision);
        // A plan that was changed by hand may speak of another model than the weights beside it.
        let model = model::after(&recipe.line(recipe.stage[last].name()), &recipe, root, compute.device());
        let model = input(model.with_context(|| format!("--run {}", root.display())))?;
        let tokenizer =
            input(Tokenizer::of_run(root).and_then(|found| recipe_tokenizer::marked(found, &recipe)))?;
        let stage = recipe.stage[last].clone();
        let recipe = recipe.as_of(stage.name());
        // A tiling that was changed by hand.
        input(recipe.image_spec().check().with_context(|| format!("--run {}", root.display())))?;
        Ok(Self { model, tokenizer, compute, recipe, stage })
    }
}

/// A recipe for what is there, but for its `from`.
const NOTHING_TO_TRAIN: &str = "name = \"origin\"\nstage = []\n[model]\n[data]\n";

/// What a model of ours has beside a language model: the smallest of each, and no prompt with a picture
/// comes to them.
const BLIND: &str = r#"
name = "origin"
stage = []
[model.vision]
image_size = 8
patch = 8
dim = 8
layers = 1
heads = 1
ffn = 8
[model.connector]
kind = "average-pool"
tokens = 1
[data]
"#;

impl Trained {
    /// The whole model in the folder `origin`, or the language model there, by itself; for pictures of
    /// `image_size` pixels a side in place of its own, its weights kept as `weights` says.
    ///
    /// # Errors
    /// What can't be imported; a tokenizer without a chat template; a size that is not whole patches, or one
    /// for a language model by itself.
    pub(crate) fn of_origin(
        origin: &Path,
        device: DeviceArgs,
        image_size: Option<usize>,
        weights: Weights,
    ) -> Result<Self> {
        let sees = input(exported::open(origin))?.is_some();
        let (recipe, field) = if sees { (NOTHING_TO_TRAIN, "model.from") } else { (BLIND, "model.lm.from") };
        let mut tree: Table = recipe.parse()?;
        put(&mut tree, field, Value::from(origin.display().to_string()))?;
        let complete = pretrained::complete(WrittenRecipe::of_tree(origin, tree, &[])?);
        let complete = complete.with_context(|| format!("--model {}", origin.display()))?;
        let CompleteRecipe { mut recipe, tokenizer, .. } = complete;
        let tokenizer = recipe_tokenizer::stored(&recipe, None, tokenizer).and_then(|tokenizer| {
            tokenizer.chat_template().context("it has no chat template, so nobody can talk with it")?;
            Ok(tokenizer)
        });
        let tokenizer = input(tokenizer.with_context(|| origin.display().to_string()))?;
        let lm = &mut recipe.model.lm;
        lm.vocab = lm.vocab.max(Some(tokenizer.vocab()));
        let device = device.or(recipe.device);
        let compute = Compute::new(input(device.open())?).with_weight_format(weights.on(device)?);
        let mut model = model::after(&[], &recipe, origin, compute.device())?;
        if let Some(size) = image_size {
            let blind = || InputError::new(format!("--image-size {size}: {} sees nothing", origin.display()));
            ensure!(sees, blind());
            (model, recipe) = of_size(model, recipe, size)?;
        }
        Ok(Self {
            generator: Generator::new(&compute, model, Arc::new(tokenizer), recipe.image_spec()),
            tuned: true,
            sees,
            id: origin.display().to_string(),
            stage: "origin".to_owned(),
            recipe,
        })
    }
}

/// The same for pictures of `size` pixels a side: positions are interpolated.
///
/// # Errors
/// [`InputError`] of a size that is not whole patches, or that the tiling can't have.
fn of_size(model: Mm1, recipe: Recipe, size: usize) -> Result<(Mm1, Recipe)> {
    let recipe = recipe.with_image_size(size);
    let fits = recipe.image_spec().check().and_then(|()| model.with_image_size(size));
    let model = input(fits.with_context(|| format!("--image-size {size}")))?;
    Ok((model, recipe))
}

fn has_checkpoint(root: &Path, stage: &Stage) -> bool {
    checkpoints::of_stage(root, stage.name()).is_dir()
}
