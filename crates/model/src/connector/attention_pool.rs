//! Attention pooling: learned queries look at the patches once, then an MLP and a linear map.

use anyhow::{Result, ensure};
use burn::module::{Module, Param};
use burn::tensor::Tensor;
use schemars::JsonSchema;
use serde::{Deserialize, Serialize};

use super::PictureActivations;
use crate::attention::NormWeights;
use crate::compute::Compute;
use crate::init::{Init, Initializer, STD};
use crate::mlp::Mlp;
use crate::ops::{Activation, Affine};
use crate::vision::VisionConfig;

/// The settings of `kind = "attention-pool"`.
#[derive(Clone, Debug, PartialEq, Serialize, Deserialize, JsonSchema)]
#[serde(deny_unknown_fields)]
pub struct AttentionPoolConfig {
    /// Image tokens for an image: the number of queries.
    /// Unit: image tokens.
    #[schemars(range(min = 1))]
    pub tokens: usize,
    /// Attention heads; divides `model.vision.dim`.
    /// Unit: heads.
    #[serde(default = "default_heads")]
    #[schemars(range(min = 1))]
    pub heads: usize,
}

fn default_heads() -> usize {
    8
}

impl AttentionPoolConfig {
    pub(super) fn check(&self, vision: &VisionConfig) -> Result<()> {
        ensure!(
            self.heads > 0 && vision.dim.is_multiple_of(self.heads),
            "model.connector.heads = {} must divide model.vision.dim = {}",
            self.heads,
            vision.dim
        );
        Ok(())
    }

    pub(super) fn activations(&self, vision: &VisionConfig) -> PictureActivations {
        let keys_and_values = vision.grid().pow(2) * 2 * vision.dim;
        PictureActivations {
            saved: keys_and_values + self.tokens * 5 * vision.dim,
            temporary: keys_and_values,
            ..PictureActivations::default()
        }
    }
}

/// One pre-norm cross-attention layer of the encoder's width. The queries need no norm, being parameters, and
/// the features none where the encoder ends in one; the MLP's hidden layer is four times the width.
#[derive(Module, Debug)]
pub struct AttentionPool {
    /// Learned queries `[k, d]`.
    pub queries: Param<Tensor<2>>,
    /// `[d, d]`
    pub q: Param<Tensor<2>>,
    /// `[d]`
    pub q_bias: Param<Tensor<1>>,
    /// Keys and values side by side `[d, 2d]`.
    pub kv: Param<Tensor<2>>,
    /// `[2d]`
    pub kv_bias: Param<Tensor<1>>,
    /// `[d, d]`
    pub out: Param<Tensor<2>>,
    /// `[d]`
    pub out_bias: Param<Tensor<1>>,
    /// Works on each query.
    pub mlp: Mlp,
    /// Before the last map.
    pub norm: NormWeights,
    /// `[d, D]`
    pub project: Param<Tensor<2>>,
    /// `[D]`
    pub project_bias: Param<Tensor<1>>,
    /// Divides the encoder's width.
    #[module(skip)]
    heads: usize,
}

impl AttentionPool {
    /// From the encoder's width to `out`. `config` must have passed its check.
    pub fn new(init: &Init<'_>, config: &AttentionPoolConfig, vision: &VisionConfig, out: usize) -> Self {
        let (dim, eps) = (vision.dim, vision.norm_eps);
        let mlp = init.at("mlp");
        let mlp_norm = NormWeights::layer(&mlp.at("norm"), dim, eps);
        Self {
            queries: init.param("queries", [config.tokens, dim], Initializer::Normal(STD)),
            q: init.param("q", [dim, dim], Initializer::fan_in(dim)),
            q_bias: init.param("q_bias", [dim], Initializer::Zeros),
            kv: init.param("kv", [dim, 2 * dim], Initializer::fan_in(dim)),
            kv_bias: init.param("kv_bias", [2 * dim], Initializer::Zeros),
            out: init.param("out", [dim, dim], Initializer::residual(dim, 1)),
            out_bias: init.param("out_bias", [dim], Initializer::Zeros),
            mlp: Mlp::new(&mlp, mlp_norm, 4 * dim, Activation::Gelu, 1),
            norm: NormWeights::layer(&init.at("norm"), dim, eps),
            project: init.param("project", [dim, out], Initializer::fan_in(dim)),
            project_bias: init.param("project_bias", [out], Initializer::Zeros),
            heads: config.heads,
        }
    }

    /// `[n, p, d] -> [n, k, D]`
    pub fn forward(&self, compute: &Compute, features: Tensor<3>) -> Tensor<3> {
        let ops = compute.ops();
        let n = features.dims()[0];
        let queries = self.queries.val().unsqueeze::<3>();
        let [_, k, d] = queries.dims();
        let q = ops.linear(queries.clone(), Affine::new(&self.q, &self.q_bias));
        let kv = ops.linear(features, Affine::new(&self.kv, &self.kv_bias));
        // The same queries for all pictures: they are mapped once and repeated as a view.
        let seen = ops.cross_attention(q.expand([n, k, d]), kv, self.heads);
        let (out, residual) = (Affine::new(&self.out, &self.out_bias), queries.expand([n, k, d]));
        let x = ops.act_linear_residual(seen, Activation::Identity, out, Some(residual));
        let x = self.mlp.forward(compute, x);
        ops.norm_linear(x, &self.norm.norm(), Affine::new(&self.project, &self.project_bias))
    }
}
