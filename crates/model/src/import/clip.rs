//! CLIP's image encoder (Radford et al. 2021) as Hugging Face's `CLIPVisionModel` has it.

use anyhow::Result;
use serde_json::{Value, json};

use super::Family;
use super::mapper::TensorMapper;
use super::settings::{EncoderSettings, HiddenWidth, settings};
use crate::block_names;
use crate::vision::VisionConfig;

pub(super) const FAMILY: Family = Family {
    name: "CLIP",
    landmark: "embeddings.class_embedding",
    beside: &["text_model.", "text_projection.", "visual_projection.", "logit_scale"],
    // A list of the numbers 0.. that old files have.
    left: &["embeddings.position_ids"],
    pixels: [[0.481_454_66, 0.457_827_5, 0.408_210_73], [0.268_629_54, 0.261_302_6, 0.275_777_1]],
    settings: shape,
    tensors,
};

fn shape(given: &Value) -> Result<VisionConfig> {
    let defaults = json!({
        "hidden_size": 768,
        "intermediate_size": 3072,
        "num_hidden_layers": 12,
        "num_attention_heads": 12,
        "num_channels": 3,
        "image_size": 224,
        "patch_size": 32,
        "hidden_act": "quick_gelu",
        "layer_norm_eps": 1e-5,
    });
    let hidden: HiddenWidth = settings(given, &defaults)?;
    let shape = settings::<EncoderSettings>(given, &defaults)?.shape(hidden.intermediate_size)?;
    Ok(VisionConfig { class_token: true, pre_norm: true, ..shape })
}

fn tensors(mapper: &mut TensorMapper<'_>, config: &VisionConfig) -> Result<()> {
    let (token, table) = ("embeddings.class_embedding", "embeddings.position_embedding.weight");
    mapper.patch(config.patch, "embeddings.patch_embedding.weight", None)?;
    mapper.class_positions(token, table, config.grid().pow(2))?;
    // Misspelled there.
    mapper.norm("pre_norm", "pre_layrnorm")?;
    mapper.blocks(&block_names::CLIP)?;
    mapper.last_norm(config, "post_layernorm")
}
