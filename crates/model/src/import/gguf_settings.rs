//! The metadata of a language model in GGUF. Every key is read, known to change nothing, or refused by its
//! name.

use std::collections::BTreeMap;

use anyhow::{Context as _, Result, bail, ensure};

use super::lm_settings::MOST;
use crate::gguf::MetadataValue;
use crate::lm::LmConfig;
use crate::rope::RopeScaling;
use crate::rope_factors;

/// Architectures whose tensors have a place in ours. Mistral's is `llama`.
const ARCHITECTURES: [&str; 3] = ["llama", "qwen2", "qwen3"];

/// Beginnings of the keys that change no logit: what people and tools note, the tokenizer.
const WITHOUT_EFFECT: [&str; 3] = ["general.", "tokenizer.", "quantize."];

/// Keys of an architecture that change no logit: the length is none of a network with RoPE, and the last is
/// llama.cpp's own note of how an old file was made.
const OWN_WITHOUT_EFFECT: [&str; 4] = [
    "context_length",
    "rope.scaling.finetuned",
    "rope.scaling.original_context_length",
    "tensor_data_layout",
];

/// Keys of an architecture that are taken as one value only: where there is no such part.
const ABSENT: [&str; 6] = [
    "attention.sliding_window",
    "attention.clamp_kqv",
    "expert_count",
    "expert_used_count",
    "expert_shared_count",
    "leading_dense_block_count",
];

/// What else the file has.
pub(super) struct TensorFacts {
    /// Rows of the embedding.
    pub(super) vocab: usize,
    /// Whether the head is the embedding.
    pub(super) tied: bool,
    /// By what angles are divided, where there is such a tensor.
    pub(super) rope_factors: Option<Vec<f32>>,
}

/// Our shape, by the metadata.
///
/// # Errors
/// One line with the key that is unknown, missing or of a value that our decoder has not.
pub(super) fn read(
    metadata: &BTreeMap<String, MetadataValue>,
    facts: &TensorFacts,
) -> Result<(bool, LmConfig)> {
    let architecture =
        metadata.get("general.architecture").context("general.architecture is missing")?.text()?;
    ensure!(
        ARCHITECTURES.contains(&architecture),
        "general.architecture = {architecture:?}: only language models of these can be imported: {}",
        ARCHITECTURES.join(", ")
    );
    if let Some(kind) = metadata.get("general.type") {
        ensure!(kind.text()? == "model", "general.type = {}: only \"model\" can be imported", kind.shown());
    }
    let mut left = OwnKeys::of(metadata, architecture)?;
    let shape = left.shape(facts)?;
    if let Some((key, value)) = left.keys.first_key_value() {
        bail!(
            "{architecture}.{key} = {}: this setting is not known, so the model can't be imported",
            value.shown()
        );
    }
    shape.check()?;
    Ok((architecture == "llama", shape))
}

/// The longest text that the model was trained on, in tokens, if the metadata say so.
pub(super) fn context(metadata: &BTreeMap<String, MetadataValue>) -> Option<usize> {
    let architecture = metadata.get("general.architecture")?.text().ok()?;
    metadata.get(&format!("{architecture}.context_length"))?.size().ok()
}

/// What is left of an architecture's keys, without its name before them.
struct OwnKeys<'a> {
    architecture: &'a str,
    keys: BTreeMap<&'a str, &'a MetadataValue>,
}

impl<'a> OwnKeys<'a> {
    fn of(metadata: &'a BTreeMap<String, MetadataValue>, architecture: &'a str) -> Result<Self> {
        let mut keys = BTreeMap::new();
        for (key, value) in metadata {
            if WITHOUT_EFFECT.iter().any(|beginning| key.starts_with(beginning)) {
                continue;
            }
            if key.starts_with("split.") {
                let parts = metadata.get("split.count").map_or(Ok(1), MetadataValue::size).unwrap_or(0);
                ensure!(
                    parts <= 1,
                    "it is one of {parts} parts: join them by `llama-gguf-split --merge`, which is \
                     llama.cpp's"
                );
                continue;
            }
            let own = key.strip_prefix(architecture).and_then(|rest| rest.strip_prefix('.'));
            let own = own.with_context(|| {
                format!(
                    "{key} = {}: this setting is not known, so the model can't be imported",
                    value.shown()
                )
            })?;
            keys.insert(own, value);
        }
        keys.retain(|key, _| !OWN_WITHOUT_EFFECT.contains(key));
        let mut own = Self { architecture, keys };
        for key in ABSENT {
            if let Some(value) = own.keys.remove(key) {
                let none = value.size().is_ok_and(|size| size == 0) || value.float().is_ok_and(|x| x == 0.0);
                ensure!(none, "{architecture}.{key} = {}: only 0 can be imported", value.shown());
            }
        }
        if let Some(value) = own.keys.remove("attention.causal") {
            ensure!(value.bool()?, "{architecture}.attention.causal = false: only true can be imported");
        }
        Ok(own)
    }

