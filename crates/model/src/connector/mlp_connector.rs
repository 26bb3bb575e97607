//! LLaVA's projector: each patch becomes an image token by a perceptron with one hidden layer.

use burn::module::{Module, Param};
use burn::tensor::Tensor;
use schemars::JsonSchema;
use serde::{Deserialize, Serialize};

use super::PictureActivations;
use crate::compute::Compute;
use crate::init::{Init, Initializer};
use crate::ops::{Activation, Affine};
use crate::vision::VisionConfig;

/// The settings of `kind = "mlp"`: none. The hidden layer has the decoder's width, as LLaVA-1.5's has, and
/// the number of image tokens is that of the patches.
#[derive(Clone, Debug, PartialEq, Serialize, Deserialize, JsonSchema)]
#[serde(deny_unknown_fields)]
pub struct MlpConnectorConfig {}

impl MlpConnectorConfig {
    /// The features and the hidden layer are saved; the backward pass makes the hidden layer's gradient.
    pub(super) fn activations(vision: &VisionConfig, out: usize) -> PictureActivations {
        let patches = vision.grid().pow(2);
        PictureActivations {
            rounded: patches * (vision.dim + out),
            temporary: patches * out,
            ..PictureActivations::default()
        }
    }
}

/// `gelu(x hidden + hidden_bias) project + project_bias` of each patch by itself, the GELU with the error
/// function (LLaVA-1.5: Liu et al. 2023, "Improved baselines with visual instruction tuning", arXiv
/// 2310.03744, section 3.2).
#[derive(Module, Debug)]
pub struct MlpConnector {
    /// `[d, D]`
    pub hidden: Param<Tensor<2>>,
    /// `[D]`
    pub hidden_bias: Param<Tensor<1>>,
    /// `[D, D]`
    pub project: Param<Tensor<2>>,
    /// `[D]`
    pub project_bias: Param<Tensor<1>>,
}

impl MlpConnector {
    /// From the encoder's width to `out`.
    pub fn new(init: &Init<'_>, vision: &VisionConfig, out: usize) -> Self {
        let map = |name, inputs| init.param(name, [inputs, out], Initializer::fan_in(inputs));
        let bias = |name| init.param(name, [out], Initializer::Zeros);
        Self {
            hidden: map("hidden", vision.dim),
            hidden_bias: bias("hidden_bias"),
            project: map("project", out),
            project_bias: bias("project_bias"),
        }
    }

    /// `[n, p, d] -> [n, p, D]`
    pub fn forward(&self, compute: &Compute, features: Tensor<3>) -> Tensor<3> {
        let ops = compute.ops();
        let hidden = ops.linear(features, Affine::new(&self.hidden, &self.hidden_bias));
        let project = Affine::new(&self.project, &self.project_bias);
        ops.act_linear_residual(hidden, Activation::Gelu, project, None)
    }
}
