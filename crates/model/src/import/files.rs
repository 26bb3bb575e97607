//! The files of a Hugging Face folder: JSON, and safetensors, whole or in parts.

use std::collections::{BTreeMap, BTreeSet};
use std::path::Path;

use anyhow::{Context, Result, bail, ensure};
use serde::Deserialize;
use serde::de::DeserializeOwned;

use super::tensors::{ForeignTensor, safetensors};
use crate::weight_file;

/// Bytes of a config, and of an index of parts.
const MAX_CONFIG: u64 = 64 << 20;

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
                "{}: it has {name}, a PyTorch checkpoint (a pickle), and no model.safetensors: convert it, \
                 as {}",
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

pub(crate) fn json<T: DeserializeOwned>(file: &Path) -> Result<T> {
    let text = weight_file::read(file, MAX_CONFIG)?;
    serde_json::from_slice(&text).with_context(|| format!("{}: not as expected", file.display()))
}
