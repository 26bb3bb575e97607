//! A language model of ours as a file that llama.cpp loads.

use std::collections::BTreeMap;
use std::path::Path;

use anyhow::{Context as _, Result, bail, ensure};
use burn::module::Param;
use burn::tensor::Tensor;
use rayon::prelude::*;

use super::metadata::MetadataValue;
use super::tensor_type::TensorType;
use super::tokenizer::StoredTokenizer;
use super::writer::{TensorSpec, TensorWriter, write};
use crate::import::lm_names::{GGUF, ROPE_FACTORS};
use crate::lm::{Lm, LmConfig};
use crate::rope::RopeScaling;
use crate::walk::{self, ParameterVisitor};

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
    let (mut places, mut specs) = (BTreeMap::new(), Vec::new());
    for (path, shape) in crate::weights::shapes(lm) {
        let own = places_of(&path, &shape, config).with_context(|| format!("`{path}`"))?;
        specs.extend(own.iter().map(|place| place.spec(model.matrices)));
        places.insert(path, own);
    }
    let factors = rope_factors(config);
    if let Some(factors) = &factors {
        let shape = vec![factors.len()];
        specs.push(TensorSpec { name: ROPE_FACTORS.to_owned(), shape, tensor_type: TensorType::F32 });
    }
    write(path, &metadata, &specs, |writer| {
        let mut all = WriteParameters { writer, places, failed: None };
        walk::visit(lm, &mut all);
        all.failed.map_or(Ok(()), Err)?;
        factors.map_or(Ok(()), |factors| writer.put(&factors))
    })
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
    // As llama.cpp numbers what most tensors are.
    let file_type = match model.matrices {
        TensorType::F32 => 0,
        TensorType::F16 => 1,
        TensorType::Q8_0 => 7,
        _ => 32,
    };
    let width = size(config.attention_heads().width);
    let general = [
        ("general.architecture", text(architecture)),
        ("general.type", text("model")),
        ("general.name", text(name)),
        ("general.file_type", size(file_type)),
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

/// One tensor of the file: which part of one of ours it is.
struct ExportedPart {
    name: String,
    /// As it lies in the file.
    shape: Vec<usize>,
    part: ParameterPart,
}

/// A part of a parameter.
enum ParameterPart {
    /// Values in their order, from one of them on.
    Values(usize),
    /// Columns of a map `[in, out]` as rows, from one of them on. Of heads of some width, number `j` and
    /// number `j + width / 2` follow each other, where their width is given.
    Columns(usize, Option<usize>),
}

impl ExportedPart {
    fn spec(&self, matrices: TensorType) -> TensorSpec {
        let whole = self.shape.last().is_some_and(|row| row.is_multiple_of(matrices.block()));
        let tensor_type = match self.shape.len() {
            1 => TensorType::F32,
            _ if whole => matrices,
            _ => TensorType::F16,
        };
        TensorSpec { name: self.name.clone(), shape: self.shape.clone(), tensor_type }
    }

    fn values(&self, ours: &[f32], width: usize) -> Vec<f32> {
        let count = self.shape.iter().product();
        match self.part {
            ParameterPart::Values(from) => ours[from..][..count].to_vec(),
            ParameterPart::Columns(from, head) => {
                let inputs = self.shape[1];
                let mut values = vec![0.0; count];
                values.par_chunks_mut(inputs).enumerate().for_each(|(row, values)| {
                    let column = from + head.map_or(row, |head| half_split(row, head));
                    let ours = ours.chunks_exact(width).map(|row| row[column]);
                    values.iter_mut().zip(ours).for_each(|(value, ours)| *value = ours);
                });
                values
            }
        }
    }
}

/// Where number `row` of heads of `width` is in a file whose pairs follow each other, among ours, where the
/// second half follows the first.
fn half_split(row: usize, width: usize) -> usize {
    row / width * width + row % 2 * (width / 2) + row % width / 2
}

/// What the parameter at `path` of this shape becomes, in the order of its columns.
fn places_of(path: &str, shape: &[usize], config: &LmConfig) -> Result<Vec<ExportedPart>> {
    let block = path.strip_prefix("blocks.").and_then(|rest| rest.split_once('.'));
    if let Some((layer, rest)) = block {
        let layer = layer.parse().context("its block has no number")?;
        return places_in_block(layer, rest, shape, config);
    }
    Ok(match path {
        "embedding" => whole(GGUF.embedding.to_owned(), shape),
        "norm.gamma" => whole(GGUF.norm.to_owned(), shape),
        "head" => columns(shape[0], vec![(GGUF.head.to_owned(), shape[1], None)]),
        _ => bail!("it has no place in the file"),
    })
}

/// The same of one in a block.
fn places_in_block(
    layer: usize,
    path: &str,
    shape: &[usize],
    config: &LmConfig,
) -> Result<Vec<ExportedPart>> {
    let heads = config.attention_heads();
    let (q, kv) = (heads.out_width(), heads.kv_heads * heads.width);
    // Only the architecture `llama` turns neighbours.
    let head = (!config.qkv_bias && !config.qk_norm).then_some(heads.width);
    let weight = |name: &str| GGUF.weight(layer, name);
    let map = |name: &str, outputs: usize, head: Option<usize>| (weight(name), outputs, head);
    let [query, key, value] = GGUF.qkv;
    let maps = match path {
        "attention.norm.gamma" => return Ok(whole(weight(GGUF.norms[0]), shape)),
        "mlp.norm.gamma" => return Ok(whole(weight(GGUF.norms[1]), shape)),
        "attention.qk_norm.q_gamma" => return Ok(whole(weight(GGUF.qk_norms[0]), shape)),
        "attention.qk_norm.k_gamma" => return Ok(whole(weight(GGUF.qk_norms[1]), shape)),
        "attention.qkv_bias" => {
            let biases = [(query, 0, q), (key, q, kv), (value, q + kv, kv)];
            let bias = |(name, from, width)| ExportedPart {
                name: GGUF.bias(layer, name),
                shape: vec![width],
                part: ParameterPart::Values(from),
            };
            return Ok(biases.map(bias).into());
        }
        "attention.qkv" => vec![map(query, q, head), map(key, kv, head), map(value, kv, None)],
        "attention.out" => vec![map(GGUF.out, config.dim, None)],
        "mlp.up" => GGUF.gate_up.map(|name| map(name, config.ffn, None)).into(),
        "mlp.down" => vec![map(GGUF.down, config.dim, None)],
        _ => bail!("it has no place in the file"),
    };
    Ok(columns(shape[0], maps))
}

fn whole(name: String, shape: &[usize]) -> Vec<ExportedPart> {
    vec![ExportedPart { name, shape: shape.to_vec(), part: ParameterPart::Values(0) }]
}

/// Maps of `inputs` inputs that lie side by side: names, outputs, and the width of heads that are turned.
fn columns(inputs: usize, maps: Vec<(String, usize, Option<usize>)>) -> Vec<ExportedPart> {
    let mut from = 0;
    let part = |(name, outputs, head)| {
        let part = ParameterPart::Columns(from, head);
        from += outputs;
        ExportedPart { name, shape: vec![outputs, inputs], part }
    };
    maps.into_iter().map(part).collect()
}

/// Writes the parts of one parameter after another.
struct WriteParameters<'a, 'b> {
    writer: &'a mut TensorWriter<'b>,
    places: BTreeMap<String, Vec<ExportedPart>>,
    /// What could not be written first.
    failed: Option<anyhow::Error>,
}

impl ParameterVisitor for WriteParameters<'_, '_> {
    fn visit<const D: usize>(&mut self, path: &str, parameter: &Param<Tensor<D>>) {
        let Some(parts) = self.places.remove(path).filter(|_| self.failed.is_none()) else { return };
        let value = parameter.val();
        let width = value.dims()[D - 1];
        let values: Vec<f32> = value.into_data().iter::<f32>().collect();
        let mut parts = parts.iter();
        self.failed = parts.find_map(|part| self.writer.put(&part.values(&values, width)).err());
    }
}
