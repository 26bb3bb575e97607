//! The decoder-only language model: RMSNorm, RoPE, SwiGLU, grouped-query attention (Llama's form), with what
//! its relatives add: biases of queries, keys and values (Qwen2), norms of their heads (Qwen3), a head width
//! of its own, stretched angles (Llama 3).

use burn::module::{Module, Param};
use burn::tensor::Tensor;

use crate::attention::{Attention, NormWeights};
use crate::cache::Cache;
use crate::compute::Compute;
use crate::init::{Init, Initializer};
pub use crate::lm_config::LmConfig;
use crate::mlp::{Block, Mlp};
use crate::ops::{Activation, CachedLayer, Heads, Layout, NewTokens, Operations, Rope, Weight, WeightFormat};
use crate::sight::SeenPictures;
use crate::weight::LinearWeight;

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
