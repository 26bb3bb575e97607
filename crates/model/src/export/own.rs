//! The model in a form of its own, which [`MODELLING_FILE`] beside the weights makes transformers read:
//! `trust_remote_code=True`.

use anyhow::Result;
use serde_json::{Value, json};

use super::connector::ConnectorNames;
use super::lm::{self, LmForm};
use super::model_names::ModelNames;
use super::vision::{PositionTable, VisionNames};
use crate::block_names;
use crate::config::Mm1Config;
use crate::import::lm_names::BELOW_LANGUAGE_MODEL;

/// The name of the file, and its text.
pub(super) const MODELLING_FILE: [&str; 2] = ["modeling_mm1.py", include_str!("modeling_mm1.py")];

/// Names in the file.
pub(crate) const NAMES: ModelNames = ModelNames {
    vision: VisionNames {
        prefix: "vision.",
        patch: "patch_embedding",
        position: PositionTable { name: "position", doubled: false },
        class_token: "class_token",
        pre_norm: "pre_norm",
        block: block_names::OWN,
        norm: "norm",
    },
    encoder: None,
    connector: ConnectorNames::Paths,
    lm: LmForm { names: &BELOW_LANGUAGE_MODEL, pairs: false },
};

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
        fields.insert("last_norm".to_owned(), json!(model.vision.last_norm));
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
