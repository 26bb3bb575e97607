//! Average pooling: n×n adaptive average pool, then one linear map.

use burn::module::{Module, Param};
use burn::tensor::Tensor;

use super::{list, map};
use crate::init::{Fill, Init};
use crate::ops;

/// The parameters.
#[derive(Module, Debug)]
pub struct AvgPool {
    /// `[d, D]`
    pub project: Param<Tensor<2>>,
    /// `[D]`
    pub project_bias: Param<Tensor<1>>,
    #[module(skip)]
    side: usize,
}

impl AvgPool {
    /// `side * side` image tokens; from width `dim` to `out`.
    pub fn new(init: &Init<'_>, dim: usize, side: usize, out: usize) -> Self {
        Self {
            project: init.param("project", [dim, out], Fill::fan_in(dim)),
            project_bias: init.param("project_bias", [out], Fill::Zeros),
            side,
        }
    }

    /// `[n, h w, d] -> [n, k, D]` for a `grid` of h rows and w columns.
    pub fn forward(&self, features: Tensor<3>, grid: [usize; 2]) -> Tensor<3> {
        let pooled = list(ops::adaptive_avg_pool(map(features, grid), self.side));
        ops::linear(pooled, &self.project.val(), Some(&self.project_bias.val()))
    }
}
