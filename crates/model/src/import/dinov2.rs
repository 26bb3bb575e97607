//! DINOv2's image encoder (Oquab et al. 2024) as Hugging Face's `Dinov2Model` has it; without registers, with
//! the MLP of its small, base and large sizes.

use anyhow::{Result, ensure};
use serde::Deserialize;
use serde_json::{Value, json};

use super::Family;
use super::mapper::TensorMapper;
use super::settings::{EncoderSettings, settings};
use crate::block_names;
use crate::vision::VisionConfig;

pub(super) const FAMILY: Family = Family {
    name: "DINOv2",
    landmark: "embeddings.cls_token",
    beside: &["classifier."],
    left: &["embeddings.mask_token"],
    pixels: [[0.485, 0.456, 0.406], [0.229, 0.224, 0.225]],
    settings: shape,
    tensors,
};

#[derive(Deserialize)]
struct Dinov2Settings {
    hidden_size: usize,
    mlp_ratio: f64,
    qkv_bias: bool,
    use_swiglu_ffn: bool,
}

fn shape(given: &Value) -> Result<VisionConfig> {
    let defaults = json!({
        "hidden_size": 768,
        "mlp_ratio": 4.0,
        "num_hidden_layers": 12,
        "num_attention_heads": 12,
        "num_channels": 3,
        "image_size": 224,
        "patch_size": 14,
        "hidden_act": "gelu",
        "layer_norm_eps": 1e-6,
        "qkv_bias": true,
        "use_swiglu_ffn": false,
    });
    let own: Dinov2Settings = settings(given, &defaults)?;
    ensure!(own.qkv_bias, "qkv_bias = false: only true can be imported");
    ensure!(!own.use_swiglu_ffn, "use_swiglu_ffn = true: only false can be imported");
    // As Python's int() does; what is not a size has no tensor of that shape.
    let ffn = (own.hidden_size as f64 * own.mlp_ratio) as usize;
    Ok(VisionConfig { class_token: true, ..settings::<EncoderSettings>(given, &defaults)?.shape(ffn)? })
}

fn tensors(mapper: &mut TensorMapper<'_>, config: &VisionConfig) -> Result<()> {
    let patch = "embeddings.patch_embeddings.projection";
    mapper.patch(config.patch, &format!("{patch}.weight"), Some(&format!("{patch}.bias")))?;
    mapper.class_positions("embeddings.cls_token", "embeddings.position_embeddings", config.grid().pow(2))?;
    mapper.blocks(&block_names::DINOV2)?;
    mapper.last_norm(config, "layernorm")
}
