//! An image encoder in a Hugging Face folder, alone or with its text tower.

use std::path::Path;

use anyhow::{Context, Result, bail};
use serde_json::Value;

use super::families::{KINDS, encoder_alone};
use super::files::{json, tensors};
use super::pixels::apply_preprocessor;
use super::tensors::ForeignTensors;
use super::{Family, ImportedEncoder, clip, exported, siglip};

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
