//! Self-attention with its norm in front and the residual around it; the same for the encoder and the
//! decoder.

use burn::module::{Module, Param};
use burn::tensor::Tensor;

use crate::adapter::{self, AdapterConfig, AttentionAdapters};
use crate::compute::Compute;
use crate::init::{Init, Initializer};
use crate::ops::{
    Activation, Affine, CachedLayer, Heads, Layout, Norm, Operations, QkNorm, Rope, WeightFormat,
};
use crate::weight::LinearWeight;

/// The parameters of a norm: RMSNorm where there is no `beta`, else LayerNorm.
#[derive(Module, Debug)]
pub struct NormWeights {
    /// `[d]`
    pub gamma: Param<Tensor<1>>,
    /// `[d]`
    pub beta: Option<Param<Tensor<1>>>,
    #[module(skip)]
    eps: f64,
}

impl NormWeights {
    /// RMSNorm of width `dim`.
    pub fn rms(init: &Init<'_>, dim: usize, eps: f64) -> Self {
        Self { gamma: init.param("gamma", [dim], Initializer::Ones), beta: None, eps }
    }

    /// LayerNorm of width `dim`.
    pub fn layer(init: &Init<'_>, dim: usize, eps: f64) -> Self {
        Self { beta: Some(init.param("beta", [dim], Initializer::Zeros)), ..Self::rms(init, dim, eps) }
    }

    /// Its width.
    pub fn dim(&self) -> usize {
        self.gamma.lazy_shape().num_elements()
    }

    /// As the operations take it.
    pub fn norm(&self) -> Norm {
        let (gamma, eps) = (self.gamma.val(), self.eps);
        match &self.beta {
            None => Norm::Rms { gamma, eps },
            Some(beta) => Norm::Layer { gamma, beta: beta.val(), eps },
        }
    }
}

/// The parameters of the norms of each query head and of each key head, both RMSNorm.
#[derive(Module, Debug)]
pub struct QkNormWeights {
    /// `[c]`
    pub q_gamma: Param<Tensor<1>>,
    /// `[c]`
    pub k_gamma: Param<Tensor<1>>,
    #[module(skip)]
    eps: f64,
}

/// `x + attention(norm(x)) out`, in two halves: what is between positions, and what is each position's own.
#[derive(Module, Debug)]
pub struct Attention {
    /// Before the projections.
    pub norm: NormWeights,
    /// Queries, keys and values side by side: `[d, (h + 2g) c]`.
    pub qkv: LinearWeight,
    /// `[(h + 2g) c]`, in the encoder and where the decoder asks for it.
    pub qkv_bias: Option<Param<Tensor<1>>>,
    /// Between projection and rotation, where the decoder asks for it.
    pub qk_norm: Option<QkNormWeights>,
    /// `[h c, d]`
    pub out: LinearWeight,
    /// `[d]`, in the encoder only.
    pub out_bias: Option<Param<Tensor<1>>>,
    /// Of stages that train them.
    pub adapter: AttentionAdapters,
    #[module(skip)]
    heads: Heads,
}

impl Attention {
    /// With biases where the norm has one; `layers` is the depth of the network that it is in.
    pub fn new(init: &Init<'_>, norm: NormWeights, heads: Heads, layers: usize) -> Self {
        let dim = norm.dim();
        let (inner, qkv) = (heads.heads * heads.width, (heads.heads + 2 * heads.kv_heads) * heads.width);
        let bias = |name, width| norm.beta.is_some().then(|| init.param(name, [width], Initializer::Zeros));
        Self {
            // One matrix for three maps: one product, whose input is read and packed once.
            qkv: init.param("qkv", [dim, qkv], Initializer::fan_in(dim)).into(),
            qkv_bias: bias("qkv_bias", qkv),
            out: init.param("out", [inner, dim], Initializer::residual(inner, layers)).into(),
            out_bias: bias("out_bias", dim),
            qk_norm: None,
            adapter: AttentionAdapters::default(),
            norm,
            heads,
        }
    }

