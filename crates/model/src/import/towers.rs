//! CLIP and SigLIP whole, as Hugging Face's `CLIPModel` and `SiglipModel` have them: the image encoder by its
//! own module, and here what is beside it.

use std::path::Path;

use anyhow::{Context as _, Result, ensure};
use burn::tensor::Device;
use serde::Deserialize;
use serde::de::DeserializeOwned;
use serde_json::{Value, json};

use super::ImportedEncoder;
use super::mapper::{Sizes, TensorMapper};
use super::settings::{activation, bounded, settings};
use super::tensors::ForeignTensors;
use super::{files, folder};
use crate::block_names::{self, BlockNames};
use crate::init::Init;
use crate::towers::{TextConfig, TowerFamily, Towers, TowersConfig};
use crate::vision::VisionConfig;
use crate::weights::{self, Named};

/// Beginnings of the names of what is beside the image encoder.
const BESIDE: [&str; 6] = [
    "text_model.",
    "text_projection.",
    "visual_projection.",
    "vision_model.head.",
    "logit_scale",
    "logit_bias",
];
/// Of these, what has no place in ours: a list of the numbers 0.. that old files have, and what no order
/// depends on.
const LEFT: [&str; 3] = ["text_model.embeddings.position_ids", "logit_scale", "logit_bias"];
/// The largest vocabulary that is believed.
const MOST_VOCAB: usize = 1 << 24;

/// Both towers as they were found.
#[derive(Clone, Debug)]
pub struct ImportedTowers {
    image: ImportedEncoder,
    config: TowersConfig,
    /// Every parameter of [`Towers`] but the image encoder's, by its path there.
    beside: Vec<Named>,
}

/// Reads a Hugging Face folder whole; none where there is only an image encoder, or nothing of CLIP or
/// SigLIP.
///
/// # Errors
/// As [`super::open`], for both towers.
pub fn open(path: &Path) -> Result<Option<ImportedTowers>> {
    let file = path.join("config.json");
    if !file.exists() {
        return Ok(None);
    }
    let given: Value = files::json(&file)?;
    let read = match given["model_type"].as_str() {
        Some("clip") => clip,
        Some("siglip") => siglip,
        _ => return Ok(None),
    };
    let from = path.display().to_string();
    let mut foreign = ForeignTensors::new(from.clone(), files::tensors(path)?).split(&BESIDE);
    if !foreign.has("text_model.") {
        return Ok(None);
    }
    foreign.leave(&LEFT);
    let image = folder::open(path)?;
    let config = read(&given, image.config.clone()).with_context(|| file.display().to_string())?;
    let mut beside = image_head(&mut foreign, &config)?;
    beside.extend(text(&mut foreign, &config)?);
    foreign.finish(match config.family {
        TowerFamily::Clip { .. } => "CLIP model",
        TowerFamily::Siglip { .. } => "SigLIP model",
    })?;
    Ok(Some(ImportedTowers { image, config, beside }))
}

impl ImportedTowers {
    /// Both towers with the image encoder `vision`, which is that of [`ImportedEncoder::fit`] with all of its
    /// blocks and its last norm: before these there is no common space.
    ///
    /// # Errors
    /// One line for a feature block before the last and for an encoder without a last norm, and as
    /// [`ImportedEncoder::fit`].
    pub fn fit(self, vision: &VisionConfig, device: &Device) -> Result<Towers> {
        ensure!(
            vision.blocks() == vision.layers,
            "model.vision.feature_block = {}: texts are compared with what is behind the last block",
            vision.blocks()
        );
        ensure!(
            vision.last_norm,
            "model.vision.last_norm = false: texts are compared with what is behind the last norm"
        );
        let config = TowersConfig { vision: vision.clone(), ..self.config };
        let image = self.image.fit(vision)?.into_iter();
        let image = image.map(|(name, shape, values)| (format!("vision.{name}"), shape, values));
        let towers = Towers::new(&Init::new(0, device), &config);
        weights::assign(towers, image.chain(self.beside).collect())
    }
}

/// What all text towers have in `config.json`.
#[derive(Deserialize)]
struct TextSettings {
    hidden_size: usize,
    intermediate_size: usize,
    num_hidden_layers: usize,
    num_attention_heads: usize,
    vocab_size: usize,
    max_position_embeddings: usize,
    hidden_act: String,
    layer_norm_eps: f64,
}

impl TextSettings {
    /// As our shape.
    fn shape(&self) -> Result<TextConfig> {
        let sizes = [
            ("hidden_size", self.hidden_size),
            ("intermediate_size", self.intermediate_size),
            ("num_hidden_layers", self.num_hidden_layers),
            ("num_attention_heads", self.num_attention_heads),
            ("max_position_embeddings", self.max_position_embeddings),
        ];
        bounded(&sizes)?;
        for (field, size) in sizes.into_iter().chain([("vocab_size", self.vocab_size)]) {
            ensure!(size > 0 || field == "num_hidden_layers", "{field} must be at least 1");
        }
        let eps = self.layer_norm_eps;
        ensure!(eps >= 0.0, "layer_norm_eps = {eps} must not be below 0");
        let (vocab, heads, dim) = (self.vocab_size, self.num_attention_heads, self.hidden_size);
        ensure!(vocab <= MOST_VOCAB, "vocab_size = {vocab}: only up to {MOST_VOCAB} can be imported");
        ensure!(dim.is_multiple_of(heads), "num_attention_heads = {heads} must divide hidden_size = {dim}");
        Ok(TextConfig {
            vocab,
            length: self.max_position_embeddings,
            dim,
            layers: self.num_hidden_layers,
            heads,
            ffn: self.intermediate_size,
            activation: activation(&self.hidden_act)?,
            norm_eps: self.layer_norm_eps,
        })
    }
}

