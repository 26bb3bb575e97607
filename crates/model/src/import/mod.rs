//! Pre-trained image encoders of other programs, and in [`lm`] language models. Foreign names are mapped here
//! and only here.
//!
//! | family | `model_type` of a Hugging Face folder | what it becomes |
//! |---|---|---|
//! | CLIP (Radford et al. 2021) | `clip`, `clip_vision_model` | class token, pre-norm, quick GELU |
//! | SigLIP (Zhai et al. 2023) | `siglip`, `siglip_vision_model` | tanh GELU, no class token |
//! | DINOv2 (Oquab et al. 2024) | `dinov2`, or an `.onnx` file with its names | class token |
//! | Idefics3 (Laurençon et al. 2024) | `idefics3`, `smolvlm` | as SigLIP |
//! | LLaVA (Liu et al. 2023) | `llava` | as its encoder, without a last norm |
//!
//! A folder has `config.json`, and `model.safetensors` or `model.safetensors.index.json` with its parts, in
//! f32, f16 or bf16.
//!
//! What [`Vision`](crate::vision::Vision) has no parameter for is computed into what it has, exactly but
//! for the rounding: the class token's position is added to the class token, a patch map without bias has
//! zeros, and the factors of LayerScale (Touvron et al. 2021) multiply the weights and biases of the maps
//! before them. What is no part of it is left: text towers, projections, SigLIP's attention pool,
//! DINOv2's mask token, an ONNX graph's other parts, connector and language model of a whole model.
//! Anything else that is missing, superfluous or of another shape is refused.
//!
//! A whole model that this program has written, or transformers, is opened by [`exported`].
//!
//! [`towers::open`] reads a folder of `clip` or `siglip` whole, text tower and all, for
//! [`Towers`](crate::towers::Towers): the map of SigLIP's learned query is computed into the query, and of
//! what is beside the towers only the scale and the bias of the logits are left, which no order of cosines
//! depends on.

mod clip;
mod dinov2;
pub mod exported;
mod families;
pub(crate) mod files;
mod folder;
mod gguf_settings;
mod kind;
mod llava;
pub mod lm;
pub(crate) mod lm_names;
mod lm_settings;
mod mapper;
mod onnx;
mod pixels;
mod settings;
mod siglip;
mod tensor_parts;
mod tensors;
pub mod towers;

use std::path::{Path, PathBuf};

use anyhow::{Context, Result, bail, ensure};
use burn::tensor::Device;

use self::exported::ExportedFolder;
pub use self::kind::OriginKind;
pub use self::tensors::TensorAccount;
use crate::mm1::Mm1;
use crate::positions::resize_positions;
use crate::vision::VisionConfig;
use crate::weights::{self, Named};

/// An image encoder as it was found.
#[derive(Clone, Debug)]
pub struct ImportedEncoder {
    /// Its shape.
    pub config: VisionConfig,
    /// Every parameter of [`Vision`](crate::vision::Vision), by its path there (`blocks.0.attention.qkv`).
    pub tensors: Vec<Named>,
    /// Mean of each channel, of values in `0..=1`, that was taken from the pixels it was trained on: that of
    /// `preprocessor_config.json`, else the family's.
    pub mean: [f32; 3],
    /// What they were divided by.
    pub std: [f32; 3],
    /// Where it was found.
    from: String,
    /// What became of the tensors there.
    account: TensorAccount,
}

/// Reads a Hugging Face folder (of an encoder or of a whole model), an `.onnx` file, or a folder with one
/// such file and no `config.json`.
///
/// # Errors
/// One line with the file when it can't be read, is of no family above or has settings that
/// [`Vision`](crate::vision::Vision) has not; with the tensor when one is missing, superfluous, of another
/// shape or of a type other than f32, f16 and bf16.
pub fn open(path: &Path) -> Result<ImportedEncoder> {
    ensure!(path.exists(), "{}: there is no such file or folder", path.display());
    if path.is_dir() {
        match onnx_alone(path)? {
            Some(file) => onnx::open(&file),
            None => match exported::open(path)? {
                Some(whole) => whole.vision(),
                None => folder::open(path),
            },
        }
    } else if path.extension().is_some_and(|end| end == "onnx") {
        onnx::open(path)
    } else {
        // A checkpoint or a pointer is called by its name.
        crate::weight_file::open(path)?;
        bail!("{}: neither a Hugging Face folder nor an .onnx file", path.display())
    }
}

/// The network of a folder with a whole model, on `device`.
///
/// # Errors
/// As [`open`], for each of its parts; a connector that none of ours is.
pub fn model(whole: &ExportedFolder, device: &Device) -> Result<Mm1> {
    // Settings are believed once all tensors fit them: a network of a million blocks would take long to make.
    let (vision, connector, decoder) = (whole.vision()?, whole.connector()?, lm::open(whole.path())?);
    let config = whole.model_config()?;
    let mut model = Mm1::new(&config, 0, device)?;
    model.vision = weights::assign(model.vision, vision.fit(&config.vision)?)?;
    model.connector = connector.fit(model.connector)?;
    model.lm = decoder.fit(model.lm, &config.lm)?;
    Ok(model)
}

