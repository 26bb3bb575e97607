//! Pre-trained language models: Llama, Mistral, Qwen2 and Qwen3 of Hugging Face, and in GGUF.
//!
//! Also the language model of a whole model in [`super::exported`]'s forms.
//!
//! A folder has `config.json`, and `model.safetensors` or `model.safetensors.index.json` with its parts, in
//! f32, f16 or bf16; or it has one GGUF file. [`open`] looks at names, shapes and types alone; values are
//! read when a network takes them, one parameter after another and each on all threads.

use std::collections::BTreeMap;
use std::path::{Path, PathBuf};

use anyhow::{Context as _, Result, ensure};
use rayon::prelude::*;
use serde_json::Value;

use super::exported::{self, DecoderFiles};
use super::gguf_settings::{self, TensorFacts};
use super::lm_names::{GGUF, HUGGING_FACE, LmNames, ROPE_FACTORS};
use super::tensor_parts::{RowOrder, TensorParts};
use super::tensors::{ForeignTensor, ForeignTensors, TensorAccount, TensorValues};
use super::{files, lm_settings};
use crate::export::part;
use crate::gguf::GgufFile;
use crate::lm::{Lm, LmConfig};
use crate::weights::{self, MakeValues};

/// The end of the names of what is left: tables that follow from the settings, in old files.
const LEFT: &str = "rotary_emb.inv_freq";

/// A language model as it was found.
pub struct ImportedLm {
    /// Its shape. The vocabulary is its embedding's.
    pub config: LmConfig,
    /// The longest text that it was trained on, if its settings say so.
    /// Unit: tokens.
    pub context: Option<usize>,
    /// Every parameter of [`Lm`], by its path there.
    tensors: Vec<LmTensor>,
    /// Where it was found.
    from: String,
    /// What became of the tensors there.
    account: TensorAccount,
}

/// One parameter of ours and the tensors that it is made of.
struct LmTensor {
    path: String,
    shape: Vec<usize>,
    parts: TensorParts,
}

/// Reads a Hugging Face folder, a GGUF file, or a folder with one.
///
/// # Errors
/// One line with the file when it can't be read; with the setting that is unknown or that [`Lm`] has not;
/// with the tensor when one is missing, superfluous, of another shape or of a type that can't be read.
pub fn open(path: &Path) -> Result<ImportedLm> {
    match gguf_file(path)? {
        Some(file) => open_gguf(&file),
        None => open_folder(path),
    }
}

/// The GGUF file that `path` is, or the only one of a folder without `config.json`.
///
/// # Errors
/// A file of another kind; a folder that can't be read or has several.
pub fn gguf_file(path: &Path) -> Result<Option<PathBuf>> {
    let is_gguf = |path: &Path| path.extension().is_some_and(|end| end.eq_ignore_ascii_case("gguf"));
    if !path.is_dir() {
        let shown = path.display();
        ensure!(path.exists() && is_gguf(path), "{shown}: not a Hugging Face folder, and no .gguf file");
        return Ok(Some(path.to_owned()));
    }
    if path.join("config.json").exists() {
        return Ok(None);
    }
    let entries = path
        .read_dir()
        .and_then(|entries| entries.map(|entry| Ok(entry?.path())).collect::<std::io::Result<Vec<_>>>());
    let mut found = entries.with_context(|| format!("{}: can't be read", path.display()))?;
    found.retain(|path| is_gguf(path));
    ensure!(
        found.len() <= 1,
        "{}: it has {} GGUF files: name the one that is meant",
        path.display(),
        found.len()
    );
    Ok(found.pop())
}

fn open_folder(path: &Path) -> Result<ImportedLm> {
    if let Some(whole) = exported::open(path)? {
        let DecoderFiles { settings, names, tensors } = whole.decoder()?;
        return of_settings(&path.join("config.json"), &settings, names, tensors);
    }
    let file = path.join("config.json");
    let given: Value = files::json(&file)?;
    let foreign = ForeignTensors::new(path.display().to_string(), files::tensors(path)?);
    of_settings(&file, &given, &HUGGING_FACE, foreign)
}

/// By the settings of the file `file`.
fn of_settings(
    file: &Path,
    given: &Value,
    names: &'static LmNames,
    mut foreign: ForeignTensors,
) -> Result<ImportedLm> {
    let config = lm_settings::read(given).with_context(|| file.display().to_string())?;
    let context = given["max_position_embeddings"].as_u64().and_then(|n| usize::try_from(n).ok());
    // A tied head that was written nonetheless is the embedding again: `transformers` leaves it as well.
    foreign.leave_if(|name| name.ends_with(LEFT) || config.tied && name == names.head);
    LmFound { config, context, names, order: RowOrder::Own }.map(foreign)
}

fn open_gguf(path: &Path) -> Result<ImportedLm> {
    let from = path.display().to_string();
    let GgufFile { metadata, mut tensors } = GgufFile::open(path)?;
    let factors = tensors.remove(ROPE_FACTORS).map(|factors| factors.read()).transpose();
    let rope_factors = factors.with_context(|| format!("{from}: `{ROPE_FACTORS}` can't be read"))?;
    let rows = tensors.get(GGUF.embedding).and_then(|embedding| embedding.shape.first());
    let vocab = *rows.with_context(|| format!("{from}: `{}` is missing", GGUF.embedding))?;
    let facts = TensorFacts { vocab, tied: !tensors.contains_key(GGUF.head), rope_factors };
    let (pairs, config) = gguf_settings::read(&metadata, &facts).with_context(|| from.clone())?;
    let order = if pairs { RowOrder::Pairs(config.attention_heads().width) } else { RowOrder::Own };
    let context = gguf_settings::context(&metadata);
    let foreign = tensors.into_iter().map(|(name, tensor)| {
        let shape = tensor.shape.clone();
        (name, ForeignTensor { shape, transposed: false, values: TensorValues::Gguf(tensor) })
    });
    let foreign = ForeignTensors::new(from, foreign.collect::<BTreeMap<_, _>>());
    // The factors of the angles are a setting by now.
    let factors = facts.rope_factors.map(|_| ROPE_FACTORS.to_owned());
    LmFound { config, context, names: &GGUF, order }.map(foreign.beside(factors.into_iter().collect()))
}

