//! Pre-trained language models of Hugging Face: Llama, Mistral, Qwen2 and Qwen3.
//!
//! A folder has `config.json`, and `model.safetensors` or `model.safetensors.index.json` with its parts, in
//! f32, f16 or bf16. [`open`] looks at names, shapes and types alone; values are read when a network takes
//! them, one parameter after another and each on all threads.

use std::path::Path;

use anyhow::{Context as _, Result, ensure};
use rayon::prelude::*;
use serde_json::Value;

use super::folder;
use super::lm_settings::{self, LmFamily};
use super::tensors::{ForeignTensor, ForeignTensors};
use crate::lm::{Lm, LmConfig};
use crate::weights::{self, MakeValues};

/// The end of the names of what is left: tables that follow from the settings, in old files.
const LEFT: &str = "rotary_emb.inv_freq";

/// A language model as it was found.
pub struct ImportedLm {
    /// Its shape. The vocabulary is its embedding's.
    pub config: LmConfig,
    /// Every parameter of [`Lm`], by its path there.
    tensors: Vec<LmTensor>,
    /// Where it was found.
    from: String,
}

/// One parameter of ours and the tensors that it is made of.
struct LmTensor {
    path: String,
    shape: Vec<usize>,
    parts: TensorParts,
}

/// Tensors that make up one of ours.
enum TensorParts {
    /// One after another.
    Rows(Vec<ForeignTensor>),
    /// Maps `[out, in]`, turned to `[in, out]`, side by side.
    Columns(Vec<ForeignTensor>),
}

/// Reads a Hugging Face folder.
///
/// # Errors
/// One line with the file when it can't be read; with the setting that is unknown or that [`Lm`] has not;
/// with the tensor when one is missing, superfluous, of another shape or of a type other than f32, f16 and
/// bf16.
pub fn open(path: &Path) -> Result<ImportedLm> {
    ensure!(path.is_dir(), "{}: not a Hugging Face folder", path.display());
    let file = path.join("config.json");
    let given: Value = folder::json(&file)?;
    let (family, config) = lm_settings::read(&given).with_context(|| file.display().to_string())?;
    let mut all = folder::tensors(path)?;
    // A tied head that was written nonetheless is the embedding again: `transformers` leaves it as well.
    all.retain(|name, _| !(name.ends_with(LEFT) || config.tied && name == "lm_head.weight"));
    let mut mapper =
        LmMapper { foreign: ForeignTensors::new(path.display().to_string(), all), found: Vec::new() };
    mapper.all(family, &config)?;
    let (from, tensors) = (mapper.foreign.from().to_owned(), mapper.found);
    mapper.foreign.finish("language model")?;
    Ok(ImportedLm { config, tensors, from })
}

impl ImportedLm {
    /// The values for `lm`, which was made by `config`. That has to be the imported shape, but that its
    /// vocabulary may be larger: new rows of embedding and head are the mean of the others.
    ///
    /// # Errors
    /// One line with the first setting that differs, both sides; a file that can't be read any more.
    pub fn fit(self, lm: Lm, config: &LmConfig) -> Result<Lm> {
        self.check(config)?;
        let (rows, wanted) = (self.config.vocab(), config.vocab());
        ensure!(wanted >= rows, "model.lm.vocab = {wanted}, but {} has {rows}: it can only grow", self.from);
        let (from, vocab) = (self.from, config.vocab());
        let made = self.tensors.into_iter().map(move |tensor| {
            let LmTensor { path, mut shape, parts } = tensor;
            match path.as_str() {
                "embedding" => shape[0] = vocab,
                "head" => shape[1] = vocab,
                _ => {}
            }
            let (wanted, from) = (shape.clone(), from.clone());
            let make: MakeValues = Box::new(move || parts.read(&wanted).with_context(|| from));
            (path, shape, make)
        });
        weights::assign_made(lm, made)
    }

    /// Gives names, shapes and bytes of all tensors, piece after piece: what tells these weights from others.
    ///
    /// # Errors
    /// A file that can't be read any more.
    pub fn identify(&self, mut each: impl FnMut(&[u8])) -> Result<()> {
        for LmTensor { path, shape, parts } in &self.tensors {
            each(format!("{path} {shape:?}").as_bytes());
            let (TensorParts::Rows(parts) | TensorParts::Columns(parts)) = parts;
            for part in parts {
                part.bytes(&mut each).with_context(|| format!("{}: `{path}`", self.from))?;
            }
        }
        Ok(())
    }

