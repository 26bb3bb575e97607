//! `[model.vision] from`: an image encoder that is there already, of a run of ours, a Hugging Face folder or
//! an ONNX file; `[model.lm] from`: a language model of a Hugging Face folder; and `[model] from`: a whole
//! model in such a folder.

use std::path::Path;

use anyhow::{Context as _, Result, bail, ensure};
use mm1_data::image::{ImageSpec, Tiling};
use mm1_model::device::DeviceKind;
use mm1_model::export::ExportForm;
use mm1_model::import::exported::{self, ImportedConnector};
use mm1_model::import::lm::{self, ImportedLm};
use mm1_model::import::{self, ImportedEncoder};
use mm1_model::vision::VisionConfig;
use mm1_model::weights::Named;
use mm1_model::{Mm1, weights};
use toml::{Table, Value};
use xxhash_rust::xxh3::Xxh3;

use crate::adapters::encoder_of;
use crate::checkpoints;
use crate::error::input;
use crate::recipe::{ChatForm, Recipe, TokenizerConfig, WrittenRecipe};
use crate::tokenizer_file::TokenizerFile;

/// Settings that may differ from those of the encoder's origin.
const FREE: [&str; 3] = ["image_size", "feature_block", "last_norm"];

/// Fields of `[image]` that are asked for where an encoder does not say how it takes pictures.
const ASKED: [&str; 3] = ["mode", "mean", "std"];

/// Field of `[image]` that may differ from the origin's, since settings of others do not speak of it.
const FREE_OF_IMAGE: &str = "background";

/// An encoder as its origin has it.
pub(crate) struct PretrainedEncoder {
    pub(crate) encoder: ImportedEncoder,
    /// How it takes pictures; `None`, where its origin does not say.
    image: Option<ImageSpec>,
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
        // Tiles are the decoder's matter: another recipe may cut pictures otherwise.
        let mut recipe = recipe.as_of(last.name());
        recipe.image.tiling = Tiling::default();
        let file = checkpoints::weights(root, last.name())?;
        let tensors = match last.training().filter(|stage| stage.adapter.is_some()) {
            Some(stage) => {
                let vision = Mm1::encoder(&recipe.model, recipe.seed, &DeviceKind::Cpu.open()?)?;
                weights::parameters(&encoder_of(vision, stage, &file)?)
            }
            None => weights::read_part(&file, "vision")?,
        };
        let Recipe { image, model: shape, .. } = recipe;
        let vision = VisionConfig { from: None, ..shape.vision };
        let pixels = [image.mean, image.std];
        let image = Some(image.of_size(vision.image_size));
        Ok(Self { encoder: ImportedEncoder::new(vision, tensors, pixels, root), image })
    }

    fn foreign(path: &Path) -> Result<Self> {
        let encoder = import::open(path)?;
        // Beside an ONNX file its settings lie in the same folder.
        let folder = if path.is_dir() { path } else { path.parent().unwrap_or(Path::new(".")) };
        Ok(Self { encoder, image: ImageSpec::of_encoder(folder)? })
    }
}

/// A recipe with nothing left out.
pub(crate) struct CompleteRecipe {
    pub(crate) recipe: Recipe,
    /// Hashes of the weights that it begins with.
    pub(crate) weights: OriginHashes,
    /// The recipe's tokenizer, where it was read to see how the language model writes conversations.
    pub(crate) tokenizer: Option<TokenizerFile>,
}

/// Hashes of the weights of origins: the same for the same weights.
#[derive(Clone, Debug, Default)]
pub(crate) struct OriginHashes {
    /// Of `model.vision.from`.
    pub(crate) encoder: Option<String>,
    /// Of the connector of `model.from`.
    pub(crate) connector: Option<String>,
    /// Of `model.lm.from`.
    pub(crate) lm: Option<String>,
}

/// The recipe as it is written, and where it leaves something out, what its `model.vision.from` says of
/// the encoder and its pictures, `model.lm.from` of the decoder and its tokenizer, and `model.from` of
/// all of them. This is the first moment that weights are opened.
///
/// # Errors
/// [`crate::error::InputError`]: a field that is unknown or of another type, a setting that differs from the
/// origin's, an origin that can't be opened.
pub(crate) fn complete(mut written: WrittenRecipe) -> Result<CompleteRecipe> {
    let mut weights = OriginHashes::default();
    let lm = written.change(|tree| {
        weights.connector = fill_whole(tree)?;
        weights.encoder = fill(tree)?;
        fill_lm(tree)
    })?;
    let recipe = written.parse()?;
    let mut tokenizer = None;
    if let Some(lm) = lm {
        input(lm.imported.check(&recipe.model.lm))?;
        weights.lm = Some(lm.fingerprint);
        tokenizer = lm.tokenizer;
    }
    Ok(CompleteRecipe { recipe, weights, tokenizer })
}

