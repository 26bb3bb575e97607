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

use anyhow::{Context as _, Result, bail, ensure};
use serde_json::{Value, json};

use super::lm::{self, LmForm};
use super::part::{ExportedPart, ParameterPart};
use super::vision::VisionNames;
use crate::config::Mm1Config;
use crate::connector::ConnectorConfig;
use crate::import::lm_names::HUGGING_FACE;
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
        "model.vision.class_token = true, but the encoder of Idefics3 has no class token: set it to false{remedy}"
    );
    ensure!(
        vision.stem == Stem::Patch,
        "model.vision.stem = \"conv\", but Idefics3 maps patches: set it to \"patch\"{remedy}"
    );
    ensure!(
        !vision.pre_norm,
        "model.vision.pre_norm = true, but Idefics3 has no norm before the first block: set it to false{remedy}"
    );
    let activation = serde_json::to_value(vision.activation)?;
    ensure!(
        vision.activation == VisionActivation::GeluTanh,
        "model.vision.activation = {activation}, but Idefics3 has \"gelu-tanh\": set it to that{remedy}"
    );
    Ok(())
}

/// Patches along a side of those that become one image token.
///
/// # Errors
/// A connector that is no mean of whole squares of patches, or has a bias.
pub fn pool_side(model: &Mm1Config) -> Result<usize> {
    let ConnectorConfig::AveragePool(pool) = &model.connector else {
        bail!(
            "model.connector.kind: Idefics3 joins squares of patches, which is \"average-pool\" alone: take that, \
             or export = \"own\""
        )
    };
    ensure!(
        !pool.bias,
        "model.connector.bias: the connector of Idefics3 has no bias: set it to false, or take export = \"own\""
    );
    let (grid, side) = (model.vision.grid(), pool.tokens.isqrt());
    let possible = (1..=grid).filter(|side| grid.is_multiple_of(*side)).map(|side| (side * side).to_string());
    ensure!(
        grid.is_multiple_of(side),
        "model.connector.tokens = {}, but Idefics3 pools whole squares of the {grid}x{grid} patches: take one \
         of {}",
        pool.tokens,
        possible.collect::<Vec<_>>().join(", ")
    );
    Ok(grid / side)
}

fn check_lm(lm: &LmConfig) -> Result<()> {
    for (field, set) in [("qkv_bias", lm.qkv_bias), ("qk_norm", lm.qk_norm)] {
        ensure!(
            !set,
            "model.lm.{field} = true, but the decoder of Idefics3 is a Llama, which has none: take a Llama, or \
             export = \"own\""
        );
    }
    Ok(())
}

/// Names in transformers.
const VISION: VisionNames = VisionNames {
    prefix: "model.vision_model.",
    patch: "embeddings.patch_embedding",
    position: "embeddings.position_embedding.weight",
    blocks: "encoder.layers",
    norms: ["layer_norm1", "layer_norm2"],
    qkv: ["self_attn.q_proj", "self_attn.k_proj", "self_attn.v_proj"],
    out: "self_attn.out_proj",
    up: "mlp.fc1",
    down: "mlp.fc2",
    norm: "post_layernorm",
    doubled_positions: true,
};

/// Names in llama.cpp.
const GGUF_VISION: VisionNames = VisionNames {
    prefix: "v.",
    patch: "patch_embd",
    position: "position_embd.weight",
    blocks: "blk",
    norms: ["ln1", "ln2"],
    qkv: ["attn_q", "attn_k", "attn_v"],
    out: "attn_out",
    up: "ffn_up",
    down: "ffn_down",
    norm: "post_ln",
    doubled_positions: false,
};

/// What the parameter at `path` of this shape becomes in transformers.
///
/// # Errors
/// A parameter that has no place.
pub(crate) fn places(path: &str, shape: &[usize], model: &Mm1Config) -> Result<Vec<ExportedPart>> {
    let (part, inner) = path.split_once('.').context("it is of no part of the model")?;
    match part {
        "vision" => VISION.places(inner, shape, &model.vision),
        "lm" => {
            let form = LmForm { names: &HUGGING_FACE, pairs: false };
            let mut places = form.places(inner, shape, &model.lm)?;
            for place in &mut places {
                if let Some(name) = place.name.strip_prefix("model.") {
                    place.name = format!("model.text_model.{name}");
                }
            }
            Ok(places)
        }
        "connector" => pooled("model.connector.modality_projection.proj.weight", shape, model),
        _ => bail!("it has no place in the file"),
    }
}

/// What the parameter at `path`, of encoder or connector, becomes in llama.cpp.
///
/// # Errors
/// A parameter that has no place.
pub(crate) fn gguf_places(path: &str, shape: &[usize], model: &Mm1Config) -> Result<Vec<ExportedPart>> {
    let (part, inner) = path.split_once('.').context("it is of no part of the model")?;
    match part {
        "vision" => GGUF_VISION.places(inner, shape, &model.vision),
        "connector" => pooled("mm.model.fc.weight", shape, model),
        _ => bail!("it has no place in the file"),
    }
}

/// The connector's map `[d, out]`.
fn pooled(name: &str, shape: &[usize], model: &Mm1Config) -> Result<Vec<ExportedPart>> {
    let side = pool_side(model)?;
    let shape = vec![shape[1], side * side * shape[0]];
    Ok(vec![ExportedPart { name: name.to_owned(), shape, part: ParameterPart::Pooled(side) }])
}

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
