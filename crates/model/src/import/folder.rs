//! A Hugging Face folder: `config.json` and safetensors, whole or in parts.

use std::collections::{BTreeMap, BTreeSet};
use std::path::Path;

use anyhow::{Context, Result, bail, ensure};
use serde::Deserialize;
use serde::de::DeserializeOwned;
use serde_json::Value;

use super::tensors::{ForeignTensor, ForeignTensors, safetensors};
use super::{Family, ImportedEncoder, clip, dinov2, siglip};
use crate::weight_file;

/// Bytes of a config, and of an index of parts.
const MAX_CONFIG: u64 = 64 << 20;

pub(super) fn open(folder: &Path) -> Result<ImportedEncoder> {
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
    let mut foreign = ForeignTensors::new(folder.display().to_string(), tensors(folder)?);
    foreign.narrow(family.landmark, family.beside)?;
    let mut imported = family.read(shape, foreign)?;
    let preprocessor = folder.join("preprocessor_config.json");
    if preprocessor.exists() {
        Preprocessor::apply(json(&preprocessor)?, &mut imported);
    }
    Ok(imported)
}

/// The tensors of `model.safetensors`, or of the parts that its index names.
pub(crate) fn tensors(folder: &Path) -> Result<BTreeMap<String, ForeignTensor>> {
    #[derive(Deserialize)]
    struct Index {
        weight_map: BTreeMap<String, String>,
    }
    let (whole, index) = (folder.join("model.safetensors"), folder.join("model.safetensors.index.json"));
    if !whole.exists() && !index.exists() {
        let pickled = ["pytorch_model.bin", "pytorch_model.bin.index.json", "model.pt", "model.pth"];
        let pickled = pickled.into_iter().find(|name| folder.join(name).exists());
        if let Some(name) = pickled {
            bail!(
                "{}: it has {name}, a PyTorch checkpoint (a pickle), and no model.safetensors: convert it, as {}",
                folder.display(),
                weight_file::CONVERT
            );
        }
    }
    if whole.exists() || !index.exists() {
        return safetensors(&whole);
    }
    let weight_map = json::<Index>(&index)?.weight_map;
    let mut all = BTreeMap::new();
    for part in weight_map.values().collect::<BTreeSet<_>>() {
        // An index is input: a name with folders in it could read any file of the machine.
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
    let text = weight_file::read(file, MAX_CONFIG)?;
    serde_json::from_slice(&text).with_context(|| format!("{}: not as expected", file.display()))
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
