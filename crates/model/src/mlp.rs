//! The two-layer network of a transformer block with its norm in front and the residual around it, and the
//! block.

use burn::module::{Module, Param};
use burn::tensor::Tensor;

use crate::attention::{Attention, NormWeights};
use crate::init::{Init, Initializer};
use crate::ops::{self, Activation, Layout, Precision, Rope, Step};
use crate::weight::LinearWeight;
use mm1_kernels::attention::KvCache;

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
            norm,
            activation,
        }
    }

    /// `[b, t, d] -> [b, t, d]`
    pub fn forward(&self, x: Tensor<3>) -> Tensor<3> {
        let (up_bias, down_bias) =
            (self.up_bias.as_ref().map(Param::val), self.down_bias.as_ref().map(Param::val));
        let hidden =
            ops::norm_linear_rounded(x.clone(), &self.norm.norm(), self.up.weight(), up_bias.as_ref());
        ops::act_linear_residual(hidden, self.activation, self.down.weight(), down_bias.as_ref(), Some(x))
    }

    fn read_only(self, precision: Precision) -> Self {
        Self { up: self.up.read_only(precision), down: self.down.read_only(precision), ..self }
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
            block.finish(block.attention.mix(x.clone(), &layout, rope.as_ref()), x, None)
        })
    }

    /// The same where only some flat positions are wanted: `[b, t, d] -> [1, positions, d]`. It is for a
    /// network's last block, which is not recomputed: its backward pass is the first.
    pub fn forward_at(
        &self,
        x: Tensor<3>,
        layout: &Layout,
        rope: Option<&Rope>,
        positions: &[u32],
    ) -> Tensor<3> {
        self.finish(self.attention.mix(x.clone(), layout, rope), x, Some(positions))
    }

    /// New tokens of several sequences in one row, after those in the cache: `[1, n, d] -> [1, n, d]`, or of
    /// them the `wanted` ones.
    pub fn extend(
        &self,
        x: Tensor<3>,
        rope: &Rope,
        (steps, cache): (&[Step], &mut [KvCache]),
        wanted: Option<&[u32]>,
    ) -> Tensor<3> {
        self.finish(self.attention.mix_cached(x.clone(), rope, steps, cache), x, wanted)
    }

    /// What is each position's own, where it is wanted.
    fn finish(&self, mut mixed: Tensor<3>, mut x: Tensor<3>, wanted: Option<&[u32]>) -> Tensor<3> {
        if let Some(positions) = wanted {
            (mixed, x) = (ops::at(mixed, positions), ops::at(x, positions));
        }
        self.mlp.forward(self.attention.merge(mixed, x))
    }

    /// See [`crate::Mm1::read_only`].
    pub(crate) fn read_only(self, precision: Precision) -> Self {
        Self { attention: self.attention.read_only(precision), mlp: self.mlp.read_only(precision) }
    }
}