    /// Refuses a shape that is not the imported one, but for the vocabulary.
    ///
    /// # Errors
    /// One line with the first setting that differs, both sides.
    pub fn check(&self, config: &LmConfig) -> Result<()> {
        let fixed =
            |config: &LmConfig| serde_json::to_value(LmConfig { from: None, vocab: None, ..config.clone() });
        let (own, given) = (fixed(&self.config)?, fixed(config)?);
        let said = |value: &Value| if value.is_null() { "none".to_owned() } else { value.to_string() };
        for (field, _) in own.as_object().into_iter().chain(given.as_object()).flatten() {
            let (wanted, had) = (&given[field], &own[field]);
            ensure!(
                wanted == had,
                "model.lm.{field} = {}, but {} has {}",
                said(wanted),
                self.from,
                said(had)
            );
        }
        Ok(())
    }
}

/// Takes foreign tensors and gives ours.
struct LmMapper {
    foreign: ForeignTensors,
    found: Vec<LmTensor>,
}

impl LmMapper {
    fn all(&mut self, family: LmFamily, config: &LmConfig) -> Result<()> {
        let (vocab, dim) = (config.vocab(), config.dim);
        self.rows("embedding", "model.embed_tokens.weight", &[vocab, dim])?;
        for layer in 0..config.layers {
            self.block(family, config, layer)?;
        }
        self.rows("norm.gamma", "model.norm.weight", &[dim])?;
        if !config.tied {
            self.columns("head", dim, &[("lm_head.weight", vocab)])?;
        }
        Ok(())
    }

    fn block(&mut self, family: LmFamily, config: &LmConfig, layer: usize) -> Result<()> {
        let (dim, ffn, heads) = (config.dim, config.ffn, config.attention_heads());
        let (q, kv) = (heads.out_width(), heads.kv_heads * heads.width);
        let (attention, mlp) = (format!("blocks.{layer}.attention"), format!("blocks.{layer}.mlp"));
        let theirs = |name: &str| format!("model.layers.{layer}.{name}");
        let [input, post] = ["input_layernorm.weight", "post_attention_layernorm.weight"].map(theirs);
        self.rows(&format!("{attention}.norm.gamma"), &input, &[dim])?;
        self.rows(&format!("{mlp}.norm.gamma"), &post, &[dim])?;
        let maps = ["q", "k", "v"].map(|name| theirs(&format!("self_attn.{name}_proj.weight")));
        let sides = [(&*maps[0], q), (&*maps[1], kv), (&*maps[2], kv)];
        self.columns(&format!("{attention}.qkv"), dim, &sides)?;
        if family == LmFamily::Qwen2 {
            let biases = ["q", "k", "v"].map(|name| theirs(&format!("self_attn.{name}_proj.bias")));
            let widths = [(&*biases[0], q), (&*biases[1], kv), (&*biases[2], kv)];
            self.join(&format!("{attention}.qkv_bias"), &widths)?;
        }
        if family == LmFamily::Qwen3 {
            for name in ["q", "k"] {
                let norm = theirs(&format!("self_attn.{name}_norm.weight"));
                self.rows(&format!("{attention}.qk_norm.{name}_gamma"), &norm, &[heads.width])?;
            }
        }
        self.columns(&format!("{attention}.out"), q, &[(&theirs("self_attn.o_proj.weight"), dim)])?;
        let [gate, up] = ["mlp.gate_proj.weight", "mlp.up_proj.weight"].map(theirs);
        self.columns(&format!("{mlp}.up"), dim, &[(&gate, ffn), (&up, ffn)])?;
        self.columns(&format!("{mlp}.down"), ffn, &[(&theirs("mlp.down_proj.weight"), dim)])
    }

    /// One tensor as it is.
    fn rows(&mut self, ours: &str, theirs: &str, shape: &[usize]) -> Result<()> {
        let part = self.take(theirs, shape)?;
        self.put(ours, shape.to_vec(), TensorParts::Rows(vec![part]));
        Ok(())
    }

