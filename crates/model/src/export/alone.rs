//! A decoder or an image encoder alone, in the form in which transformers has it and `from` of a recipe reads
//! it again.

use std::path::Path;

use anyhow::{Context as _, Result, bail, ensure};
use serde_json::{Map, Value, json};

use super::lm::{self, LmForm};
use super::part::{ExportedPart, Places};
use super::shards::{FloatType, LosslessTypes, SHARD_BYTES, SafetensorsWriter, TensorFolder};
use super::vision::{DINOV2, SIGLIP, VisionNames};
use super::{smallest_type, write_json, write_parts};
use crate::import::lm_names::HUGGING_FACE;
use crate::lm::{Lm, LmConfig};
use crate::vision::{Stem, VisionActivation, VisionConfig};
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

/// An image encoder's form in transformers.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
enum EncoderForm {
    Clip,
    Siglip,
    Dinov2,
}

/// Writes weights and `config.json` of an image encoder into the folder `folder`, which is there, as a
/// CLIP, a SigLIP or a DINOv2, whichever has its parts: its shape, and its parameters by their paths in
/// [`Vision`](crate::vision::Vision). Numbers are as [`write_decoder`] says. Gives the type.
///
/// What was computed into other parameters on the way in stands beside them so that it changes no bit: the
/// position of the class token is a negative zero, the factors of LayerScale are 1.
///
/// # Errors
/// As [`write_decoder`].
pub fn write_encoder(
    folder: &Path,
    (config, parameters): (&VisionConfig, &[weights::Named]),
    numbers: Option<FloatType>,
) -> Result<FloatType> {
    let form = EncoderForm::of(config)?;
    let tensors = form.tensors(config, parameters)?;
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

impl EncoderForm {
    fn of(config: &VisionConfig) -> Result<Self> {
        ensure!(
            config.stem == Stem::Patch,
            "no image encoder of transformers has a convolutional stem: only the whole model can be written"
        );
        match (config.class_token, config.pre_norm) {
            (true, true) => Ok(Self::Clip),
            (true, false) => Ok(Self::Dinov2),
            (false, false) => Ok(Self::Siglip),
            (false, true) => bail!(
                "no image encoder of transformers has a norm before the first block and no class token: only \
                 the whole model can be written"
            ),
        }
    }

    fn names(self) -> &'static VisionNames {
        match self {
            Self::Clip | Self::Siglip => &SIGLIP,
            Self::Dinov2 => &DINOV2,
        }
    }

    /// Every tensor of the file: name, shape, values.
    fn tensors(self, config: &VisionConfig, parameters: &[weights::Named]) -> Result<Vec<weights::Named>> {
        let (names, mut found) = (self.names(), Vec::new());
        for (path, shape, values) in parameters {
            if self == Self::Clip && path == "patch_bias" {
                let none = values.iter().all(|value| value.to_bits() == 0);
                ensure!(none, "the patches of a CLIP have no bias: only the whole model can be written");
                continue;
            }
            let parts = names.places(path, shape, config).with_context(|| format!("`{path}`"))?;
            let width = shape[shape.len() - 1];
            found.extend(parts.into_iter().map(|part| {
                let values = part.values(values, width);
                self.with_class_token(path, part, values, width)
            }));
        }
        let (block, dim) = (names.block, config.dim);
        let scales = |layer| {
            let named = move |scale| format!("{}.{layer}.{scale}", block.blocks);
            block.scales.into_iter().flatten().map(named)
        };
        found.extend((0..config.layers).flat_map(scales).map(|name| (name, vec![dim], vec![1.0; dim])));
        Ok(found)
    }

    /// A tensor as an encoder with a class token has it: the table of positions begins with that of the
    /// token.
    fn with_class_token(
        self,
        path: &str,
        part: ExportedPart,
        values: Vec<f32>,
        width: usize,
    ) -> weights::Named {
        let ExportedPart { name, shape, .. } = part;
        match (self, path) {
            (Self::Clip, "class_token") => (name, vec![width], values),
            (Self::Dinov2, "class_token") => (name, vec![1, 1, width], values),
            (Self::Clip | Self::Dinov2, "position") => {
                let rows = shape[0] + 1;
                // Of all numbers this one alone changes no bit of what it is added to.
                let values = [vec![-0.0; width], values].concat();
                (name, if self == Self::Clip { vec![rows, width] } else { vec![1, rows, width] }, values)
            }
            _ => (name, shape, values),
        }
    }

    fn settings(self, config: &VisionConfig) -> Value {
        let mut settings = json!({
            "hidden_size": config.dim,
            "num_hidden_layers": config.layers,
            "num_attention_heads": config.heads,
            "num_channels": 3,
            "image_size": config.image_size,
            "patch_size": config.patch,
            "hidden_act": match config.activation {
                VisionActivation::Gelu => "gelu",
                VisionActivation::QuickGelu => "quick_gelu",
                VisionActivation::GeluTanh => "gelu_pytorch_tanh",
            },
            "layer_norm_eps": config.norm_eps,
        });
        let own = match self {
            Self::Clip => json!({
                "model_type": "clip_vision_model",
                "architectures": ["CLIPVisionModel"],
                "intermediate_size": config.ffn,
            }),
            Self::Siglip => json!({
                "model_type": "siglip_vision_model",
                "architectures": ["SiglipVisionModel"],
                "intermediate_size": config.ffn,
                "vision_use_head": false,
            }),
            Self::Dinov2 => json!({
                "model_type": "dinov2",
                "architectures": ["Dinov2Model"],
                "mlp_ratio": ratio(config.ffn, config.dim),
                "use_mask_token": false,
            }),
        };
        for (field, value) in own.as_object().into_iter().flatten() {
            settings[field] = value.clone();
        }
        settings
    }
}

/// The number that gives `wanted` where it is multiplied with `of` and cut to a whole number.
fn ratio(wanted: usize, of: usize) -> f64 {
    let ratio = wanted as f64 / of as f64;
    if (of as f64 * ratio) as usize == wanted { ratio } else { ratio.next_up() }
}