    /// The same with a bias of queries, keys and values (Qwen2).
    pub(crate) fn with_qkv_bias(self, init: &Init<'_>) -> Self {
        let bias = init.param("qkv_bias", [self.heads.qkv_width()], Initializer::Zeros);
        Self { qkv_bias: Some(bias), ..self }
    }

    /// The same with norms of each query and key head (Qwen3).
    pub(crate) fn with_qk_norm(self, init: &Init<'_>, eps: f64) -> Self {
        let init = init.at("qk_norm");
        let [q_gamma, k_gamma] =
            ["q_gamma", "k_gamma"].map(|name| init.param(name, [self.heads.width], Initializer::Ones));
        Self { qk_norm: Some(QkNormWeights { q_gamma, k_gamma, eps }), ..self }
    }

    /// The same with new adapters.
    pub(crate) fn with_adapters(self, init: &Init<'_>, config: &AdapterConfig) -> Self {
        let (dim, q, kv) = (self.norm.dim(), self.heads.out_width(), self.heads.kv_heads * self.heads.width);
        Self { adapter: AttentionAdapters::new(init, config, [dim, q, kv]), ..self }
    }

    /// The same with its adapters in its weights.
    pub(crate) fn merged(self) -> Self {
        let qkv = self.adapter.of_input().fold(self.qkv, |weight, adapter| adapter.merged_into(weight));
        let out = self.adapter.out.iter().fold(self.out, |weight, adapter| adapter.merged_into(weight));
        Self { qkv, out, adapter: AttentionAdapters::default(), ..self }
    }

    /// What the heads gather: `[b, t, d] -> [b, t, h c]`.
    pub fn mix(&self, compute: &Compute, x: Tensor<3>, layout: &Layout, rope: Option<&Rope>) -> Tensor<3> {
        compute.ops().attention(self.project(compute, x), self.heads, layout, rope)
    }

    /// The same of new tokens of several sequences in one row, after those in the cache:
    /// `[1, n, d] -> [1, n, h c]`.
    pub(crate) fn mix_cached(&self, compute: &Compute, x: Tensor<3>, layer: CachedLayer<'_>) -> Tensor<3> {
        compute.ops().attention_cached(self.project(compute, x), self.heads, layer)
    }

    /// `x + mixed out`: `[b, t, h c]` and `[b, t, d] -> [b, t, d]`.
    pub fn merge(&self, compute: &Compute, mixed: Tensor<3>, x: Tensor<3>) -> Tensor<3> {
        let out = Affine::with_optional_bias(&self.out, self.out_bias.as_ref());
        let y = compute.ops().act_linear_residual(mixed.clone(), Activation::Identity, out, Some(x));
        adapter::add(compute, y, mixed, Activation::Identity, self.adapter.out.as_ref())
    }

    /// See [`crate::Mm1::read_only`].
    pub(crate) fn read_only(self, ops: &dyn Operations, format: WeightFormat) -> Self {
        Self { qkv: self.qkv.read_only(ops, format), out: self.out.read_only(ops, format), ..self }
    }

    /// Queries, keys and values: `[b, t, d] -> [b, t, (h + 2g) c]`.
    fn project(&self, compute: &Compute, x: Tensor<3>) -> Tensor<3> {
        let qkv = Affine::with_optional_bias(&self.qkv, self.qkv_bias.as_ref());
        let qkv = adapter::norm_linear(compute, x, (&self.norm.norm(), qkv), self.adapter.of_input());
        let Some(QkNormWeights { q_gamma, k_gamma, eps }) = &self.qk_norm else { return qkv };
        let norm = QkNorm { q: q_gamma.val(), k: k_gamma.val(), eps: *eps };
        compute.ops().qk_norm(qkv, self.heads, &norm)
    }
}