/// A text tower's shape and what only its family has in `config.json`.
fn text_settings<T: DeserializeOwned>(given: &Value, defaults: &Value) -> Result<(TextConfig, T)> {
    let read = || {
        let given = &given["text_config"];
        ensure!(given.is_object(), "there are none");
        Ok((settings::<TextSettings>(given, defaults)?.shape()?, settings(given, defaults)?))
    };
    read().context("settings of the text tower")
}

fn clip(given: &Value, vision: VisionConfig) -> Result<TowersConfig> {
    #[derive(Deserialize)]
    struct ClipSettings {
        eos_token_id: u32,
    }
    #[derive(Deserialize)]
    struct ProjectionSettings {
        projection_dim: usize,
    }
    let defaults = json!({
        "hidden_size": 512,
        "intermediate_size": 2048,
        "num_hidden_layers": 12,
        "num_attention_heads": 8,
        "vocab_size": 49408,
        "max_position_embeddings": 77,
        "hidden_act": "quick_gelu",
        "layer_norm_eps": 1e-5,
        "eos_token_id": 49407,
    });
    let (text, ClipSettings { eos_token_id }) = text_settings(given, &defaults)?;
    let ProjectionSettings { projection_dim: space } = settings(given, &json!({ "projection_dim": 512 }))?;
    bounded(&[("projection_dim", space)])?;
    ensure!(space > 0, "projection_dim must be at least 1");
    // 2 is what `transformers` wrote before it knew the right id; there the end token is the largest of a
    // text.
    let end = Some(eos_token_id).filter(|&end| end != 2);
    ensure!(
        end.is_none_or(|end| (end as usize) < text.vocab),
        "settings of the text tower: eos_token_id = {eos_token_id} must be below vocab_size = {}",
        text.vocab
    );
    Ok(TowersConfig { vision, text, space, family: TowerFamily::Clip { end } })
}

fn siglip(given: &Value, vision: VisionConfig) -> Result<TowersConfig> {
    #[derive(Deserialize)]
    struct SiglipSettings {
        pad_token_id: u32,
        projection_size: Option<usize>,
    }
    let defaults = json!({
        "hidden_size": 768,
        "intermediate_size": 3072,
        "num_hidden_layers": 12,
        "num_attention_heads": 12,
        "vocab_size": 32000,
        "max_position_embeddings": 64,
        "hidden_act": "gelu_pytorch_tanh",
        "layer_norm_eps": 1e-6,
        "pad_token_id": 1,
    });
    let (text, SiglipSettings { pad_token_id: pad, projection_size }) = text_settings(given, &defaults)?;
    let space = projection_size.unwrap_or(text.dim);
    let TextConfig { vocab, .. } = text;
    ensure!(
        space == vision.dim,
        "texts are mapped to {space} values, pictures to {}: they have no common space",
        vision.dim
    );
    ensure!(
        (pad as usize) < vocab,
        "settings of the text tower: pad_token_id = {pad} must be below vocab_size = {vocab}"
    );
    Ok(TowersConfig { vision, text, space, family: TowerFamily::Siglip { pad } })
}

/// From the image encoder's states to the common space.
fn image_head(foreign: &mut ForeignTensors, config: &TowersConfig) -> Result<Vec<Named>> {
    let VisionConfig { dim, ffn, layers, .. } = config.vision;
    let mut mapper = TensorMapper::new(foreign, Sizes { dim, ffn, layers });
    match config.family {
        TowerFamily::Clip { .. } => {
            mapper.map("image_projection", "visual_projection.weight", [dim, config.space])?;
        }
        TowerFamily::Siglip { .. } => {
            let head = "vision_model.head";
            let attention = format!("{head}.attention");
            mapper.query("pool", &format!("{head}.probe"), &attention)?;
            mapper.linear("pool.out", &format!("{attention}.out_proj"), [dim, dim], None)?;
            mapper.norm("pool.mlp.norm", &format!("{head}.layernorm"))?;
            mapper.linear("pool.mlp.up", &format!("{head}.mlp.fc1"), [dim, ffn], None)?;
            mapper.linear("pool.mlp.down", &format!("{head}.mlp.fc2"), [ffn, dim], None)?;
        }
    }
    Ok(mapper.finish())
}

/// The text tower.
fn text(foreign: &mut ForeignTensors, config: &TowersConfig) -> Result<Vec<Named>> {
    const TEXT: BlockNames = BlockNames { blocks: "text_model.encoder.layers", ..block_names::CLIP };
    let (TextConfig { vocab, length, dim, layers, ffn, .. }, space) = (config.text.clone(), config.space);
    let mut mapper = TensorMapper::new(foreign, Sizes { dim, ffn, layers });
    mapper.table("embedding", "text_model.embeddings.token_embedding.weight", vocab)?;
    mapper.table("position", "text_model.embeddings.position_embedding.weight", length)?;
    mapper.blocks(&TEXT)?;
    mapper.norm("norm", "text_model.final_layer_norm")?;
    match config.family {
        TowerFamily::Clip { .. } => mapper.map("projection", "text_projection.weight", [dim, space])?,
        TowerFamily::Siglip { .. } => mapper.linear("projection", "text_model.head", [dim, space], None)?,
    }
    let found = mapper.finish().into_iter();
    Ok(found.map(|(name, shape, values)| (format!("text.{name}"), shape, values)).collect())
}
