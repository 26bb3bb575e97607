//! The two-layer network of a transformer block with its norm in front and the residual around it, and the
//! block.

use burn::module::{Module, Param};
use burn::tensor::Tensor;

use crate::adapter::{self, AdapterConfig, MlpAdapters};
use crate::attention::{Attention, NormWeights};
use crate::compute::Compute;
use crate::init::{Init, Initializer};
use crate::ops::{Activation, Affine, CachedLayer, Layout, MlpMaps, Operations, Rope, WeightFormat};
use crate::weight::LinearWeight;

/// `x + activation(norm(x) up) down`: a GELU with biases in the encoder, SwiGLU without in the decoder.
#[derive(Module, Debug)]
pub struct Mlp {
    /// Before the projections.
    pub norm: NormWeights,
    /// `[d, f]`; for SwiGLU gate and up side by side, `[d, 2f]`.
    pub up: LinearWeight,
    /// `[f]`, in the encoder only.
    pub up_bias: Option<Param<Tensor<1>>>,
    /// `[f, d]`
    pub down: LinearWeight,
    /// `[d]`, in the encoder only.
    pub down_bias: Option<Param<Tensor<1>>>,
    /// Of stages that train them.
    pub adapter: MlpAdapters,
    /// SwiGLU doubles the width of `up`.
    #[module(skip)]
    activation: Activation,
}

impl Mlp {
    /// Of hidden width `ffn` after the activation, with biases where the norm has one; `layers` is the depth
    /// of the network that it is in.
    pub fn new(
        init: &Init<'_>,
        norm: NormWeights,
        ffn: usize,
        activation: Activation,
        layers: usize,
    ) -> Self {
        let dim = norm.dim();
        let inner = if activation == Activation::Swiglu { 2 * ffn } else { ffn };
        let bias = |name, width| norm.beta.is_some().then(|| init.param(name, [width], Initializer::Zeros));
        Self {
            up: init.param("up", [dim, inner], Initializer::fan_in(dim)).into(),
            up_bias: bias("up_bias", inner),
            down: init.param("down", [ffn, dim], Initializer::residual(ffn, layers)).into(),
            down_bias: bias("down_bias", dim),
            adapter: MlpAdapters::default(),
            norm,
            activation,
        }
    }

    /// `[b, t, d] -> [b, t, d]`
    pub fn forward(&self, compute: &Compute, x: Tensor<3>) -> Tensor<3> {
        let up = Affine::with_optional_bias(&self.up, self.up_bias.as_ref());
        let down = Affine::with_optional_bias(&self.down, self.down_bias.as_ref());
        let norm = self.norm.norm();
        if self.adapter.is_empty() {
            return compute.ops().mlp(x, MlpMaps { norm, up, activation: self.activation, down });
        }
        let hidden = adapter::norm_linear(compute, x.clone(), (&norm, up), self.adapter.of_input());
        let y = compute.ops().act_linear_residual(hidden.clone(), self.activation, down, Some(x));
        adapter::add(compute, y, hidden, self.activation, self.adapter.down.as_ref())
    }

    fn with_adapters(self, init: &Init<'_>, config: &AdapterConfig) -> Self {
        let inner = self.up.outputs();
        let dims = [self.norm.dim(), self.activation.width(inner)];
        Self { adapter: MlpAdapters::new(init, config, dims, self.activation), ..self }
    }

    fn merged(self) -> Self {
        let up = self.adapter.of_input().fold(self.up, |weight, adapter| adapter.merged_into(weight));
        let down = self.adapter.down.iter().fold(self.down, |weight, adapter| adapter.merged_into(weight));
        Self { up, down, adapter: MlpAdapters::default(), ..self }
    }

    fn read_only(self, ops: &dyn Operations, format: WeightFormat) -> Self {
        Self { up: self.up.read_only(ops, format), down: self.down.read_only(ops, format), ..self }
    }
}

/// A pre-norm transformer block.
#[derive(Module, Debug)]
pub struct Block {
    /// Mixes positions.
    pub attention: Attention,
    /// Works on each position.
    pub mlp: Mlp,
}

impl Block {
    /// `[b, t, d] -> [b, t, d]`; see [`Compute::checkpointed`].
    pub fn forward(
        &self,
        compute: &Compute,
        x: Tensor<3>,
        layout: &Layout,
        rope: Option<&Rope>,
    ) -> Tensor<3> {
        let (layout, rope, inside) = (layout.clone(), rope.cloned(), compute.clone());
        compute.checkpointed(self, x, move |block, x| {
            let mixed = block.attention.mix(&inside, x.clone(), &layout, rope.as_ref());
            block.finish(&inside, mixed, x, None)
        })
    }

    /// The same where only some flat positions are wanted: `[b, t, d] -> [1, positions, d]`. It is for a
    /// network's last block, which is not checkpointed: the backward pass begins with it.
    pub(crate) fn forward_at(
        &self,
        compute: &Compute,
        x: Tensor<3>,
        (layout, rope): (&Layout, Option<&Rope>),
        positions: &[u32],
    ) -> Tensor<3> {
        let mixed = self.attention.mix(compute, x.clone(), layout, rope);
        self.finish(compute, mixed, x, Some(positions))
    }

    /// New tokens of several sequences in one row, after those in the cache: `[1, n, d] -> [1, n, d]`, or of
    /// them the `wanted` ones.
    pub fn extend(
        &self,
        compute: &Compute,
        x: Tensor<3>,
        layer: CachedLayer<'_>,
        wanted: Option<&[u32]>,
    ) -> Tensor<3> {
        let mixed = self.attention.mix_cached(compute, x.clone(), layer);
        self.finish(compute, mixed, x, wanted)
    }

    /// What is each position's own, where it is wanted.
    fn finish(
        &self,
        compute: &Compute,
        mut mixed: Tensor<3>,
        mut x: Tensor<3>,
        wanted: Option<&[u32]>,
    ) -> Tensor<3> {
        // Gathered behind the attention, which needs all positions as keys, and before all that is each
        // position's own.
        if let Some(positions) = wanted {
            (mixed, x) = (compute.ops().at(mixed, positions), compute.ops().at(x, positions));
        }
        self.mlp.forward(compute, self.attention.merge(compute, mixed, x))
    }

    /// The same with new adapters.
    pub(crate) fn with_adapters(self, init: &Init<'_>, config: &AdapterConfig) -> Self {
        Self {
            attention: self.attention.with_adapters(&init.at("attention"), config),
            mlp: self.mlp.with_adapters(&init.at("mlp"), config),
        }
    }

    /// The same with its adapters in its weights.
    pub(crate) fn merged(self) -> Self {
        Self { attention: self.attention.merged(), mlp: self.mlp.merged() }
    }

    /// The same without its adapters.
    pub(crate) fn without_adapters(self) -> Self {
        let Self { mut attention, mut mlp } = self;
        (attention.adapter, mlp.adapter) = Default::default();
        Self { attention, mlp }
    }

    /// Whether a map has an adapter.
    pub(crate) fn has_adapters(&self) -> bool {
        let attention = &self.attention.adapter;
        attention.of_input().chain(&attention.out).next().is_some() || !self.mlp.adapter.is_empty()
    }

    /// See [`crate::Mm1::read_only`].
    pub(crate) fn read_only(self, ops: &dyn Operations, format: WeightFormat) -> Self {
        Self { attention: self.attention.read_only(ops, format), mlp: self.mlp.read_only(ops, format) }
    }
}
