//! A model of ours in forms of other programs: which of its parameters becomes which of their tensors, and
//! what their settings say of it. [`write_model`] writes it for transformers, [`read_back`] reads that again.

mod alone;
pub(crate) mod connector;
pub(crate) mod encoder_form;
pub mod idefics3;
pub mod llava;
pub(crate) mod lm;
pub(crate) mod model_names;
mod own;
pub(crate) mod part;
mod shards;
pub(crate) mod vision;

use std::fs;
use std::path::Path;

use anyhow::{Context as _, Result, ensure};
use burn::module::Module;
use schemars::JsonSchema;
use serde::{Deserialize, Serialize};
use serde_json::{Value, json};

pub use self::alone::{ExportedDecoder, write_decoder, write_encoder};
pub use self::connector::check_connector;
pub(crate) use self::connector::pool_side;
use self::lm::LmForm;
use self::model_names::ModelNames;
use self::part::Places;
pub use self::shards::{FloatType, SHARD_BYTES};
use self::shards::{LosslessTypes, SafetensorsWriter, TensorFolder};
use crate::import::files;
use crate::mm1::Mm1;
use crate::vision::VisionConfig;
use crate::weights;

/// The form that a trained model is to have in other programs.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq, Serialize, Deserialize, JsonSchema)]
#[serde(rename_all = "kebab-case")]
pub enum ExportForm {
    /// One of its own. transformers reads it by a modelling file beside the weights; llama.cpp reads the
    /// language model alone.
    #[default]
    Own,
    /// Idefics3, which SmolVLM is too: transformers and llama.cpp read it as it is. What it can't be is
    /// refused when the recipe is checked, and pictures stand between its marker tokens.
    Idefics3,
    /// LLaVA: transformers and llama.cpp read it as it is. What it can't be is refused when the recipe is
    /// checked; a picture in a prompt is its image tokens alone.
    Llava,
}

impl ExportForm {
    /// How it calls the tensors of a model with this encoder.
    ///
    /// # Errors
    /// An encoder that the form has not.
    pub(crate) fn names(self, vision: &VisionConfig) -> Result<ModelNames> {
        match self {
            Self::Own => Ok(own::NAMES),
            Self::Idefics3 => Ok(idefics3::NAMES),
            Self::Llava => llava::names(vision),
        }
    }

    /// How it calls the tensors of a decoder.
    pub(crate) fn lm(self) -> LmForm {
        match self {
            Self::Own => own::NAMES.lm,
            Self::Idefics3 => idefics3::NAMES.lm,
            Self::Llava => llava::LM,
        }
    }

    /// The same model with parameters that the form has a place for, which differs by rounding alone.
    ///
    /// # Errors
    /// A model that the form is not.
    pub fn prepared(self, model: &Mm1) -> Result<Mm1> {
        match self {
            Self::Own | Self::Idefics3 => Ok(model.clone()),
            Self::Llava => llava::prepared(model),
        }
    }

    fn all_places(self, model: &Mm1) -> Result<Places> {
        let (names, shapes) = (self.names(&model.config().vision)?, weights::shapes(model).into_iter());
        shapes
            .map(|(path, shape)| {
                let places = names.places(&path, &shape, model.config());
                let places = places.with_context(|| format!("`{path}`"))?;
                Ok((path, places))
            })
            .collect()
    }
}

/// Token ids that settings name.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct ExportedIds {
    /// At the places of image tokens.
    pub image: u32,
    /// Fills the end of a row.
    pub pad: u32,
    /// Put before each text, if one is.
    pub begin: Option<u32>,
    /// By which an answer ends.
    pub ends: Vec<u32>,
}

/// What is written.
#[derive(Clone, Copy, Debug)]
pub struct ExportedModel<'a> {
    /// The network, without adapters of its own, and [`ExportForm::prepared`].
    pub model: &'a Mm1,
    /// The form.
    pub form: ExportForm,
    /// How its numbers lie in the files. By default of the smallest type that loses nothing.
    pub numbers: Option<FloatType>,
    /// The most bytes of tensors in one file, such as [`SHARD_BYTES`]; of more there are several, with an
    /// index.
    pub shard_bytes: usize,
    /// The longest text that it was trained on.
    /// Unit: tokens.
    pub context: usize,
    /// Of its tokenizer.
    pub ids: &'a ExportedIds,
}