/// What is known of a language model before its tensors are looked at.
struct LmFound {
    config: LmConfig,
    context: Option<usize>,
    names: &'static LmNames,
    /// Of the maps of queries and keys.
    order: RowOrder,
}

impl LmFound {
    /// Gives each of the tensors its place.
    fn map(self, foreign: ForeignTensors) -> Result<ImportedLm> {
        let from = foreign.from().to_owned();
        let Self { config, context, names, order } = self;
        let mut mapper = LmMapper { foreign, names, order, found: Vec::new() };
        mapper.all(&config)?;
        let account = mapper.foreign.finish("language model")?;
        Ok(ImportedLm { config, context, tensors: mapper.found, from, account })
    }
}

impl ImportedLm {
    /// What became of the tensors of its files.
    pub fn account(&self) -> &TensorAccount {
        &self.account
    }

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
            for part in parts.tensors() {
                part.bytes(&mut each).with_context(|| format!("{}: `{path}`", self.from))?;
            }
        }
        Ok(())
    }

    /// Of how many parameters the values are those of `lm` to the bit, where these are rounded by
    /// `rounded`. One parameter is held at a time.
    ///
    /// # Errors
    /// A file that can't be read any more; a parameter that one of both has not.
    pub fn equal_parameters(self, lm: &Lm, rounded: impl Fn(f32) -> f32 + Sync) -> Result<usize> {
        let mut tensors: BTreeMap<String, LmTensor> =
            self.tensors.into_iter().map(|tensor| (tensor.path.clone(), tensor)).collect();
        let mut equal = 0;
        part::visit_whole(lm, |path, _, ours| {
            let LmTensor { shape, parts, .. } = tensors.remove(path).context("it is missing")?;
            let found = parts.read(&shape)?;
            let same = found.len() == ours.len()
                && found.par_iter().zip(ours).all(|(a, &b)| a.to_bits() == rounded(b).to_bits());
            equal += usize::from(same);
            Ok(())
        })?;
        ensure!(tensors.is_empty(), "{} has {} parameters too many", self.from, tensors.len());
        Ok(equal)
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
    names: &'static LmNames,
    /// Of the maps of queries and keys.
    order: RowOrder,
    found: Vec<LmTensor>,
}

/// A map of another file: its name, its outputs, and their order.
type ForeignMap = (String, usize, RowOrder);

impl LmMapper {
    fn all(&mut self, config: &LmConfig) -> Result<()> {
        let (vocab, dim, names) = (config.vocab(), config.dim, self.names);
        self.rows("embedding", names.embedding, &[vocab, dim])?;
        for layer in 0..config.layers {
            self.block(config, layer)?;
        }
        self.rows("norm.gamma", names.norm, &[dim])?;
        if !config.tied {
            self.columns("head", dim, vec![(names.head.to_owned(), vocab, RowOrder::Own)])?;
        }
        Ok(())
    }

    fn block(&mut self, config: &LmConfig, layer: usize) -> Result<()> {
        let (dim, ffn, heads) = (config.dim, config.ffn, config.attention_heads());
        let (q, kv) = (heads.out_width(), heads.kv_heads * heads.width);
        let (attention, mlp) = (format!("blocks.{layer}.attention"), format!("blocks.{layer}.mlp"));
        let names = self.names;
        let theirs = |name: &str| names.weight(layer, name);
        self.rows(&format!("{attention}.norm.gamma"), &theirs(names.norms[0]), &[dim])?;
        self.rows(&format!("{mlp}.norm.gamma"), &theirs(names.norms[1]), &[dim])?;
        let sides = [(q, self.order), (kv, self.order), (kv, RowOrder::Own)].into_iter().zip(names.qkv);
        let maps = sides.map(|((outputs, order), name)| (theirs(name), outputs, order)).collect();
        self.columns(&format!("{attention}.qkv"), dim, maps)?;
        if config.qkv_bias {
            let biases = names.qkv.map(|name| names.bias(layer, name));
            let widths = [(&*biases[0], q), (&*biases[1], kv), (&*biases[2], kv)];
            self.join(&format!("{attention}.qkv_bias"), &widths)?;
        }
        if config.qk_norm {
            for (ours, name) in ["q", "k"].into_iter().zip(names.qk_norms) {
                self.rows(&format!("{attention}.qk_norm.{ours}_gamma"), &theirs(name), &[heads.width])?;
            }
        }
        let own = |name: &str, outputs: usize| (theirs(name), outputs, RowOrder::Own);
        self.columns(&format!("{attention}.out"), q, vec![own(names.out, dim)])?;
        let up = names.gate_up.map(|name| own(name, ffn)).into();
        self.columns(&format!("{mlp}.up"), dim, up)?;
        self.columns(&format!("{mlp}.down"), ffn, vec![own(names.down, dim)])
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

    /// Maps of `inputs` inputs, side by side.
    fn columns(&mut self, ours: &str, inputs: usize, theirs: Vec<ForeignMap>) -> Result<()> {
        let outputs = theirs.iter().map(|(_, outputs, _)| outputs).sum();
        let parts = theirs
            .into_iter()
            .map(|(name, outputs, order)| anyhow::Ok((self.take(&name, &[outputs, inputs])?, order)));
        let parts = parts.collect::<Result<_>>()?;
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
