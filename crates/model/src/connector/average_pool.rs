//! Average pooling: n×n adaptive average pool, then one linear map.

use anyhow::Result;
use burn::module::{Module, Param};
use burn::tensor::Tensor;
use schemars::JsonSchema;
use serde::{Deserialize, Serialize};

use super::{PictureActivations, check_square, list, map};
use crate::compute::Compute;
use crate::init::{Init, Initializer};
use crate::ops::Affine;
use crate::vision::VisionConfig;

/// The settings of `kind = "average-pool"`.
#[derive(Clone, Debug, PartialEq, Serialize, Deserialize, JsonSchema)]
#[serde(deny_unknown_fields)]
pub struct AveragePoolConfig {
    /// Image tokens for an image; a square number.
    /// Unit: image tokens.
    #[schemars(range(min = 1))]
    pub tokens: usize,
    /// Whether the linear map has a bias. Idefics3's has none (`export = "idefics3"`).
    #[serde(default = "default_bias", skip_serializing_if = "is_default_bias")]
    #[schemars(extend("default" = true))]
    pub bias: bool,
}

fn default_bias() -> bool {
    true
}

/// A field that has its default is not written: a plan from before there was such a field stays the same.
#[expect(clippy::trivially_copy_pass_by_ref, reason = "serde hands over a reference")]
fn is_default_bias(bias: &bool) -> bool {
    *bias == default_bias()
}

impl AveragePoolConfig {
    pub(super) fn check(&self) -> Result<()> {
        check_square(self.tokens)
    }

    pub(super) fn activations(&self, vision: &VisionConfig, out: usize) -> PictureActivations {
        PictureActivations {
            rounded: self.tokens * vision.dim,
            temporary: self.tokens * out,
            ..PictureActivations::default()
        }
    }
}

/// The parameters.
#[derive(Module, Debug)]
pub struct AveragePool {
    /// `[d, D]`
    pub project: Param<Tensor<2>>,
    /// `[D]`, where the map has one.
    pub project_bias: Option<Param<Tensor<1>>>,
    /// Image tokens along a side.
    #[module(skip)]
    side: usize,
}

impl AveragePool {
    /// From the encoder's width to `out`. `config` must have passed its check.
    pub fn new(init: &Init<'_>, config: &AveragePoolConfig, vision: &VisionConfig, out: usize) -> Self {
        Self {
            project: init.param("project", [vision.dim, out], Initializer::fan_in(vision.dim)),
            project_bias: config.bias.then(|| init.param("project_bias", [out], Initializer::Zeros)),
            side: config.tokens.isqrt(),
        }
    }

    /// `[n, h w, d] -> [n, k, D]` for a `grid` of h rows and w columns.
    pub fn forward(&self, compute: &Compute, features: Tensor<3>, grid: [usize; 2]) -> Tensor<3> {
        let pooled = list(compute.ops().adaptive_avg_pool(map(features, grid), self.side));
        let project = Affine::with_optional_bias(&self.project, self.project_bias.as_ref());
        compute.ops().linear(pooled, project)
    }
}
