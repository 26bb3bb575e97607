//! [`LmConfig`]: the settings of a language model.

use std::path::PathBuf;

use anyhow::{Context as _, Result, ensure};
use schemars::JsonSchema;
use serde::{Deserialize, Serialize};

use crate::memory::{Activations, BlockStack, Load, Training};
use crate::ops::Heads;
use crate::rope::RopeScaling;
use crate::vision::{is_default, required_without_origin};

/// The language model, `[model.lm]`: a Llama-style decoder with RMSNorm, RoPE (half-split), SwiGLU,
/// grouped-query attention.
#[derive(Clone, Debug, PartialEq, Serialize, Deserialize, JsonSchema)]
#[serde(deny_unknown_fields)]
#[schemars(transform = required_without_origin)]
pub struct LmConfig {
    /// Where the initial weights come from: a Hugging Face folder or a GGUF file of Llama, Mistral, Qwen2 or
    /// Qwen3. By default they are drawn from the seed. The origin settles the other fields, which may then be
    /// left out, and brings its tokenizer.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub from: Option<PathBuf>,
    /// Size of the vocabulary; by default the tokenizer's. A network that is made has one.
    /// Unit: entries.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub vocab: Option<usize>,
    /// Width of the residual stream.
    /// Unit: channels.
    #[schemars(range(min = 1))]
    pub dim: usize,
    /// Transformer blocks.
    /// Unit: blocks.
    #[schemars(range(min = 1))]
    pub layers: usize,
    /// Query heads; divides `dim` into an even width, where `head_width` is left out.
    /// Unit: heads.
    #[schemars(range(min = 1))]
    pub heads: usize,
    /// Key and value heads (grouped-query attention); divides `heads`.
    /// Unit: heads.
    #[schemars(range(min = 1))]
    pub kv_heads: usize,
    /// Width of a head, an even number; by default `dim / heads`.
    /// Unit: channels.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub head_width: Option<usize>,
    /// Width of the SwiGLU's hidden layer.
    /// Unit: channels.
    #[schemars(range(min = 1))]
    pub ffn: usize,
    /// RoPE's base.
    /// Unit: none.
    #[serde(default = "default_rope_base")]
    pub rope_base: f64,
    /// How RoPE's angles are stretched for long contexts; without it they are not.
    #[serde(default, skip_serializing_if = "is_default")]
    pub rope_scaling: RopeScaling,
    /// Whether the maps of queries, keys and values have biases, as in Qwen2.
    #[serde(default, skip_serializing_if = "is_default")]
    #[schemars(extend("default" = false))]
    pub qkv_bias: bool,
    /// Whether each head of queries and of keys has an RMSNorm before the rotation, as in Qwen3.
    #[serde(default, skip_serializing_if = "is_default")]
    #[schemars(extend("default" = false))]
    pub qk_norm: bool,
    /// RMSNorm's epsilon.
    /// Unit: none.
    #[serde(default = "default_norm_eps")]
    pub norm_eps: f64,
    /// Whether the output head shares its weights with the embedding table.
    #[serde(default = "default_tied")]
    pub tied: bool,
}

fn default_rope_base() -> f64 {
    10_000.0
}
fn default_norm_eps() -> f64 {
    1e-5
}
fn default_tied() -> bool {
    true
}

impl LmConfig {
    /// Checks every relation between the sizes.
    ///
    /// # Errors
    /// One line that names the field and what it must be.
    pub fn check(&self) -> Result<()> {
        let vocab =
            self.vocab.context("model.lm.vocab is not known; without a tokenizer it must be written")?;
        for (field, value) in [
            ("vocab", vocab),
            ("dim", self.dim),
            ("layers", self.layers),
            ("heads", self.heads),
            ("kv_heads", self.kv_heads),
            ("ffn", self.ffn),
        ] {
            ensure!(value > 0, "model.lm.{field} must be at least 1");
        }
        let Self { dim, heads, kv_heads, .. } = *self;
        ensure!(heads.is_multiple_of(kv_heads), "model.lm.kv_heads = {kv_heads} must divide heads = {heads}");
        match self.head_width {
            Some(width) => ensure!(
                width > 0 && width.is_multiple_of(2),
                "model.lm.head_width = {width} must be even and at least 2, for RoPE"
            ),
            None => {
                ensure!(dim.is_multiple_of(heads), "model.lm.heads = {heads} must divide dim = {dim}");
                ensure!(
                    (dim / heads).is_multiple_of(2),
                    "model.lm: the head width dim / heads = {} must be even, for RoPE",
                    dim / heads
                );
            }
        }
        let (base, eps) = (self.rope_base, self.norm_eps);
        ensure!(base > 0.0 && base.is_finite(), "model.lm.rope_base = {base} must be above 0");
        ensure!(eps >= 0.0 && eps.is_finite(), "model.lm.norm_eps = {eps} must not be below 0");
        self.rope_scaling.check()
    }

    /// How queries, keys and values lie beside each other.
    pub fn attention_heads(&self) -> Heads {
        let width = self.head_width.unwrap_or(self.dim / self.heads);
        Heads { heads: self.heads, kv_heads: self.kv_heads, width }
    }

    /// Size of the vocabulary.
    ///
    /// # Panics
    /// Where [`Self::check`] fails because it is not known.
    pub fn vocab(&self) -> usize {
        self.vocab.expect("a checked decoder has a vocabulary")
    }

    /// Activations of a training step.
    pub(crate) fn activations(&self, load: Load, training: Training<'_>) -> Activations {
        let heads = self.attention_heads();
        let blocks = BlockStack {
            layers: self.layers,
            dim: self.dim,
            attended: heads.out_width(),
            qkv: heads.qkv_width(),
            qk_norm: self.qk_norm,
            hidden: 2 * self.ffn,
            activated: self.ffn,
        };
        blocks.activations(load.positions, load, training)
    }
}
