//! What is said of a vector: its cosines with learned prototypes.

use burn::module::{Module, Param};
use burn::tensor::Tensor;

use super::config::DinoConfig;
use crate::compute::Compute;
use crate::init::{Init, Initializer};
use crate::ops::{self, Activation, Affine};

/// A three-layer MLP to a unit vector, and its cosines with K prototypes (section 3.1 and appendix C of
/// DINO).
#[derive(Module, Debug)]
pub struct DinoHead {
    /// `[d, h]`
    pub first: Param<Tensor<2>>,
    /// `[h]`
    pub first_bias: Param<Tensor<1>>,
    /// `[h, h]`
    pub second: Param<Tensor<2>>,
    /// `[h]`
    pub second_bias: Param<Tensor<1>>,
    /// `[h, e]`
    pub third: Param<Tensor<2>>,
    /// `[e]`
    pub third_bias: Param<Tensor<1>>,
    /// Their columns count as unit vectors `[e, K]`.
    pub prototypes: Param<Tensor<2>>,
}

impl DinoHead {
    pub(super) fn new(init: &Init<'_>, width: usize, config: &DinoConfig) -> Self {
        let (hidden, bottleneck) = (config.hidden, config.bottleneck);
        let map =
            |name: &str, from: usize, to: usize| init.param(name, [from, to], Initializer::fan_in(from));
        let bias = |name: &str, to: usize| init.param(name, [to], Initializer::Zeros);
        Self {
            first: map("first", width, hidden),
            first_bias: bias("first_bias", hidden),
            second: map("second", hidden, hidden),
            second_bias: bias("second_bias", hidden),
            third: map("third", hidden, bottleneck),
            third_bias: bias("third_bias", bottleneck),
            prototypes: map("prototypes", bottleneck, config.prototypes),
        }
    }

    /// `[m, d] -> [m, K]`
    pub fn forward(&self, compute: &Compute, features: Tensor<2>) -> Tensor<2> {
        let ops = compute.ops();
        let x = ops.linear(features.unsqueeze::<3>(), Affine::new(&self.first, &self.first_bias));
        let layer = |x, weight: &Param<Tensor<2>>, bias: &Param<Tensor<1>>| {
            ops.act_linear_residual(x, Activation::Gelu, Affine::new(weight, bias), None)
        };
        let x = layer(x, &self.second, &self.second_bias);
        let x: Tensor<2> = layer(x, &self.third, &self.third_bias).squeeze_dim(0);
        ops::unit(x, 1).matmul(ops::unit(self.prototypes.val(), 0))
    }
}
