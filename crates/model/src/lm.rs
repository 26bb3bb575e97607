//! The decoder-only language model: RMSNorm, RoPE, SwiGLU, grouped-query attention (Llama's form), with what
//! its relatives add: biases of queries, keys and values (Qwen2), norms of their heads (Qwen3), a head width
//! of its own, stretched angles (Llama 3).

use std::path::PathBuf;

use anyhow::{Context as _, Result, ensure};
use burn::module::{Module, Param};
use burn::tensor::Tensor;
use schemars::JsonSchema;
use serde::{Deserialize, Serialize};

use crate::attention::{Attention, NormWeights};
use crate::cache::Cache;
use crate::compute::Compute;
use crate::init::{Init, Initializer};
use crate::memory::{Activations, BlockStack, Load, Training};
use crate::mlp::{Block, Mlp};
use crate::ops::{Activation, CachedLayer, Heads, Layout, NewTokens, Operations, Rope, Weight, WeightFormat};
use crate::rope::RopeScaling;
use crate::sight::SeenPictures;
use crate::vision::required_without_origin;
use crate::weight::LinearWeight;

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

/// A field that stands for nothing is not written: a plan from before there was such a field stays the same.
fn is_default<T: Default + PartialEq>(value: &T) -> bool {
    *value == T::default()
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

/// What goes into block `block`: after a look at the pictures, where a layer for that stands before it.
fn looked(compute: &Compute, x: Tensor<3>, block: usize, seen: Option<&SeenPictures<'_>>) -> Tensor<3> {
    match seen {
        Some(seen) => seen.before(compute, x, block),
        None => x,
    }
}

/// Embedded tokens to logits.
#[derive(Module, Debug)]
pub struct Lm {
    /// `[v, d]`
    pub embedding: Param<Tensor<2>>,
    /// The transformer.
    pub blocks: Vec<Block>,
    /// After the last block.
    pub norm: NormWeights,
    /// `[d, v]`; without it the head is the embedding.
    pub head: Option<LinearWeight>,
    /// Without positions yet.
    #[module(skip)]
    rope: Rope,
    #[module(skip)]
    heads: Heads,
}

impl Lm {
    /// `config` must have passed its check.
    pub fn new(init: &Init<'_>, config: &LmConfig) -> Self {
        let (dim, layers, heads) = (config.dim, config.layers, config.attention_heads());
        let blocks = (0..layers).map(|layer| {
            let (attention, mlp) =
                (init.at("blocks").at(layer).at("attention"), init.at("blocks").at(layer).at("mlp"));
            let norm = |init: &Init<'_>| NormWeights::rms(&init.at("norm"), dim, config.norm_eps);
            let mut mixing = Attention::new(&attention, norm(&attention), heads, layers);
            if config.qkv_bias {
                mixing = mixing.with_qkv_bias(&attention);
            }
            if config.qk_norm {
                mixing = mixing.with_qk_norm(&attention, config.norm_eps);
            }
            Block {
                attention: mixing,
                mlp: Mlp::new(&mlp, norm(&mlp), config.ffn, Activation::Swiglu, layers),
            }
        });
        Self {
            embedding: init.param("embedding", [config.vocab(), dim], Initializer::fan_in(dim)),
            blocks: blocks.collect(),
            norm: NormWeights::rms(&init.at("norm"), dim, config.norm_eps),
            head: (!config.tied)
                .then(|| init.param("head", [dim, config.vocab()], Initializer::fan_in(dim)).into()),
            rope: config.rope_scaling.table(config.rope_base, heads.width),
            heads,
        }
    }

    /// `ids` as `[rows, length, d]`.
    pub fn embed(&self, compute: &Compute, ids: &[u32], rows: usize, length: usize) -> Tensor<3> {
        compute.ops().embedding(&self.embedding.val(), ids, rows, length)
    }

    /// All blocks and the last norm: `[b, t, d] -> [b, t, d]`.
    pub fn forward(&self, compute: &Compute, x: Tensor<3>, layout: &Layout) -> Tensor<3> {
        self.forward_seeing(compute, x, layout, None)
    }

    /// The same looking at pictures.
    pub(crate) fn forward_seeing(
        &self,
        compute: &Compute,
        x: Tensor<3>,
        layout: &Layout,
        seen: Option<&SeenPictures<'_>>,
    ) -> Tensor<3> {
        let rope = self.rope(layout);
        let x = self.blocks.iter().enumerate().fold(x, |x, (i, block)| {
            block.forward(compute, looked(compute, x, i, seen), layout, Some(&rope))
        });
        compute.ops().norm(x, &self.norm.norm())
    }

    /// The sum of `weight * -log p(target)` over all positions of `x` `[b, t, d]`, at least one, as `[1]`.
    /// What follows the last block's attention is computed at positions with a weight only. Targets and
    /// weights are `[b * t]`.
    pub fn loss(
        &self,
        compute: &Compute,
        x: Tensor<3>,
        layout: &Layout,
        learned: (&[u32], &[f32]),
    ) -> Tensor<1> {
        self.loss_seeing(compute, x, (layout, None), learned)
    }

    /// The same looking at pictures.
    pub(crate) fn loss_seeing(
        &self,
        compute: &Compute,
        x: Tensor<3>,
        (layout, seen): (&Layout, Option<&SeenPictures<'_>>),
        (targets, weights): (&[u32], &[f32]),
    ) -> Tensor<1> {
        let rope = self.rope(layout);
        let mut learned: Vec<u32> = (0..).zip(weights).filter(|&(_, &w)| w > 0.0).map(|(i, _)| i).collect();
        if learned.is_empty() {
            // The loss is 0, and so are the gradients.
            learned.push(0);
        }
        // The attention is computed for all positions, the rest of the last block for learned ones: 0.92 of a
        // step of the MM1 benchmark, where 78% of the positions are learned.
        let (last, blocks) = self.blocks.split_last().expect("a decoder has blocks");
        let x = blocks.iter().enumerate().fold(x, |x, (i, block)| {
            block.forward(compute, looked(compute, x, i, seen), layout, Some(&rope))
        });
        let x = looked(compute, x, blocks.len(), seen);
        let x = last.forward_at(compute, x, (layout, Some(&rope)), &learned);
        let x = compute.ops().norm(x, &self.norm.norm());
        let targets: Vec<u32> = learned.iter().map(|&i| targets[i as usize]).collect();
        let weights: Vec<f32> = learned.iter().map(|&i| weights[i as usize]).collect();
        compute.ops().linear_cross_entropy(x, self.output(), &targets, &weights)
    }

    /// An empty cache for `sequences` sequences.
    pub(crate) fn cache(&self, sequences: usize) -> Cache {
        Cache::new(self.blocks.len(), self.heads, self.rope.clone(), sequences)
    }

    /// New tokens of several sequences in one row, after those in the cache, before the last norm:
    /// `[1, n, d] -> [1, n, d]`; or of them the `wanted` positions, where what follows the last block's
    /// attention is computed at these only.
    pub fn extend(
        &self,
        compute: &Compute,
        x: Tensor<3>,
        (new, cache): (&[NewTokens], &mut Cache),
        wanted: Option<&[u32]>,
    ) -> Tensor<3> {
        self.extend_seeing(compute, x, (new, cache), (wanted, None))
    }

    /// The same looking at pictures.
    pub(crate) fn extend_seeing(
        &self,
        compute: &Compute,
        mut x: Tensor<3>,
        (new, cache): (&[NewTokens], &mut Cache),
        (wanted, seen): (Option<&[u32]>, Option<&SeenPictures<'_>>),
    ) -> Tensor<3> {
        for NewTokens { sequence, len } in new {
            cache.lens[*sequence] += len;
            cache.rope.reach(cache.lens[*sequence]);
        }
        let last = self.blocks.len() - 1;
        // Of a prompt only its last position is asked for: the last block's output map and MLP see no other.
        for (i, (block, layer)) in self.blocks.iter().zip(&mut cache.layers).enumerate() {
            let layer = CachedLayer { rope: &cache.rope, new, cache: layer };
            x = block.extend(compute, looked(compute, x, i, seen), layer, wanted.filter(|_| i == last));
        }
        x
    }

    /// The last norm and the logits: `[b, t, d] -> [b, t, v]`.
    pub fn finish(&self, compute: &Compute, x: Tensor<3>) -> Tensor<3> {
        self.logits(compute, compute.ops().norm(x, &self.norm.norm()))
    }

    /// `[b, t, d] -> [b, t, v]`
    pub fn logits(&self, compute: &Compute, hidden: Tensor<3>) -> Tensor<3> {
        compute.ops().linear(hidden, self.output().into())
    }

    /// See [`crate::Mm1::read_only`].
    pub(crate) fn read_only(self, ops: &dyn Operations, format: WeightFormat) -> Self {
        // An embedding that is the head stays beside its packed form: single rows of it are read.
        let tied = self.head.is_none().then(|| ops.packed(self.output(), format));
        let head = match tied {
            Some(Weight::Packed(packed)) => Some(LinearWeight::ReadOnly(packed)),
            _ => self.head.map(|head| head.read_only(ops, format)),
        };
        let blocks = self.blocks.into_iter().map(|block| block.read_only(ops, format)).collect();
        Self { blocks, head, ..self }
    }

    pub(crate) fn is_read_only(&self) -> bool {
        self.head.as_ref().is_some_and(LinearWeight::is_read_only)
    }

    fn rope(&self, layout: &Layout) -> Rope {
        let mut rope = self.rope.clone();
        rope.reach(layout.longest());
        rope
    }

    /// The mean square of the entries of the token embeddings.
    pub fn embedding_spread(&self) -> f64 {
        let table = self.embedding.val().into_data();
        table.iter::<f32>().map(|x| f64::from(x).powi(2)).sum::<f64>() / table.num_elements() as f64
    }

    /// The output head.
    fn output(&self) -> Weight {
        match &self.head {
            Some(head) => head.into(),
            None => Weight::Table(self.embedding.val()),
        }
    }
}