/// Reads form and connector of the whole model in the folder `from`.
///
/// # Errors
/// A folder without one; a connector that none of ours is.
pub(crate) fn open_whole(from: &Path) -> Result<(ExportForm, ImportedConnector)> {
    let read = || -> Result<_> {
        let whole = exported::open(from)?.context(
            "no whole model: it needs the config.json of an Idefics3, a SmolVLM, a LLaVA, or an MM1 as `mm1 \
             export --format hf` writes it",
        )?;
        Ok((whole.form, whole.connector()?))
    };
    read().with_context(|| format!("model.from = \"{}\"", from.display()))
}

/// Takes the parts of the recipe's `model.from` for its parts, and settles its connector, its form and into
/// which tiles it cuts pictures. Gives the hash of the connector's weights, where there is such a model.
///
/// # Errors
/// A `from` that is no path or has no whole model; a part that comes from elsewhere; a setting that differs.
fn fill_whole(tree: &mut Table) -> Result<Option<String>> {
    let model = tree.get_mut("model").and_then(Value::as_table_mut);
    let Some((model, from)) = model.and_then(|model| model.get("from").cloned().map(|from| (model, from)))
    else {
        return Ok(None);
    };
    let Value::String(from) = from else { bail!("model.from is a {}, not a path", from.type_str()) };
    let (form, connector) = open_whole(Path::new(&from))?;
    for part in ["vision", "lm", "connector"] {
        let section = model.entry(part).or_insert_with(|| Value::Table(Table::new()));
        let section = section.as_table_mut().with_context(|| format!("model.{part} is not a table"))?;
        if part != "connector" {
            let own = section.entry("from").or_insert_with(|| Value::from(from.clone()));
            ensure!(
                own.as_str() == Some(&from),
                "model.{part}.from = {own}, but model.from = \"{from}\" is a whole model: leave one of both \
                 out"
            );
        }
    }
    settle(tree, ("connector", &from), Table::try_from(&connector.config)?, &[])?;
    tree.entry("export").or_insert(Value::try_from(form)?);
    if form == ExportForm::Idefics3 {
        let tiling = Tiling::of_idefics3(Path::new(&from))?;
        let image = tree.entry("image").or_insert_with(|| Value::Table(Table::new()));
        let image = image.as_table_mut().context("image is not a table")?;
        if tiling != Tiling::default() {
            image.entry("tiling").or_insert(Value::try_from(tiling)?);
        }
    }
    Ok(Some(fingerprint(&connector.tensors)))
}

/// The same for the same weights.
fn fingerprint(tensors: &[Named]) -> String {
    let mut hash = Xxh3::new();
    for (path, _, values) in tensors {
        hash.update(path.as_bytes());
        values.iter().for_each(|value| hash.update(&value.to_le_bytes()));
    }
    format!("{:016x}", hash.digest())
}

/// A language model as its origin has it.
struct PretrainedLm {
    imported: ImportedLm,
    /// The same for the same weights.
    fingerprint: String,
    tokenizer: Option<TokenizerFile>,
}

/// Where the part `part` of the model comes from, if the recipe says so.
fn origin(tree: &Table, part: &str) -> Result<Option<String>> {
    let from = tree.get("model").and_then(|model| model.get(part)?.get("from"));
    match from {
        None => Ok(None),
        Some(Value::String(from)) => Ok(Some(from.clone())),
        Some(other) => bail!("model.{part}.from is a {}, not a path", other.type_str()),
    }
}

/// Puts what the origin `from` has into the part `part` of the model, where the recipe leaves it out.
///
/// # Errors
/// A setting that differs, and is not one of `free`.
fn settle(tree: &mut Table, (part, from): (&str, &str), own: Table, free: &[&str]) -> Result<()> {
    let model = tree.get_mut("model").and_then(Value::as_table_mut);
    let Some(written) = model.and_then(|model| model.get_mut(part)).and_then(Value::as_table_mut) else {
        return Ok(());
    };
    for (key, value) in own {
        let written = written.entry(key.clone()).or_insert_with(|| value.clone());
        ensure!(
            *written == value || free.contains(&key.as_str()),
            "model.{part}.{key} = {written}, but {from} has {value}: leave it out"
        );
    }
    Ok(())
}

/// Completes the decoder of `tree` and says which tokenizer it has; the decoder, where the recipe has one
/// that is there already.
fn fill_lm(tree: &mut Table) -> Result<Option<PretrainedLm>> {
    let Some(from) = origin(tree, "lm")? else { return Ok(None) };
    let (imported, mut hash) = (open_lm(Path::new(&from))?, Xxh3::new());
    imported.identify(|piece| hash.update(piece))?;
    settle(tree, ("lm", &from), Table::try_from(&imported.config)?, &[])?;
    let tokenizer = fill_tokenizer(tree, &from)?;
    Ok(Some(PretrainedLm { imported, fingerprint: format!("{:016x}", hash.digest()), tokenizer }))
}

