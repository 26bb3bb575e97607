//! A decoder or an image encoder alone, in the form in which transformers has it and `from` of a recipe reads
//! it again.

use std::path::Path;

use anyhow::{Context as _, Result, ensure};
use serde_json::{Map, Value, json};

use super::encoder_form::EncoderForm;
use super::lm::{self, LmForm};
use super::part::Places;
use super::shards::{FloatType, LosslessTypes, SHARD_BYTES, SafetensorsWriter, TensorFolder};
use super::{smallest_type, write_json, write_parts};
use crate::import::lm_names::HUGGING_FACE;
use crate::lm::{Lm, LmConfig};
use crate::vision::VisionConfig;
use crate::weights;

/// A decoder that is written alone.
#[derive(Clone, Copy, Debug)]
pub struct ExportedDecoder<'a> {
    /// Its parameters.
    pub lm: &'a Lm,
    /// Its shape.
    pub config: &'a LmConfig,
    /// The longest text that it was trained on, if that is known.
    /// Unit: tokens.
    pub context: Option<usize>,
    /// Ids of tokens with a meaning, as a `config.json` has them: `bos_token_id` and so on.
    pub token_ids: &'a Map<String, Value>,
}

/// Writes weights and `config.json` of a decoder into the folder `folder`, which is there, as a Llama, a
/// Qwen2 or a Qwen3. Numbers are of the type `numbers`, by default of the smallest that loses nothing.
/// Gives the type.
///
/// # Errors
/// One line: a decoder that transformers does not have, a value that the type can't hold, a file that can't
/// be written.
pub fn write_decoder(
    folder: &Path,
    exported: &ExportedDecoder<'_>,
    numbers: Option<FloatType>,
) -> Result<FloatType> {
    let ExportedDecoder { lm, config, context, token_ids } = *exported;
    let mut settings = lm::settings(config, context.unwrap_or_default())?;
    let form = LmForm { names: &HUGGING_FACE, pairs: false };
    let mut places = Places::new();
    for (path, shape) in weights::shapes(lm) {
        let own = form.places(&path, &shape, config).with_context(|| format!("`{path}`"))?;
        places.insert(path, own);
    }
    let numbers = numbers.map_or_else(|| smallest_type(lm, &places), Ok)?;
    write_parts(lm, &places, TensorFolder { folder, numbers, shard_bytes: SHARD_BYTES })?;
    if let Some(settings) = settings.as_object_mut() {
        if context.is_none() {
            settings.remove("max_position_embeddings");
        }
        settings.extend(token_ids.clone());
    }
    settings["torch_dtype"] = json!(numbers.torch_name());
    write_json(folder, "config.json", &settings)?;
    Ok(numbers)
}

/// Writes weights and `config.json` of an image encoder into the folder `folder`, which is there, as a
/// CLIP, a SigLIP or a DINOv2, whichever has its parts: its shape, and its parameters by their paths in
/// [`Vision`](crate::vision::Vision). Numbers are as [`write_decoder`] says. Gives the type.
///
/// # Errors
/// As [`write_decoder`].
pub fn write_encoder(
    folder: &Path,
    (config, parameters): (&VisionConfig, &[weights::Named]),
    numbers: Option<FloatType>,
) -> Result<FloatType> {
    ensure!(
        config.last_norm,
        "the image encoders of transformers have a norm after the last block: only the whole model can be \
         written"
    );
    let form =
        EncoderForm::of(config).context("none of transformers is so: only the whole model can be written")?;
    let tensors = tensors(form, config, parameters)?;
    let numbers = numbers.unwrap_or_else(|| {
        let mut lossless = LosslessTypes::default();
        tensors.iter().for_each(|(_, _, values)| lossless.see(values));
        lossless.smallest()
    });
    let plans = tensors.iter().map(|(name, shape, _)| (name.clone(), shape.clone())).collect();
    let to = TensorFolder { folder, numbers, shard_bytes: SHARD_BYTES };
    let mut writer = SafetensorsWriter::new(to, plans)?;
    tensors.iter().try_for_each(|(_, _, values)| writer.put(values))?;
    writer.finish()?;
    let mut settings = form.settings(config);
    settings["torch_dtype"] = json!(numbers.torch_name());
    write_json(folder, "config.json", &settings)?;
    Ok(numbers)
}

/// Every tensor of the file: name, shape, values.
fn tensors(
    form: EncoderForm,
    config: &VisionConfig,
    parameters: &[weights::Named],
) -> Result<Vec<weights::Named>> {
    let (names, mut found) = (form.names(), Vec::new());
    for (path, shape, values) in parameters {
        if form == EncoderForm::Clip && path == "patch_bias" {
            let none = values.iter().all(|value| value.to_bits() == 0);
            ensure!(none, "the patches of a CLIP have no bias: only the whole model can be written");
        }
        let parts = form.places(&names, (path, shape), config).with_context(|| format!("`{path}`"))?;
        let width = shape[shape.len() - 1];
        found.extend(parts.into_iter().map(|part| {
            let values = part.values(values, width);
            (part.name, part.shape, values)
        }));
    }
    Ok(found)
}
