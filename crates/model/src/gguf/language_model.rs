//! A language model of ours as a file that llama.cpp loads.

use std::path::Path;

use anyhow::{Context as _, Result, bail, ensure};

use super::metadata::MetadataValue;
use super::tensor_type::TensorType;
use super::tokenizer::StoredTokenizer;
use super::writer::{TensorSpec, write};
use crate::export::lm::LmForm;
use crate::export::part::{self, ExportedPart, Places};
use crate::import::lm_names::{GGUF, ROPE_FACTORS};
use crate::lm::{Lm, LmConfig};
use crate::rope::RopeScaling;

/// What is written.
#[derive(Clone, Copy, Debug)]
pub struct GgufLanguageModel<'a> {
    /// Its parameters.
    pub lm: &'a Lm,
    /// Its shape.
    pub config: &'a LmConfig,
    /// Its tokenizer. Rows of the embedding without a token get an unused one.
    pub tokenizer: &'a StoredTokenizer,
    /// How people call it.
    pub name: &'a str,
    /// The longest text that it was trained on.
    /// Unit: tokens.
    pub context: usize,
    /// How its matrices lie in the file: F32, F16, BF16 or Q8_0. Vectors are F32. Where rows are not of whole
    /// blocks of Q8_0 they are F16, as llama.cpp does it.
    pub matrices: TensorType,
}

/// Writes a language model: architecture `llama`, `qwen2` (with biases of queries, keys and values) or
/// `qwen3` (with norms of query and key heads).
///
/// # Errors
/// One line with the setting that no architecture has; as [`write()`].
pub fn write_language_model(path: &Path, model: &GgufLanguageModel<'_>) -> Result<()> {
    let GgufLanguageModel { lm, config, tokenizer, .. } = *model;
    let (tokens, vocab) = (tokenizer.tokens.len(), config.vocab());
    ensure!(tokens <= vocab, "the tokenizer has {tokens} tokens, but the model's vocabulary is {vocab}");
    let architecture = architecture(config)?;
    let mut metadata = settings(model, architecture);
    metadata.extend(tokenizer.metadata(vocab));
    // Only the architecture `llama` turns neighbours.
    let form = LmForm { names: &GGUF, pairs: architecture == "llama" };
    let mut places = Places::new();
    for (path, shape) in crate::weights::shapes(lm) {
        let own = form.places(&path, &shape, config).with_context(|| format!("`{path}`"))?;
        places.insert(path, own);
    }
    let mut specs: Vec<TensorSpec> =
        part::in_order(lm, &places).into_iter().map(|part| spec(part, model.matrices)).collect();
    let factors = rope_factors(config);
    if let Some(factors) = &factors {
        let shape = vec![factors.len()];
        specs.push(TensorSpec { name: ROPE_FACTORS.to_owned(), shape, tensor_type: TensorType::F32 });
    }
    write(path, &metadata, &specs, |writer| {
        part::visit(lm, &places, |values| writer.put(values))?;
        factors.map_or(Ok(()), |factors| writer.put(&factors))
    })
}

/// How a part lies in a file whose matrices are of one type.
fn spec(part: &ExportedPart, matrices: TensorType) -> TensorSpec {
    let whole = part.shape.last().is_some_and(|row| row.is_multiple_of(matrices.block()));
    let tensor_type = match part.shape.len() {
        1 => TensorType::F32,
        _ if whole => matrices,
        _ => TensorType::F16,
    };
    TensorSpec { name: part.name.clone(), shape: part.shape.clone(), tensor_type }
}

fn architecture(config: &LmConfig) -> Result<&'static str> {
    let architecture = match (config.qkv_bias, config.qk_norm) {
        (false, false) => "llama",
        (true, false) => "qwen2",
        (false, true) => "qwen3",
        (true, true) => bail!("llama.cpp has no decoder with qkv_bias and qk_norm"),
    };
    let llama3 = matches!(config.rope_scaling, RopeScaling::Llama3 { .. });
    ensure!(!llama3 || architecture == "llama", "llama.cpp's {architecture} has no rope_scaling of Llama 3");
    Ok(architecture)
}

/// What the file says of the model's shape.
fn settings(model: &GgufLanguageModel<'_>, architecture: &str) -> Vec<(String, MetadataValue)> {
    let GgufLanguageModel { config, name, context, .. } = *model;
    let size = |value: usize| MetadataValue::u32(u32::try_from(value).unwrap_or(u32::MAX));
    let text = |value: &str| MetadataValue::Text(value.to_owned());
    let width = size(config.attention_heads().width);
    let general = [
        ("general.architecture", text(architecture)),
        ("general.type", text("model")),
        ("general.name", text(name)),
        ("general.file_type", size(model.matrices.file_type())),
        ("general.quantization_version", size(2)),
    ];
    let mut own = vec![
        ("context_length", size(context)),
        ("vocab_size", size(config.vocab())),
        ("embedding_length", size(config.dim)),
        ("block_count", size(config.layers)),
        ("feed_forward_length", size(config.ffn)),
        ("attention.head_count", size(config.heads)),
        ("attention.head_count_kv", size(config.kv_heads)),
        ("attention.key_length", width.clone()),
        ("attention.value_length", width.clone()),
        ("attention.layer_norm_rms_epsilon", MetadataValue::f32(config.norm_eps as f32)),
        ("rope.dimension_count", width),
        ("rope.freq_base", MetadataValue::f32(config.rope_base as f32)),
    ];
    if let RopeScaling::Linear { factor } = config.rope_scaling {
        own.push(("rope.scaling.type", text("linear")));
        own.push(("rope.scaling.factor", MetadataValue::f32(factor as f32)));
    }
    let general = general.map(|(key, value)| (key.to_owned(), value));
    let own = own.into_iter().map(|(key, value)| (format!("{architecture}.{key}"), value));
    general.into_iter().chain(own).collect()
}

/// By what the angles of Llama 3 are divided.
fn rope_factors(config: &LmConfig) -> Option<Vec<f32>> {
    let RopeScaling::Llama3 { .. } = config.rope_scaling else { return None };
    let factors = config.rope_scaling.factors(config.rope_base, config.attention_heads().width);
    Some(factors.into_iter().map(|factor| factor as f32).collect())
}