/// Completes `[tokenizer]` by that of the language model `from`, and says how it writes conversations; the
/// file, where it was read for that.
fn fill_tokenizer(tree: &mut Table, from: &str) -> Result<Option<TokenizerFile>> {
    if !tree.contains_key("tokenizer") {
        let path = match lm::gguf_file(Path::new(from))? {
            Some(file) => file,
            None => Path::new(from).join("tokenizer.json"),
        };
        ensure!(
            path.exists(),
            "model.lm.from = \"{from}\" has no tokenizer.json: give it by [tokenizer] kind = \"file\""
        );
        let own = TokenizerConfig::File { path, chat: ChatForm::Own };
        tree.insert("tokenizer".to_owned(), Value::try_from(own)?);
    }
    let written =
        tree.get_mut("tokenizer").and_then(Value::as_table_mut).context("tokenizer is not a table")?;
    ensure!(
        written.get("kind").and_then(Value::as_str) == Some("file"),
        "tokenizer: the ids of model.lm.from = \"{from}\" are those of its own tokenizer: leave [tokenizer] \
         out, or give its file by kind = \"file\""
    );
    let path = written.get("path").and_then(Value::as_str).map(Path::new);
    let Some(path) = path.filter(|path| path.exists() && !written.contains_key("chat")) else {
        return Ok(None);
    };
    let file = TokenizerFile::read(path).context("tokenizer.path")?;
    let form = if file.template.is_some() { ChatForm::Template } else { ChatForm::Own };
    written.insert("chat".to_owned(), Value::try_from(form)?);
    Ok(Some(file))
}

/// Reads the language model at `from`, but for its values.
///
/// # Errors
/// What is no language model that can be imported.
pub(crate) fn open_lm(from: &Path) -> Result<ImportedLm> {
    lm::open(from).with_context(|| format!("model.lm.from = \"{}\"", from.display()))
}

/// Completes the encoder of `tree`. The hash of its weights, where the recipe has one that is there already.
fn fill(tree: &mut Table) -> Result<Option<String>> {
    let Some(from) = origin(tree, "vision")? else { return Ok(None) };
    let sized = tree["model"]["vision"].get("image_size").is_some();
    let origin = PretrainedEncoder::open(Path::new(&from))?;
    let PretrainedEncoder { encoder, image } = origin;
    let fingerprint = fingerprint(&encoder.tensors);
    settle(tree, ("vision", &from), Table::try_from(&encoder.config)?, &FREE)?;
    let own_size = encoder.config.image_size;
    if let Some(image) = image.as_ref().filter(|image| !sized && image.size != own_size) {
        bail!(
            "model.vision.from = \"{from}\": its pictures are of {} pixels by its preprocessor's settings, \
             and of {own_size} by its config.json: set model.vision.image_size to the one that is meant",
            image.size
        );
    }
    fill_image(tree, &from, image)?;
    Ok(Some(fingerprint))
}

/// Completes `[image]` by what the encoder of `from` says of its pictures.
///
/// # Errors
/// A setting that differs: the encoder would see other pictures than those it was trained on.
fn fill_image(tree: &mut Table, from: &str, said: Option<ImageSpec>) -> Result<()> {
    let size = vision_size(tree)?;
    let section = tree.entry("image").or_insert_with(|| Value::Table(Table::new()));
    let section = section.as_table_mut().context("image is not a table")?;
    let Some(said) = said else {
        let missing: Vec<_> = ASKED.iter().filter(|field| !section.contains_key(**field)).collect();
        ensure!(
            missing.is_empty(),
            "model.vision.from = \"{from}\" has no preprocessor_config.json and no processor_config.json: \
             put it there, or set {} as the encoder was trained",
            missing.iter().map(|field| format!("image.{field}")).collect::<Vec<_>>().join(", ")
        );
        return Ok(());
    };
    // The same share of a picture at the recipe's size.
    let config = said.at(size).config;
    // Through text, so that numbers are those that a person would write.
    let mut own: Table = toml::to_string(&config)?.parse()?;
    own.insert("filter".to_owned(), Value::try_from(config.filter)?);
    for (key, value) in own {
        let written = section.entry(key.clone()).or_insert_with(|| value.clone());
        ensure!(
            key == FREE_OF_IMAGE || same_setting(written, &value),
            "image.{key} = {written}, but {from} has {value}: leave it out"
        );
    }
    Ok(())
}

/// Whether two settings are the same; numbers are when they are in f32, as pictures are prepared.
fn same_setting(a: &Value, b: &Value) -> bool {
    let number = |value: &Value| value.as_float().or_else(|| value.as_integer().map(|n| n as f64));
    match (a, b) {
        (Value::Array(a), Value::Array(b)) => {
            a.len() == b.len() && a.iter().zip(b).all(|(a, b)| same_setting(a, b))
        }
        _ => match (number(a), number(b)) {
            (Some(a), Some(b)) => a as f32 == b as f32,
            _ => a == b,
        },
    }
}

/// The recipe's `model.vision.image_size`, in pixels.
fn vision_size(tree: &Table) -> Result<usize> {
    let size = tree.get("model").and_then(|model| model.get("vision")?.get("image_size")?.as_integer());
    size.and_then(|size| usize::try_from(size).ok())
        .context("model.vision.image_size is not a number of pixels")
}
