//! SigLIP's image encoder (Zhai et al. 2023) as Hugging Face's `SiglipVisionModel` has it. Its head, which
//! pools the patches by attention, is no part of ours alone: see [`super::towers`].

use anyhow::Result;
use serde_json::{Value, json};

use super::Family;
use super::mapper::TensorMapper;
use super::settings::{EncoderSettings, HiddenWidth, settings};
use crate::block_names;
use crate::vision::VisionConfig;

pub(super) const FAMILY: Family = Family {
    name: "SigLIP",
    landmark: "embeddings.patch_embedding.weight",
    beside: &["text_model.", "logit_scale", "logit_bias"],
    left: &["head.", "embeddings.position_ids"],
    pixels: [[0.5; 3], [0.5; 3]],
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
        "patch_size": 16,
        "hidden_act": "gelu_pytorch_tanh",
        "layer_norm_eps": 1e-6,
    });
    let hidden: HiddenWidth = settings(given, &defaults)?;
    settings::<EncoderSettings>(given, &defaults)?.shape(hidden.intermediate_size)
}

fn tensors(mapper: &mut TensorMapper<'_>, config: &VisionConfig) -> Result<()> {
    let bias = Some("embeddings.patch_embedding.bias");
    mapper.patch(config.patch, "embeddings.patch_embedding.weight", bias)?;
    mapper.table("position", "embeddings.position_embedding.weight", config.grid().pow(2))?;
    mapper.blocks(&block_names::CLIP)?;
    mapper.last_norm(config, "post_layernorm")
}
