//! A Hugging Face folder: `config.json` and safetensors, whole or in parts.

use std::collections::{BTreeMap, BTreeSet};
use std::fs;
use std::path::Path;

use anyhow::{Context, Result, bail, ensure};
use serde::Deserialize;
use serde::de::DeserializeOwned;
use serde_json::Value;

use super::store::{Store, Stored, safetensors};
use super::{Family, Imported, clip, dinov2, siglip};
use crate::vision::{Stem, VisionActivation, VisionConfig};

/// The largest side of a picture or table that is believed, so that products of sizes stay numbers.
const MOST: usize = 1 << 16;

pub(super) fn open(folder: &Path) -> Result<Imported> {
    let file = folder.join("config.json");
    let config: Value = json(&file)?;
    let kind = config["model_type"].as_str().unwrap_or_default();
    let (family, part): (&Family, _) = match kind {
        "clip" => (&clip::FAMILY, "vision_config"),
        "clip_vision_model" => (&clip::FAMILY, ""),
        "siglip" => (&siglip::FAMILY, "vision_config"),
        "siglip_vision_model" => (&siglip::FAMILY, ""),
        "dinov2" => (&dinov2::FAMILY, ""),
        _ => bail!(
            "{}: model_type = {}; known are clip, clip_vision_model, siglip, siglip_vision_model and dinov2",
            file.display(),
            config["model_type"]
        ),
    };
    let settings = if part.is_empty() { &config } else { &config[part] };
    let shape = (family.settings)(settings).with_context(|| file.display().to_string())?;
    let mut store = Store::new(folder.display().to_string(), tensors(folder)?);
    store.narrow(family.landmark, family.beside)?;
    let mut imported = family.read(shape, store)?;
    let preprocessor = folder.join("preprocessor_config.json");
    if preprocessor.exists() {
        Preprocessor::apply(json(&preprocessor)?, &mut imported);
    }
    Ok(imported)
}

/// The tensors of `model.safetensors`, or of the parts that its index names.
pub(super) fn tensors(folder: &Path) -> Result<BTreeMap<String, Stored>> {
    #[derive(Deserialize)]
    struct Index {
        weight_map: BTreeMap<String, String>,
    }
    let (whole, index) = (folder.join("model.safetensors"), folder.join("model.safetensors.index.json"));
    if whole.exists() || !index.exists() {
        return safetensors(&whole);
    }
    let weight_map = json::<Index>(&index)?.weight_map;
    let mut all = BTreeMap::new();
    for part in weight_map.values().collect::<BTreeSet<_>>() {
        let plain = Path::new(part).file_name().is_some_and(|name| name == part.as_str());
        ensure!(plain, "{}: {part:?} is not the name of a file beside it", index.display());
        for (name, stored) in safetensors(&folder.join(part))? {
            ensure!(
                weight_map.get(&name) == Some(part),
                "{}: `{name}` is in {part}, but not there by the index",
                index.display()
            );
            all.insert(name, stored);
        }
    }
    let missing = weight_map.iter().find(|(name, _)| !all.contains_key(*name));
    if let Some((name, part)) = missing {
        bail!("{}: `{name}` is not in {part}", index.display());
    }
    Ok(all)
}

pub(super) fn json<T: DeserializeOwned>(file: &Path) -> Result<T> {
    let text = fs::read(file).with_context(|| format!("{}: can't be read", file.display()))?;
    serde_json::from_slice(&text).with_context(|| format!("{}: not as expected", file.display()))
}

/// What all families have in `config.json`.
#[derive(Deserialize)]
pub(super) struct Settings {
    hidden_size: usize,
    num_hidden_layers: usize,
    num_attention_heads: usize,
    num_channels: usize,
    image_size: usize,
    patch_size: usize,
    hidden_act: String,
    layer_norm_eps: f64,
}

/// `given`, and `defaults` where it says nothing: a `config.json` leaves out what is the family's default.
pub(super) fn settings<T: DeserializeOwned>(given: &Value, defaults: &Value) -> Result<T> {
    let mut all = defaults.clone();
    let (Some(all_fields), Some(given)) = (all.as_object_mut(), given.as_object()) else {
        bail!("there are no settings of an image encoder");
    };
    for (field, value) in given.iter().filter(|(_, value)| !value.is_null()) {
        all_fields.insert(field.clone(), value.clone());
    }
    Ok(serde_json::from_value(all)?)
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

impl Settings {
    /// As our shape, with a hidden width of `ffn`, and without what only some families have.
    pub(super) fn shape(&self, ffn: usize) -> Result<VisionConfig> {
        ensure!(self.num_channels == 3, "num_channels = {}: only 3 can be imported", self.num_channels);
        bounded(&[
            ("image_size", self.image_size),
            ("hidden_size", self.hidden_size),
            ("num_hidden_layers", self.num_hidden_layers),
        ])?;
        Ok(VisionConfig {
            from: None,
            image_size: self.image_size,
            patch: self.patch_size,
            stem: Stem::Patch,
            dim: self.hidden_size,
            layers: self.num_hidden_layers,
            heads: self.num_attention_heads,
            ffn,
            class_token: false,
            norm_eps: self.layer_norm_eps,
            activation: activation(&self.hidden_act)?,
            pre_norm: false,
            feature_block: None,
        })
    }
}

/// How pixels were prepared.
#[derive(Deserialize)]
struct Preprocessor {
    do_normalize: Option<bool>,
    image_mean: Option<[f32; 3]>,
    image_std: Option<[f32; 3]>,
}

impl Preprocessor {
    fn apply(self, to: &mut Imported) {
        if self.do_normalize == Some(false) {
            (to.mean, to.std) = ([0.0; 3], [1.0; 3]);
            return;
        }
        to.mean = self.image_mean.unwrap_or(to.mean);
        to.std = self.image_std.unwrap_or(to.std);
    }
}
