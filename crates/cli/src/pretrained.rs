//! `[model.vision] from`: an image encoder that is there already, of a run of ours, a Hugging Face folder or
//! an ONNX file.

use std::path::Path;

use anyhow::{Context as _, Result, bail, ensure};
use mm1_data::image::{ImageConfig, ImageSpec};
use mm1_model::import::{self, ImportedEncoder};
use mm1_model::vision::VisionConfig;
use mm1_model::weights;
use toml::{Table, Value};
use xxhash_rust::xxh3::Xxh3;

use crate::checkpoints;
use crate::recipe::{Recipe, WrittenRecipe};

/// Settings that may differ from those of the encoder's origin.
const FREE: [&str; 2] = ["image_size", "feature_block"];

/// An encoder as its origin has it.
pub(crate) struct PretrainedEncoder {
    pub(crate) encoder: ImportedEncoder,
    /// How it takes pictures.
    image: ImageConfig,
}

impl PretrainedEncoder {
    /// Reads the encoder at `from`.
    ///
    /// # Errors
    /// What is neither a run folder with a trained encoder nor an encoder that can be imported.
    pub(crate) fn open(from: &Path) -> Result<Self> {
        if from.join("plan.toml").exists() { Self::of_run(from) } else { Self::foreign(from) }
            .with_context(|| format!("model.vision.from = \"{}\"", from.display()))
    }

    fn of_run(root: &Path) -> Result<Self> {
        let recipe = Recipe::of_run(root)?;
        let last = checkpoints::last_stage(&recipe, root).context("no stage has a checkpoint yet")?;
        let tensors = weights::read_part(&checkpoints::weights(root, last.name())?, "vision")?;
        let Recipe { image, model: shape, .. } = recipe;
        let vision = VisionConfig { from: None, ..shape.vision };
        Ok(Self { encoder: ImportedEncoder::new(vision, tensors, [image.mean, image.std], root), image })
    }

    fn foreign(path: &Path) -> Result<Self> {
        let encoder = import::open(path)?;
        let preprocessor = path.join("preprocessor_config.json");
        let image = if preprocessor.exists() {
            ImageSpec::from_preprocessor(&preprocessor)?.config
        } else {
            ImageConfig { mean: encoder.mean, std: encoder.std, ..ImageConfig::default() }
        };
        Ok(Self { encoder, image })
    }

    /// The same for the same weights.
    fn fingerprint(&self) -> String {
        let mut hash = Xxh3::new();
        for (path, _, values) in &self.encoder.tensors {
            hash.update(path.as_bytes());
            values.iter().for_each(|value| hash.update(&value.to_le_bytes()));
        }
        format!("{:016x}", hash.digest())
    }
}

/// A recipe with nothing left out.
pub(crate) struct CompleteRecipe {
    pub(crate) recipe: Recipe,
    /// Hash of the weights of its `model.vision.from`.
    pub(crate) encoder: Option<String>,
}

/// The recipe as it is written, and where it leaves something out, what its `model.vision.from` says of the
/// encoder and its pictures. This is the first moment that weights are opened.
///
/// # Errors
/// [`crate::error::InputError`]: a field that is unknown or of another type, a setting that differs from the
/// encoder's, an encoder that can't be opened.
pub(crate) fn complete(mut written: WrittenRecipe) -> Result<CompleteRecipe> {
    let encoder = written.change(fill)?;
    Ok(CompleteRecipe { recipe: written.parse()?, encoder })
}

/// Completes `tree`. The hash of the encoder's weights, where the recipe has one that is there already.
fn fill(tree: &mut Table) -> Result<Option<String>> {
    let vision = tree.get("model").and_then(|model| model.get("vision"));
    let Some(from) = vision.and_then(|vision| vision.get("from")) else { return Ok(None) };
    let Value::String(from) = from else { bail!("model.vision.from is a {}, not a path", from.type_str()) };
    let from = from.clone();
    let origin = PretrainedEncoder::open(Path::new(&from))?;
    let fingerprint = origin.fingerprint();
    let PretrainedEncoder { encoder, image } = origin;
    let model = tree.get_mut("model").and_then(Value::as_table_mut);
    if let Some(vision) = model.and_then(|model| model.get_mut("vision")).and_then(Value::as_table_mut) {
        for (key, value) in Table::try_from(&encoder.config)? {
            let written = vision.entry(key.clone()).or_insert_with(|| value.clone());
            ensure!(
                *written == value || FREE.contains(&key.as_str()),
                "model.vision.{key} = {written}, but {from} has {value}: leave it out"
            );
        }
    }
    let mode = image.mode.at(encoder.config.image_size, vision_size(tree)?);
    let image = ImageConfig { mode, ..image };
    let section = tree.entry("image").or_insert_with(|| Value::Table(Table::new()));
    let section = section.as_table_mut().context("image is not a table")?;
    for (key, value) in Table::try_from(&image)? {
        section.entry(key).or_insert(value);
    }
    Ok(Some(fingerprint))
}

/// The recipe's `model.vision.image_size`, in pixels.
fn vision_size(tree: &Table) -> Result<usize> {
    let size = tree.get("model").and_then(|model| model.get("vision")?.get("image_size")?.as_integer());
    size.and_then(|size| usize::try_from(size).ok())
        .context("model.vision.image_size is not a number of pixels")
}
