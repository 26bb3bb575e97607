//! `config.json` of a Hugging Face model: what the families share.

use anyhow::{Context as _, Result, bail, ensure};
use serde::Deserialize;
use serde::de::DeserializeOwned;
use serde_json::Value;

use crate::vision::{VisionActivation, VisionConfig, VisionSizes};

/// The largest side of a picture or table that is believed, so that products of sizes stay numbers.
const MOST: usize = 1 << 16;

/// What all families have in `config.json`.
#[derive(Deserialize)]
pub(super) struct EncoderSettings {
    hidden_size: usize,
    num_hidden_layers: usize,
    num_attention_heads: usize,
    num_channels: usize,
    image_size: usize,
    patch_size: usize,
    hidden_act: String,
    layer_norm_eps: f64,
}

/// The part of the settings of CLIP and SigLIP beyond [`EncoderSettings`].
#[derive(Deserialize)]
pub(super) struct HiddenWidth {
    pub(super) intermediate_size: usize,
}

/// `given`, and `defaults` where it says nothing: a `config.json` leaves out what is the family's default.
///
/// # Errors
/// No settings at all; one that is missing or of another type, by its name.
pub(super) fn settings<T: DeserializeOwned>(given: &Value, defaults: &Value) -> Result<T> {
    let mut all = defaults.clone();
    let (Some(all_fields), Some(given)) = (all.as_object_mut(), given.as_object()) else {
        bail!("there are no settings of an image encoder");
    };
    // `null` is how `transformers` writes a setting that was never set.
    for (field, value) in given.iter().filter(|(_, value)| !value.is_null()) {
        all_fields.insert(field.clone(), value.clone());
    }
    Ok(serde_path_to_error::deserialize(all)?)
}

/// The setting `name` of `given`; `None` where it is left out or `null`.
///
/// # Errors
/// A value of another type, by its name.
pub(super) fn optional<T: DeserializeOwned>(given: &Value, name: &str) -> Result<Option<T>> {
    let value = &given[name];
    serde_json::from_value(value.clone()).with_context(|| format!("{name} = {value}"))
}

/// `hidden_act` as we have it.
pub(super) fn activation(name: &str) -> Result<VisionActivation> {
    Ok(match name {
        "gelu" => VisionActivation::Gelu,
        "quick_gelu" => VisionActivation::QuickGelu,
        "gelu_pytorch_tanh" | "gelu_new" => VisionActivation::GeluTanh,
        other => {
            bail!("hidden_act = {other:?}: only gelu, quick_gelu and gelu_pytorch_tanh can be imported")
        }
    })
}

/// Refuses a size above [`MOST`].
pub(super) fn bounded(sizes: &[(&str, usize)]) -> Result<()> {
    for (field, size) in sizes {
        ensure!(*size <= MOST, "{field} = {size}: only up to {MOST} can be imported");
    }
    Ok(())
}

impl EncoderSettings {
    /// As our shape, with a hidden width of `ffn`, and without what only some families have.
    pub(super) fn shape(&self, ffn: usize) -> Result<VisionConfig> {
        ensure!(self.num_channels == 3, "num_channels = {}: only 3 can be imported", self.num_channels);
        bounded(&[
            ("image_size", self.image_size),
            ("hidden_size", self.hidden_size),
            ("num_hidden_layers", self.num_hidden_layers),
        ])?;
        let sizes = VisionSizes {
            image_size: self.image_size,
            patch: self.patch_size,
            dim: self.hidden_size,
            layers: self.num_hidden_layers,
            heads: self.num_attention_heads,
            ffn,
        };
        Ok(VisionConfig {
            norm_eps: self.layer_norm_eps,
            activation: activation(&self.hidden_act)?,
            ..VisionConfig::plain(sizes)
        })
    }
}