    /// A value by its key.
    fn take<T>(&mut self, key: &str, read: impl FnOnce(&MetadataValue) -> Result<T>) -> Result<Option<T>> {
        let named = || format!("{}.{key}", self.architecture);
        self.keys.remove(key).map(|value| read(value).with_context(named)).transpose()
    }

    /// A size by its key. A list of the same for each block is one size.
    fn size(&mut self, key: &str) -> Result<Option<usize>> {
        let size = self.take(key, |value| {
            let MetadataValue::Numbers(_) = value else { return value.size() };
            let all = value.integers()?;
            ensure!(
                all.iter().all(|size| size == &all[0]) && !all.is_empty(),
                "blocks of different sizes can't be imported"
            );
            usize::try_from(all[0]).context("it is no size")
        })?;
        if let Some(size) = size {
            let named = self.architecture;
            ensure!((1..=MOST).contains(&size), "{named}.{key} = {size}: only 1 to {MOST} can be imported");
        }
        Ok(size)
    }

    fn needed_size(&mut self, key: &str) -> Result<usize> {
        let named = self.architecture;
        self.size(key)?.with_context(|| format!("{named}.{key} is missing"))
    }

    fn shape(&mut self, facts: &TensorFacts) -> Result<LmConfig> {
        let (dim, heads) = (self.needed_size("embedding_length")?, self.needed_size("attention.head_count")?);
        let kv_heads = self.size("attention.head_count_kv")?.unwrap_or(heads);
        let width = self.head_width(dim, heads)?;
        if let Some(vocab) = self.size("vocab_size")? {
            let (named, rows) = (self.architecture, facts.vocab);
            ensure!(vocab == rows, "{named}.vocab_size = {vocab}, but the embedding has {rows} rows");
        }
        let rope_base = self.take("rope.freq_base", MetadataValue::float)?.unwrap_or(10_000.0);
        let eps = self.take("attention.layer_norm_rms_epsilon", MetadataValue::float)?;
        let named = self.architecture;
        Ok(LmConfig {
            from: None,
            vocab: Some(facts.vocab),
            dim,
            layers: self.needed_size("block_count")?,
            heads,
            kv_heads,
            head_width: Some(width).filter(|width| width * heads != dim),
            ffn: self.needed_size("feed_forward_length")?,
            rope_base,
            rope_scaling: self.scaling(rope_base, width, facts)?,
            qkv_bias: named == "qwen2",
            qk_norm: named == "qwen3",
            norm_eps: eps.with_context(|| format!("{named}.attention.layer_norm_rms_epsilon is missing"))?,
            tied: facts.tied,
        })
    }

    /// The width of a head: all that say it have to say the same.
    fn head_width(&mut self, dim: usize, heads: usize) -> Result<usize> {
        let key = self.size("attention.key_length")?;
        let width = key.unwrap_or(dim / heads);
        for part in ["attention.value_length", "rope.dimension_count"] {
            let other = self.size(part)?.unwrap_or(width);
            ensure!(
                other == width,
                "{}.{part} = {other}: only the width of a head, {width}, can be imported",
                self.architecture
            );
        }
        Ok(width)
    }

    fn scaling(&mut self, base: f64, width: usize, facts: &TensorFacts) -> Result<RopeScaling> {
        let kind = self.take("rope.scaling.type", |value| Ok(value.text()?.to_owned()))?;
        let factor = self.take("rope.scaling.factor", MetadataValue::float)?;
        let older = self.take("rope.scale_linear", MetadataValue::float)?;
        let named = self.architecture;
        let linear = match kind.as_deref() {
            None => older.or(factor),
            Some("none") => None,
            Some("linear") => {
                Some(factor.with_context(|| format!("{named}.rope.scaling.factor is missing"))?)
            }
            Some(other) => bail!(
                "{named}.rope.scaling.type = {other:?}: only \"none\" and \"linear\" can be imported, and \
                 Llama 3's by its tensor"
            ),
        };
        // As llama.cpp: 0 and 1 are none.
        let linear = linear.filter(|&factor| factor != 0.0 && factor != 1.0);
        match (&facts.rope_factors, linear) {
            (None, None) => Ok(RopeScaling::None),
            (None, Some(factor)) => Ok(RopeScaling::Linear { factor }),
            (Some(factors), None) => rope_factors::scaling(factors, base, width)
                .context("`rope_freqs.weight` has factors that are not those of Llama 3"),
            (Some(_), Some(_)) => {
                bail!("{named}.rope.scaling and `rope_freqs.weight` can't be imported together")
            }
        }
    }
}
