//! The two-layer network of a transformer block with its norm in front and the residual around it, and the block.

use burn::module::{Module, Param};
use burn::tensor::Tensor;

use crate::attention::{Attention, NormWeights};
use crate::init::{Fill, Init};
use crate::matrix::Matrix;
use crate::ops::{self, Activation, Layout, Rope, Step};
use mm1_kernels::attention::KvCache;

/// `x + activation(norm(x) up) down`: a GELU with biases in the encoder, SwiGLU without in the decoder.
#[derive(Module, Debug)]
pub struct Mlp {
    /// Before the projections.
    pub norm: NormWeights,
    /// `[d, f]`; for SwiGLU gate and up side by side, `[d, 2f]`.
    pub up: Matrix,
    /// `[f]`, in the encoder only.
    pub up_bias: Option<Param<Tensor<1>>>,
    /// `[f, d]`
    pub down: Matrix,
    /// `[d]`, in the encoder only.
    pub down_bias: Option<Param<Tensor<1>>>,
    #[module(skip)]
    activation: Activation,
}

impl Mlp {
    /// Of hidden width `ffn` after the activation, with biases where the norm has one; `layers` is the depth of the
    /// network that it is in.
    pub fn new(
        init: &Init<'_>,
        norm: NormWeights,
        ffn: usize,
        activation: Activation,
        layers: usize,
    ) -> Self {
        let [dim] = norm.gamma.dims();
        let inner = if activation == Activation::Swiglu { 2 * ffn } else { ffn };
        let bias = |name, width| norm.beta.is_some().then(|| init.param(name, [width], Fill::Zeros));
        Self {
            up: init.param("up", [dim, inner], Fill::fan_in(dim)).into(),
            up_bias: bias("up_bias", inner),
            down: init.param("down", [ffn, dim], Fill::residual(ffn, layers)).into(),
            down_bias: bias("down_bias", dim),
            norm,
            activation,
        }
    }

    /// `[b, t, d] -> [b, t, d]`
    pub fn forward(&self, x: Tensor<3>) -> Tensor<3> {
        let (up_bias, down_bias) =
            (self.up_bias.as_ref().map(Param::val), self.down_bias.as_ref().map(Param::val));
        let hidden = ops::norm_linear(x.clone(), &self.norm.norm(), self.up.weight(), up_bias.as_ref());
        ops::act_linear_residual(hidden, self.activation, self.down.weight(), down_bias.as_ref(), Some(x))
    }

    fn packed(self) -> Self {
        Self { up: self.up.packed(), down: self.down.packed(), ..self }
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
    /// `[b, t, d] -> [b, t, d]`
    pub fn forward(&self, x: Tensor<3>, layout: &Layout, rope: Option<&Rope>) -> Tensor<3> {
        let (layout, rope) = (layout.clone(), rope.cloned());
        ops::recomputed(self, x, move |block, x| {
            block.finish(block.attention.mix(x.clone(), &layout, rope.as_ref()), x)
        })
    }

    /// The same, of which only some flat positions are wanted: `[b, t, d] -> [1, positions, d]`.
    pub fn forward_at(
        &self,
        x: Tensor<3>,
        layout: &Layout,
        rope: Option<&Rope>,
        positions: &[u32],
    ) -> Tensor<3> {
        let mixed = self.attention.mix(x.clone(), layout, rope);
        self.finish(ops::at(mixed, positions), ops::at(x, positions))
    }

    /// New tokens of several sequences in one row, after those in the cache: `[1, n, d] -> [1, n, d]`.
    pub fn extend(&self, x: Tensor<3>, rope: &Rope, steps: &[Step], cache: &mut [KvCache]) -> Tensor<3> {
        self.finish(self.attention.mix_cached(x.clone(), rope, steps, cache), x)
    }

    /// The same, of which only each step's last is wanted: `[1, n, d] -> [1, steps, d]`.
    pub fn extend_to_ends(
        &self,
        x: Tensor<3>,
        rope: &Rope,
        steps: &[Step],
        cache: &mut [KvCache],
    ) -> Tensor<3> {
        let mut end = 0;
        let last = |step: &Step| {
            end += step.len as u32;
            end - 1
        };
        let ends: Vec<u32> = steps.iter().map(last).collect();
        let mixed = self.attention.mix_cached(x.clone(), rope, steps, cache);
        self.finish(ops::at(mixed, &ends), ops::at(x, &ends))
    }

    /// What is each position's own.
    fn finish(&self, mixed: Tensor<3>, x: Tensor<3>) -> Tensor<3> {
        self.mlp.forward(self.attention.merge(mixed, x))
    }

    /// See [`crate::Mm1::packed`].
    pub(crate) fn packed(self) -> Self {
        Self { attention: self.attention.packed(), mlp: self.mlp.packed() }
    }
}
