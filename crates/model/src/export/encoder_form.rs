//! Image encoders as transformers has them: which of them one of ours is, and what its parameters become.

use anyhow::{Context as _, Result, bail, ensure};
use serde_json::{Value, json};

use super::part::{ExportedPart, ParameterPart, constant};
use super::vision::{DINOV2, SIGLIP, VisionNames};
use crate::vision::{Stem, VisionActivation, VisionConfig};

/// An image encoder's form in transformers.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) enum EncoderForm {
    Clip,
    Siglip,
    Dinov2,
}

impl EncoderForm {
    /// The one that has the parts of this encoder.
    ///
    /// # Errors
    /// One line with the field: an encoder that none is.
    pub(crate) fn of(config: &VisionConfig) -> Result<Self> {
        ensure!(
            config.stem == Stem::Patch,
            "model.vision.stem = \"conv\", but the image encoders of transformers map patches: set it to \
             \"patch\""
        );
        match (config.class_token, config.pre_norm) {
            (true, true) => Ok(Self::Clip),
            (true, false) => Ok(Self::Dinov2),
            (false, false) => Ok(Self::Siglip),
            (false, true) => bail!(
                "model.vision.pre_norm = true, but of the image encoders of transformers only CLIP has a \
                 norm before the first block, and a class token: set class_token to true, or pre_norm to \
                 false"
            ),
        }
    }

    pub(crate) fn names(self) -> VisionNames {
        match self {
            Self::Clip | Self::Siglip => SIGLIP,
            Self::Dinov2 => DINOV2,
        }
    }

    /// What the encoder's parameter at `path` of this shape becomes, by `names`. What was computed into other
    /// parameters on the way in stands beside them so that it changes no bit: the position of the class token
    /// is a negative zero, the factors of LayerScale are 1, and so is a last norm that nobody looks behind.
    ///
    /// # Errors
    /// A parameter that has no place.
    pub(crate) fn places(
        self,
        names: &VisionNames,
        (path, shape): (&str, &[usize]),
        config: &VisionConfig,
    ) -> Result<Vec<ExportedPart>> {
        // The patches of a CLIP have no bias.
        if self == Self::Clip && path == "patch_bias" {
            return Ok(Vec::new());
        }
        let mut parts = names.places(path, shape, config)?;
        let dim = config.dim;
        match (self, path) {
            (Self::Clip, "class_token") => parts[0].shape = vec![dim],
            (Self::Dinov2, "class_token") => parts[0].shape = vec![1, 1, dim],
            (Self::Clip, "position") => behind_class(&mut parts[0], vec![shape[0] + 1, dim]),
            (Self::Dinov2, "position") => behind_class(&mut parts[0], vec![1, shape[0] + 1, dim]),
            _ => {}
        }
        parts.extend(scale(names, path, dim)?);
        if path == "patch" && !config.last_norm {
            let norm = |kind| format!("{}{}.{kind}", names.prefix, names.norm);
            parts.extend([constant(norm("weight"), dim, 1.0), constant(norm("bias"), dim, 0.0)]);
        }
        Ok(parts)
    }

    /// `config.json` of the encoder, or its part of one.
    pub(crate) fn settings(self, config: &VisionConfig) -> Value {
        let mut settings = json!({
            "hidden_size": config.dim,
            "num_hidden_layers": config.blocks(),
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

/// A table of positions behind the row of the class token.
fn behind_class(table: &mut ExportedPart, shape: Vec<usize>) {
    *table = ExportedPart { name: table.name.clone(), shape, part: ParameterPart::BehindRow };
}

/// The factors of LayerScale behind the map at `path`, where the form has them.
fn scale(names: &VisionNames, path: &str, dim: usize) -> Result<Option<ExportedPart>> {
    let Some(scales) = names.block.scales else { return Ok(None) };
    let Some((layer, map)) = path.strip_prefix("blocks.").and_then(|rest| rest.split_once('.')) else {
        return Ok(None);
    };
    let layer: usize = layer.parse().context("its block has no number")?;
    let scale = match map {
        "attention.out" => scales[0],
        "mlp.down" => scales[1],
        _ => return Ok(None),
    };
    Ok(Some(constant(format!("{}{}.{layer}.{scale}", names.prefix, names.block.blocks), dim, 1.0)))
}

/// The number that gives `wanted` where it is multiplied with `of` and cut to a whole number.
fn ratio(wanted: usize, of: usize) -> f64 {
    let ratio = wanted as f64 / of as f64;
    if (of as f64 * ratio) as usize == wanted { ratio } else { ratio.next_up() }
}
