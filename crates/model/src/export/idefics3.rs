//! The model as an Idefics3 (Laurençon et al. 2024), which SmolVLM is as well: transformers and, in
//! GGUF, llama.cpp run it without code of ours.
//!
//! # Why an average pool is one
//! Idefics3 puts the features of n x n patches side by side and maps them without a bias. With the same map
//! n n times, each divided by n n, that is the mean of the patches, mapped.
//!
//! # The table of positions
//! Idefics3 finds the place of patch i of g in its table by comparing i / g with the boundaries of the
//! table's places. transformers 4.57 multiplies i / g with 1 - 1e-6 before, and so takes place i - 1; other
//! versions miss some places by rounding. So the table has twice the side, 2g: patch i belongs between the
//! boundaries 2i - 1 and 2i + 1, half a patch from both, and every version finds it. `image_size` is doubled
//! for that. Pictures have the size of the preprocessor's `max_image_size`.

use anyhow::{Result, ensure};
use serde_json::{Value, json};

use super::connector::{ConnectorNames, pool_side};
use super::lm::{self, LmForm};
use super::model_names::ModelNames;
use super::vision::{PositionTable, SIGLIP, VisionNames};
use crate::block_names;
use crate::config::Mm1Config;
use crate::import::lm_names::{GGUF, IDEFICS3};
use crate::lm::LmConfig;
use crate::vision::{Stem, VisionActivation, VisionConfig};

/// Refuses a network that no Idefics3 is.
///
/// # Errors
/// One line with the field, what Idefics3 has, and the remedy.
pub fn check(model: &Mm1Config) -> Result<()> {
    check_vision(&model.vision)?;
    pool_side(model)?;
    check_lm(&model.lm)
}

fn check_vision(vision: &VisionConfig) -> Result<()> {
    let remedy = "; another encoder, or export = \"own\", does as well";
    ensure!(
        !vision.class_token,
        "model.vision.class_token = true, but the encoder of Idefics3 has no class token: set it to \
         false{remedy}"
    );
    ensure!(
        vision.stem == Stem::Patch,
        "model.vision.stem = \"conv\", but Idefics3 maps patches: set it to \"patch\"{remedy}"
    );
    ensure!(
        !vision.pre_norm,
        "model.vision.pre_norm = true, but Idefics3 has no norm before the first block: set it to \
         false{remedy}"
    );
    let activation = serde_json::to_value(vision.activation)?;
    ensure!(
        vision.activation == VisionActivation::GeluTanh,
        "model.vision.activation = {activation}, but Idefics3 has \"gelu-tanh\": set it to that{remedy}"
    );
    Ok(())
}

fn check_lm(lm: &LmConfig) -> Result<()> {
    for (field, set) in [("qkv_bias", lm.qkv_bias), ("qk_norm", lm.qk_norm)] {
        ensure!(
            !set,
            "model.lm.{field} = true, but the decoder of Idefics3 is a Llama, which has none: take a Llama, \
             or export = \"own\""
        );
    }
    Ok(())
}

/// Names in transformers.
pub(crate) const NAMES: ModelNames = ModelNames {
    vision: VisionNames {
        prefix: "model.vision_model.",
        position: PositionTable { name: "embeddings.position_embedding.weight", doubled: true },
        ..SIGLIP
    },
    encoder: None,
    connector: ConnectorNames::Joined("model.connector.modality_projection.proj.weight"),
    lm: LmForm { names: &IDEFICS3, pairs: false },
};

/// Names in llama.cpp: of encoder and connector in one file, of the decoder in another.
pub(crate) const GGUF_NAMES: ModelNames = ModelNames {
    vision: VisionNames {
        prefix: "v.",
        patch: "patch_embd",
        position: PositionTable { name: "position_embd.weight", doubled: false },
        block: block_names::GGUF,
        norm: "post_ln",
        ..SIGLIP
    },
    encoder: None,
    connector: ConnectorNames::Joined("mm.model.fc.weight"),
    lm: LmForm { names: &GGUF, pairs: true },
};

/// `config.json`, but for what all forms have; `context` is the longest text that it was trained on, in
/// tokens.
///
/// # Errors
/// As [`check`].
pub(crate) fn settings(model: &Mm1Config, context: usize) -> Result<Value> {
    let vision = &model.vision;
    Ok(json!({
        "model_type": "idefics3",
        "architectures": ["Idefics3ForConditionalGeneration"],
        "scale_factor": pool_side(model)?,
        "text_config": lm::settings(&model.lm, context)?,
        "vision_config": {
            "model_type": "idefics3_vision",
            "hidden_size": vision.dim,
            "intermediate_size": vision.ffn,
            "num_hidden_layers": vision.blocks(),
            "num_attention_heads": vision.heads,
            "num_channels": 3,
            "image_size": 2 * vision.image_size,
            "patch_size": vision.patch,
            "hidden_act": "gelu_pytorch_tanh",
            "layer_norm_eps": vision.norm_eps,
        },
    }))
}
