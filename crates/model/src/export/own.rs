//! The model in a form of its own, which [`MODELLING_FILE`] beside the weights makes transformers read:
//! `trust_remote_code=True`.

use anyhow::{Context as _, Result};
use serde_json::{Value, json};

use super::lm::{self, LmForm};
use super::part::{ExportedPart, columns, whole};
use super::vision::{VisionNames, kernel, norm_part};
use crate::config::Mm1Config;
use crate::import::lm_names::HUGGING_FACE;

/// The name of the file, and its text.
pub(super) const MODELLING_FILE: [&str; 2] = ["modeling_mm1.py", include_str!("modeling_mm1.py")];

const VISION: VisionNames = VisionNames {
    prefix: "vision.",
    patch: "patch_embedding",
    position: "position",
    blocks: "blocks",
    norms: ["norm1", "norm2"],
    qkv: ["attention.q", "attention.k", "attention.v"],
    out: "attention.out",
    up: "mlp.up",
    down: "mlp.down",
    norm: "norm",
    doubled_positions: false,
};

/// What the parameter at `path` of this shape becomes.
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
            places.iter_mut().for_each(|place| place.name.insert_str(0, "language_model."));
            Ok(places)
        }
        _ => Ok(of_connector(path, shape)),
    }
}

/// The same of one of the connector's.
fn of_connector(path: &str, shape: &[usize]) -> Vec<ExportedPart> {
    if let (Some(kind), Some((norm, _))) = (norm_part(path), path.rsplit_once('.')) {
        return whole(format!("{norm}.{kind}"), shape);
    }
    if let Some(map) = path.strip_suffix("_bias") {
        return whole(format!("{map}.bias"), shape);
    }
    match path.rsplit('.').next() {
        // Tables, no maps.
        Some("queries" | "position") => whole(path.to_owned(), shape),
        Some("depthwise") => vec![kernel(format!("{path}.weight"), vec![shape[1], 1, 3, 3])],
        Some("weight") => {
            columns(shape[0], vec![(path.replace("shortcut.", "shortcut.map."), shape[1], None)])
        }
        _ => columns(shape[0], vec![(format!("{path}.weight"), shape[1], None)]),
    }
}

/// `config.json`, but for what all forms have; `context` is the longest text that it was trained on, in
/// tokens. Encoder and connector have the names of a recipe's settings.
///
/// # Errors
/// A decoder that transformers does not have.
pub(crate) fn settings(model: &Mm1Config, context: usize) -> Result<Value> {
    let mut vision = serde_json::to_value(&model.vision)?;
    if let Some(fields) = vision.as_object_mut() {
        fields.remove("from");
        fields.remove("feature_block");
        // Those behind the feature block are not there.
        fields.insert("layers".to_owned(), json!(model.vision.blocks()));
        fields.insert("activation".to_owned(), serde_json::to_value(model.vision.activation)?);
        fields.insert("pre_norm".to_owned(), json!(model.vision.pre_norm));
    }
    Ok(json!({
        "model_type": "mm1",
        "architectures": ["Mm1ForConditionalGeneration"],
        "auto_map": {
            "AutoConfig": "modeling_mm1.Mm1Config",
            "AutoModelForImageTextToText": "modeling_mm1.Mm1ForConditionalGeneration",
            "AutoProcessor": "modeling_mm1.Mm1Processor",
        },
        "vision_config": vision,
        "connector_config": model.connector,
        "text_config": lm::settings(&model.lm, context)?,
    }))
}