/// Writes weights, `config.json` and `generation_config.json` into the folder `folder`, which is there; in
/// its own form the modelling file too. Gives the type of the numbers.
///
/// # Errors
/// One line: a network that the form is not, a value that the type can't hold, a file that can't be written.
pub fn write_model(folder: &Path, exported: &ExportedModel<'_>) -> Result<FloatType> {
    let ExportedModel { model, form, context, ids, shard_bytes, .. } = *exported;
    check_connector(&model.config().connector)?;
    let settings = match form {
        ExportForm::Own => own::settings(model.config(), context)?,
        ExportForm::Idefics3 => {
            idefics3::check(model.config())?;
            idefics3::settings(model.config(), context)?
        }
        ExportForm::Llava => {
            llava::check(model.config())?;
            llava::settings(model.config(), context, ids.image)?
        }
    };
    let places = form.all_places(model)?;
    let numbers = exported.numbers.map_or_else(|| smallest_type(model, &places), Ok)?;
    write_parts(model, &places, TensorFolder { folder, numbers, shard_bytes })?;
    write_json(folder, "config.json", &with_ids(settings, exported, numbers))?;
    let mut generation = json!({"do_sample": false, "eos_token_id": ids.ends, "pad_token_id": ids.pad});
    if let Some(begin) = ids.begin {
        generation["bos_token_id"] = json!(begin);
    }
    write_json(folder, "generation_config.json", &generation)?;
    if form == ExportForm::Own {
        let [name, text] = own::MODELLING_FILE;
        let path = folder.join(name);
        fs::write(&path, text).with_context(|| format!("{} can't be written", path.display()))?;
    }
    Ok(numbers)
}

/// Writes the tensors that the parameters of `module` become.
fn write_parts<M: Module>(module: &M, places: &Places, to: TensorFolder<'_>) -> Result<()> {
    let plans = part::in_order(module, places).into_iter();
    let plans = plans.map(|part| (part.name.clone(), part.shape.clone())).collect();
    let mut writer = SafetensorsWriter::new(to, plans)?;
    part::visit(module, places, |values| writer.put(values))?;
    writer.finish()
}

/// The smallest type that loses nothing of the tensors that the parameters of `module` become.
fn smallest_type<M: Module>(module: &M, places: &Places) -> Result<FloatType> {
    let mut lossless = LosslessTypes::default();
    part::visit(module, places, |values| {
        lossless.see(values);
        Ok(())
    })?;
    Ok(lossless.smallest())
}

/// What the settings of all forms have.
fn with_ids(mut settings: Value, exported: &ExportedModel<'_>, numbers: FloatType) -> Value {
    let ExportedModel { model, ids, .. } = *exported;
    let numbers = numbers.torch_name();
    for (field, value) in [
        ("image_token_id", json!(ids.image)),
        ("pad_token_id", json!(ids.pad)),
        ("bos_token_id", json!(ids.begin)),
        ("eos_token_id", json!(ids.ends)),
        ("tie_word_embeddings", json!(model.config().lm.tied)),
        ("torch_dtype", json!(numbers)),
        ("use_cache", json!(true)),
    ] {
        settings[field] = value;
    }
    for (field, value) in [
        ("pad_token_id", json!(ids.pad)),
        ("bos_token_id", json!(ids.begin)),
        ("torch_dtype", json!(numbers)),
    ] {
        settings["text_config"][field] = value;
    }
    settings["text_config"]["eos_token_id"] = json!(ids.ends);
    settings
}

/// Writes a JSON document.
///
/// # Errors
/// A file that can't be written.
pub fn write_json(folder: &Path, name: &str, document: &Value) -> Result<()> {
    let path = folder.join(name);
    let text = format!("{}\n", serde_json::to_string_pretty(document)?);
    fs::write(&path, text).with_context(|| format!("{} can't be written", path.display()))
}

/// A network that was read from files, and whether they have what they should.
pub struct ReadBack {
    /// The network.
    pub model: Mm1,
    /// How many parameters it has, as tensors.
    pub tensors: usize,
    /// How many of them have the bits of the exported one's, rounded to the type of the files.
    pub equal: usize,
}

/// Reads what [`write_model`] has written into `folder` as `numbers`, and compares it with the network
/// that was to be written.
///
/// # Errors
/// One line with the tensor that is missing, superfluous, of another shape, or that says different things of
/// one value.
pub fn read_back(folder: &Path, exported: &ExportedModel<'_>, numbers: FloatType) -> Result<ReadBack> {
    let ExportedModel { model, form, .. } = *exported;
    let mut tensors = files::tensors(folder)?;
    let (mut found, mut equal) = (Vec::new(), 0);
    let places = form.all_places(model)?;
    part::visit_whole(model, |path, shape, ours| {
        let parts = places.get(path).context("it has no place")?;
        let values = part::put_together(parts, shape, |part| {
            let tensor = tensors.remove(&part.name);
            let tensor = tensor.with_context(|| format!("`{}` is missing", part.name))?;
            ensure!(
                tensor.shape == part.shape,
                "`{}` is {:?}, needs {:?}",
                part.name,
                tensor.shape,
                part.shape
            );
            tensor.values.read()
        })?;
        let rounded = part::put_together(parts, shape, |part| {
            let values = part.values(ours, shape[shape.len() - 1]);
            Ok(values.into_iter().map(|value| numbers.rounded(value)).collect())
        })?;
        equal += usize::from(values.iter().map(|v| v.to_bits()).eq(rounded.iter().map(|v| v.to_bits())));
        found.push((path.to_owned(), shape.to_vec(), values));
        Ok(())
    })?;
    if let Some(name) = tensors.keys().next() {
        anyhow::bail!("`{name}` is not of the model");
    }
    let tensors = found.len();
    let model = weights::assign(Mm1::new(model.config(), 0, &model.device())?, found)?;
    Ok(ReadBack { model, tensors, equal })
}
