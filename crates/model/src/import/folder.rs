//! An image encoder in a Hugging Face folder, alone or with its text tower.

use std::path::Path;

use anyhow::{Context, Result, bail};
use serde::Deserialize;
use serde_json::Value;

use super::files::{json, tensors};
use super::tensors::ForeignTensors;
use super::{Family, ImportedEncoder, clip, dinov2, exported, siglip};

/// The `model_type` of each family, alone and with its text tower.
pub(super) const KINDS: [&str; 5] = ["clip", "clip_vision_model", "siglip", "siglip_vision_model", "dinov2"];

/// Those of each family alone.
pub(super) const ALONE: [&str; 3] = ["clip_vision_model", "siglip_vision_model", "dinov2"];

/// The family whose encoder alone has this `model_type`.
pub(super) fn encoder_alone(kind: &str) -> Option<&'static Family> {
    Some(match kind {
        "clip_vision_model" => &clip::FAMILY,
        "siglip_vision_model" => &siglip::FAMILY,
        "dinov2" => &dinov2::FAMILY,
        _ => return None,
    })
}

pub(super) fn open(folder: &Path) -> Result<ImportedEncoder> {
    let file = folder.join("config.json");
    let config: Value = json(&file)?;
    let kind = config["model_type"].as_str().unwrap_or_default();
    let (family, part): (&Family, _) = match (kind, encoder_alone(kind)) {
        ("clip", _) => (&clip::FAMILY, "vision_config"),
        ("siglip", _) => (&siglip::FAMILY, "vision_config"),
        (_, Some(family)) => (family, ""),
        _ => bail!(
            "{}: model_type = {}; known are {}, and of whole models {}",
            file.display(),
            config["model_type"],
            KINDS.join(", "),
            exported::names().join(", ")
        ),
    };
    let settings = if part.is_empty() { &config } else { &config[part] };
    let shape = (family.settings)(settings).with_context(|| file.display().to_string())?;
    let mut foreign = ForeignTensors::new(folder.display().to_string(), tensors(folder)?);
    foreign.narrow(family.landmark, family.beside)?;
    let mut imported = family.read(shape, foreign)?;
    apply_preprocessor(folder, &mut imported)?;
    Ok(imported)
}

/// Takes mean and deviation of the pixels from the settings in the folder, where it has some.
pub(super) fn apply_preprocessor(folder: &Path, imported: &mut ImportedEncoder) -> Result<()> {
    let preprocessor = folder.join("preprocessor_config.json");
    if preprocessor.exists() {
        json::<Preprocessor>(&preprocessor)?.apply(imported);
    }
    Ok(())
}

/// How pixels were prepared.
#[derive(Deserialize)]
struct Preprocessor {
    do_normalize: Option<bool>,
    image_mean: Option<[f32; 3]>,
    image_std: Option<[f32; 3]>,
}

impl Preprocessor {
    fn apply(self, to: &mut ImportedEncoder) {
        if self.do_normalize == Some(false) {
            (to.mean, to.std) = ([0.0; 3], [1.0; 3]);
            return;
        }
        to.mean = self.image_mean.unwrap_or(to.mean);
        to.std = self.image_std.unwrap_or(to.std);
    }
}