/// The `.onnx` file of a folder without `config.json`; `None` for a Hugging Face folder.
fn onnx_alone(folder: &Path) -> Result<Option<PathBuf>> {
    if folder.join("config.json").exists() {
        return Ok(None);
    }
    let entries = folder.read_dir().with_context(|| folder.display().to_string())?;
    let paths = entries.map(|entry| Ok(entry?.path())).collect::<Result<Vec<_>>>()?;
    let mut found: Vec<PathBuf> =
        paths.into_iter().filter(|path| path.extension().is_some_and(|end| end == "onnx")).collect();
    ensure!(
        found.len() < 2,
        "{}: it has no config.json, and {} .onnx files: name the one that is meant",
        folder.display(),
        found.len()
    );
    let alone = found.pop();
    let wanted = "a Hugging Face folder has one beside its safetensors";
    Ok(Some(alone.with_context(|| {
        format!("{}: it has no config.json and no .onnx file: {wanted}", folder.display())
    })?))
}

impl ImportedEncoder {
    /// An encoder that was found at `from` with `tensors` by their paths in it; `pixels` are the mean and the
    /// deviation.
    pub fn new(config: VisionConfig, tensors: Vec<Named>, pixels: [[f32; 3]; 2], from: &Path) -> Self {
        let [mean, std] = pixels;
        let account = TensorAccount { found: tensors.len(), left: Vec::new() };
        Self { config, tensors, mean, std, from: from.display().to_string(), account }
    }

    /// What became of the tensors of its files.
    pub fn account(&self) -> &TensorAccount {
        &self.account
    }

    /// The tensors for an encoder of the shape `config`, which has to be the imported one's but for three
    /// fields: its positions are interpolated for another `image_size`, and blocks after its `feature_block`
    /// and a last norm that it has not are left.
    ///
    /// # Errors
    /// One line with the first field that differs, both sides.
    pub fn fit(self, config: &VisionConfig) -> Result<Vec<Named>> {
        let Self { config: own, tensors, from, .. } = self;
        for ((field, wanted), (_, had)) in fixed(config)?.into_iter().zip(fixed(&own)?) {
            ensure!(wanted == had, "model.vision.{field} = {wanted}, but {from} has {had}");
        }
        ensure!(
            own.last_norm || !config.last_norm,
            "model.vision.last_norm = true, but {from} has no norm after the last block: set it to false"
        );
        let (start, end) = ([own.grid(); 2], [config.grid(); 2]);
        let later = |name: &str| {
            let block = name.strip_prefix("blocks.").and_then(|rest| rest.split('.').next()?.parse().ok());
            block.is_some_and(|block: usize| block >= config.blocks())
        };
        let normed = |name: &str| name.starts_with("norm.") && !config.last_norm;
        let kept = tensors.into_iter().filter(|(name, ..)| !later(name) && !normed(name));
        Ok(kept
            .map(|(name, shape, values)| match name.as_str() {
                "position" if start != end => {
                    let values = resize_positions(&values, start, end);
                    (name, vec![end[0] * end[1], own.dim], values)
                }
                _ => (name, shape, values),
            })
            .collect())
    }
}

/// The settings that weights are made for, with their names. A new setting of the encoder does not compile
/// before it is listed here, or left out.
fn fixed(config: &VisionConfig) -> Result<[(&'static str, String); 10]> {
    let VisionConfig {
        from: _,
        image_size: _,
        feature_block: _,
        last_norm: _,
        stem,
        patch,
        dim,
        layers,
        heads,
        ffn,
        class_token,
        norm_eps,
        activation,
        pre_norm,
    } = config;
    Ok([
        ("stem", serde_json::to_string(stem)?),
        ("patch", patch.to_string()),
        ("dim", dim.to_string()),
        ("layers", layers.to_string()),
        ("heads", heads.to_string()),
        ("ffn", ffn.to_string()),
        ("class_token", class_token.to_string()),
        ("norm_eps", norm_eps.to_string()),
        ("activation", serde_json::to_string(activation)?),
        ("pre_norm", pre_norm.to_string()),
    ])
}

/// A family: how its settings and tensors become ours.
struct Family {
    /// As people call it.
    name: &'static str,
    /// The end of the name of one tensor of the encoder; what is before it is before all of them.
    landmark: &'static str,
    /// Beginnings of the names of what is beside the encoder in a whole model.
    beside: &'static [&'static str],
    /// Beginnings of the names of what is in the encoder and has no place in ours.
    left: &'static [&'static str],
    /// Mean and deviation of the pixels.
    pixels: [[f32; 3]; 2],
    /// From `config.json` to our shape.
    settings: fn(&serde_json::Value) -> Result<VisionConfig>,
    /// From its tensors to ours.
    tensors: fn(&mut mapper::TensorMapper<'_>, &VisionConfig) -> Result<()>,
}

impl Family {
    /// Reads the tensors of `foreign` for an encoder of the shape `config`.
    fn read(&self, config: VisionConfig, mut foreign: tensors::ForeignTensors) -> Result<ImportedEncoder> {
        let from = foreign.from().to_owned();
        config.check().with_context(|| format!("{from}: not a shape that an encoder can have"))?;
        foreign.leave(self.left);
        let sizes = mapper::Sizes { dim: config.dim, ffn: config.ffn, layers: config.layers };
        let mut mapper = mapper::TensorMapper::new(&mut foreign, sizes);
        (self.tensors)(&mut mapper, &config)?;
        let tensors = mapper.finish();
        let account = foreign.finish(&format!("{} image encoder", self.name))?;
        let [mean, std] = self.pixels;
        Ok(ImportedEncoder { config, tensors, mean, std, from, account })
    }
}
