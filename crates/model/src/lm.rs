//! The decoder-only language model: RMSNorm, RoPE, SwiGLU, grouped-query attention, no biases (Llama's form).

use burn::module::{Module, Param};
use burn::tensor::Tensor;

use crate::attention::{Attention, NormWeights};
use crate::cache::Cache;
use crate::config::LmConfig;
use crate::init::{Fill, Init};
use crate::matrix::Matrix;
use crate::mlp::{Block, Mlp};
use crate::ops::{self, Activation, Heads, Layout, Rope, Step, Weight};

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
    pub head: Option<Matrix>,
    #[module(skip)]
    rope_base: f64,
    #[module(skip)]
    head_width: usize,
}

impl Lm {
    /// `config` must have passed its check.
    pub fn new(init: &Init<'_>, config: &LmConfig) -> Self {
        let (dim, layers) = (config.dim, config.layers);
        let heads = Heads { heads: config.heads, kv_heads: config.kv_heads, width: dim / config.heads };
        let blocks = (0..layers).map(|layer| {
            let (attention, mlp) =
                (init.at("blocks").at(layer).at("attention"), init.at("blocks").at(layer).at("mlp"));
            let norm = |init: &Init<'_>| NormWeights::rms(&init.at("norm"), dim, config.norm_eps);
            Block {
                attention: Attention::new(&attention, norm(&attention), heads, layers),
                mlp: Mlp::new(&mlp, norm(&mlp), config.ffn, Activation::Swiglu, layers),
            }
        });
        Self {
            embedding: init.param("embedding", [config.vocab, dim], Fill::fan_in(dim)),
            blocks: blocks.collect(),
            norm: NormWeights::rms(&init.at("norm"), dim, config.norm_eps),
            head: (!config.tied).then(|| init.param("head", [dim, config.vocab], Fill::fan_in(dim)).into()),
            rope_base: config.rope_base,
            head_width: heads.width,
        }
    }

    /// `ids` as `[rows, length, d]`.
    pub fn embed(&self, ids: &[u32], rows: usize, length: usize) -> Tensor<3> {
        ops::embedding(&self.embedding.val(), ids, rows, length)
    }

    /// All blocks and the last norm: `[b, t, d] -> [b, t, d]`.
    pub fn forward(&self, mut x: Tensor<3>, layout: &Layout) -> Tensor<3> {
        let rope = self.rope(layout);
        for block in &self.blocks {
            x = block.forward(x, layout, Some(&rope));
        }
        ops::norm(x, &self.norm.norm())
    }

    /// The sum of `weight * -log p(target)` over all positions of `x` `[b, t, d]`, as `[1]`. Of those without weight the last
    /// block gives keys and values only.
    pub fn loss(&self, mut x: Tensor<3>, layout: &Layout, targets: &[u32], weights: &[f32]) -> Tensor<1> {
        let rope = self.rope(layout);
        let mut learned: Vec<u32> = (0..).zip(weights).filter(|&(_, &w)| w > 0.0).map(|(i, _)| i).collect();
        if learned.is_empty() {
            // The loss is 0, and so are the gradients.
            learned.push(0);
        }
        let (last, blocks) = self.blocks.split_last().expect("a decoder has blocks");
        for block in blocks {
            x = block.forward(x, layout, Some(&rope));
        }
        let x = ops::norm(last.forward_at(x, layout, Some(&rope), &learned), &self.norm.norm());
        let targets: Vec<u32> = learned.iter().map(|&i| targets[i as usize]).collect();
        let weights: Vec<f32> = learned.iter().map(|&i| weights[i as usize]).collect();
        ops::linear_cross_entropy(x, self.output(), &targets, &weights)
    }

    /// New tokens of several sequences in one row, after those in the cache: `[1, n, d] -> [1, n, d]`, before the last
    /// norm; or only each step's last, `[1, steps, d]`, if `ends`.
    pub fn extend(&self, mut x: Tensor<3>, steps: &[Step], cache: &mut Cache, ends: bool) -> Tensor<3> {
        for step in steps {
            cache.lens[step.sequence] += step.len;
            cache.rope.reach(cache.lens[step.sequence]);
        }
        let last = self.blocks.len() - 1;
        for (i, (block, layer)) in self.blocks.iter().zip(&mut cache.layers).enumerate() {
            x = if ends && i == last {
                block.extend_to_ends(x, &cache.rope, steps, layer)
            } else {
                block.extend(x, &cache.rope, steps, layer)
            };
        }
        x
    }

    /// The last norm and the logits: `[b, t, d] -> [b, t, v]`.
    pub fn finish(&self, x: Tensor<3>) -> Tensor<3> {
        self.logits(ops::norm(x, &self.norm.norm()))
    }

    /// `[b, t, d] -> [b, t, v]`
    pub fn logits(&self, hidden: Tensor<3>) -> Tensor<3> {
        ops::linear(hidden, self.output(), None)
    }

    /// See [`crate::Mm1::packed`]. An embedding that is the head as well stays beside its packed form: single rows of it are read.
    pub(crate) fn packed(self) -> Self {
        let head = match self.output().packed() {
            Weight::Packed(packed) => Some(Matrix::Packed(packed)),
            _ => self.head,
        };
        Self { blocks: self.blocks.into_iter().map(Block::packed).collect(), head, ..self }
    }

    fn rope(&self, layout: &Layout) -> Rope {
        Rope::new(self.rope_base, self.head_width, layout.longest())
    }

    /// The output head.
    fn output(&self) -> Weight {
        match &self.head {
            Some(head) => head.weight(),
            None => Weight::Table(self.embedding.val()),
        }
    }
}