    /// Vectors of these widths one after another.
    fn join(&mut self, ours: &str, theirs: &[(&str, usize)]) -> Result<()> {
        let parts = theirs.iter().map(|&(name, width)| self.take(name, &[width]));
        let parts = parts.collect::<Result<_>>()?;
        let width = theirs.iter().map(|(_, width)| width).sum();
        self.put(ours, vec![width], TensorParts::Rows(parts));
        Ok(())
    }

    /// Maps of `inputs` inputs and these numbers of outputs, side by side.
    fn columns(&mut self, ours: &str, inputs: usize, theirs: &[(&str, usize)]) -> Result<()> {
        let parts = theirs.iter().map(|&(name, outputs)| self.take(name, &[outputs, inputs]));
        let parts = parts.collect::<Result<_>>()?;
        let outputs = theirs.iter().map(|(_, outputs)| outputs).sum();
        self.put(ours, vec![inputs, outputs], TensorParts::Columns(parts));
        Ok(())
    }

    fn take(&mut self, name: &str, shape: &[usize]) -> Result<ForeignTensor> {
        let stored = self.foreign.take_stored(name, shape)?;
        stored.check_type().with_context(|| format!("{}: `{name}` can't be read", self.foreign.from()))?;
        Ok(stored)
    }

    fn put(&mut self, path: &str, shape: Vec<usize>, parts: TensorParts) {
        self.found.push(LmTensor { path: path.to_owned(), shape, parts });
    }
}

impl TensorParts {
    /// The values of ours, of the shape `shape`; what the parts do not fill is their mean.
    fn read(self, shape: &[usize]) -> Result<Vec<f32>> {
        let count = shape.iter().product();
        match self {
            Self::Rows(parts) => {
                let mut values = Vec::new();
                for part in parts {
                    let part = part.values.read()?;
                    if values.is_empty() { values = part } else { values.extend(part) }
                }
                if values.len() < count {
                    grow_rows(&mut values, count, shape[shape.len() - 1]);
                }
                Ok(values)
            }
            Self::Columns(parts) => {
                let (mut values, mut filled) = (vec![0.0; count], 0);
                for part in parts {
                    let outputs = part.shape[0];
                    turn(&part.values.read()?, (&mut values, shape[1]), filled..filled + outputs);
                    filled += outputs;
                }
                grow_columns(&mut values, shape[1], filled);
                Ok(values)
            }
        }
    }
}

/// Appends rows of `width` values, all the mean of those that are there, until there are `count` values.
fn grow_rows(values: &mut Vec<f32>, count: usize, width: usize) {
    let rows = values.len() / width;
    let mut sums = vec![0.0f64; width];
    for row in values.chunks_exact(width) {
        sums.iter_mut().zip(row).for_each(|(sum, &value)| *sum += f64::from(value));
    }
    let mean: Vec<f32> = sums.into_iter().map(|sum| (sum / rows as f64) as f32).collect();
    while values.len() < count {
        values.extend_from_slice(&mean);
    }
}

/// Fills the columns of rows of `width` values from `filled` on with the mean of those before.
fn grow_columns(values: &mut [f32], width: usize, filled: usize) {
    if filled == width {
        return;
    }
    values.par_chunks_mut(width).for_each(|row| {
        let sum: f64 = row[..filled].iter().copied().map(f64::from).sum();
        row[filled..].fill((sum / filled as f64) as f32);
    });
}

/// Rows of a target that are written together: a cache line of each row of the source.
const BAND: usize = 16;

/// Writes a map `[out, in]` to the columns `columns` of rows of `width` values `[in, width]`.
fn turn(map: &[f32], (target, width): (&mut [f32], usize), columns: std::ops::Range<usize>) {
    let inputs = target.len() / width;
    target.par_chunks_mut(BAND * width).enumerate().for_each(|(band, rows)| {
        for (row, column) in map.chunks_exact(inputs).zip(columns.clone()) {
            let row = &row[band * BAND..];
            rows.chunks_exact_mut(width).zip(row).for_each(|(target, &value)| target[column] = value);
        }
    });
}
