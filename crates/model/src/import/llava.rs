//! What of a whole model is LLaVA's own: where its features are taken, and what its tensors were called
//! before.

use anyhow::{Context as _, Result, ensure};
use serde_json::Value;

use super::settings::optional;
use super::{Family, families};
use crate::export::llava::{names, select_strategy};
use crate::export::vision::VisionNames;
use crate::vision::VisionConfig;

/// The encoder of a LLaVA, up to the block whose output it takes.
pub(super) struct LlavaEncoder {
    pub(super) family: &'static Family,
    /// Without a last norm.
    pub(super) config: VisionConfig,
    /// Beginnings of the names of its tensors behind the features, and of those that have no place in ours.
    pub(super) left: Vec<String>,
}

/// How a tensor is called since transformers 4.52.
pub(super) fn present_name(name: String) -> String {
    for (before, now) in [
        ("language_model.model.", "model.language_model."),
        ("language_model.lm_head.", "lm_head."),
        ("vision_tower.", "model.vision_tower."),
        ("multi_modal_projector.", "model.multi_modal_projector."),
    ] {
        if let Some(rest) = name.strip_prefix(before) {
            return format!("{now}{rest}");
        }
    }
    name
}

/// The encoder that the `config.json` of a LLaVA describes.
///
/// # Errors
/// One line with a setting that ours has not.
pub(super) fn encoder(config: &Value) -> Result<LlavaEncoder> {
    let text = |name: &str, default: &'static str| match &config[name] {
        Value::Null => default.to_owned(),
        Value::String(text) => text.clone(),
        other => other.to_string(),
    };
    let activation = text("projector_hidden_act", "gelu");
    ensure!(activation == "gelu", "projector_hidden_act = {activation}: only gelu can be imported");
    let bias = optional(config, "multimodal_projector_bias")?.unwrap_or(true);
    ensure!(bias, "multimodal_projector_bias = false: only true can be imported");
    let given = &config["vision_config"];
    let kind = given["model_type"].as_str().unwrap_or("clip_vision_model");
    let family = families::encoder_alone(kind).with_context(|| {
        format!("vision_config.model_type = {kind:?}: only {} can be imported", families::ALONE.join(", "))
    })?;
    let shape = (family.settings)(given).context("vision_config")?;
    let strategy = text("vision_feature_select_strategy", "default");
    let own = select_strategy(shape.class_token);
    ensure!(
        strategy == own,
        "vision_feature_select_strategy = {strategy}: of this encoder only {own} can be imported, which \
         takes its patches"
    );
    let layers = feature_block(&config["vision_feature_layer"], shape.layers)?;
    let VisionNames { prefix, block, norm, .. } = names(&shape)?.vision;
    let blocks = (layers..shape.layers).map(|layer| format!("{}.{layer}.", block.blocks));
    let left = blocks.chain([format!("{norm}.")]).chain(family.left.iter().map(|&name| name.to_owned()));
    let left = left.map(|name| format!("{prefix}{name}")).collect();
    Ok(LlavaEncoder { family, config: VisionConfig { layers, last_norm: false, ..shape }, left })
}

/// Number of the block whose output is the features, of so many blocks: hidden state 0 is what goes into the
/// first.
fn feature_block(layer: &Value, layers: usize) -> Result<usize> {
    let number = if layer.is_null() { Some(-2) } else { layer.as_i64() };
    let states = i64::try_from(layers)? + 1;
    let block = number.map(|number| if number < 0 { states + number } else { number });
    let block =
        block.filter(|block| (1..states).contains(block)).and_then(|block| usize::try_from(block).ok());
    block.with_context(|| {
        format!(
            "vision_feature_layer = {layer}: only the output of one of the {layers} blocks can be imported"
        )
    })
}
