//! C-Abstractor (Honeybee, Cha et al. 2023, section 3.2): RegNet blocks, adaptive average pooling, RegNet
//! blocks.

use anyhow::{Result, ensure};
use burn::module::{Module, Param};
use burn::tensor::{Tensor, activation};
use schemars::JsonSchema;
use serde::{Deserialize, Serialize};

use super::{PictureActivations, check_square, list, map};
use crate::attention::NormWeights;
use crate::compute::Compute;
use crate::init::{Init, Initializer, POSITION};
use crate::ops::{Activation, Affine};
use crate::positions;
use crate::vision::VisionConfig;

/// The settings of `kind = "c-abstractor"`.
#[derive(Clone, Debug, PartialEq, Serialize, Deserialize, JsonSchema)]
#[serde(deny_unknown_fields)]
pub struct CAbstractorConfig {
    /// Image tokens for an image; a square number.
    /// Unit: image tokens.
    #[schemars(range(min = 1))]
    pub tokens: usize,
    /// Width of the blocks (1024 in Honeybee).
    /// Unit: channels.
    #[serde(default = "default_dim")]
    #[schemars(range(min = 1))]
    pub dim: usize,
    /// Blocks before and after the pooling, each (3 in Honeybee).
    /// Unit: blocks.
    #[serde(default = "default_depth")]
    #[schemars(range(min = 1))]
    pub depth: usize,
}

fn default_dim() -> usize {
    1024
}
fn default_depth() -> usize {
    3
}

impl CAbstractorConfig {
    pub(super) fn check(&self) -> Result<()> {
        check_square(self.tokens)?;
        ensure!(self.dim > 0, "model.connector.dim must be at least 1");
        ensure!(self.depth > 0, "model.connector.depth must be at least 1");
        Ok(())
    }

    /// A block saves its input and seven maps of its width; its backward pass makes three.
    pub(super) fn activations(&self, vision: &VisionConfig, out: usize) -> PictureActivations {
        let Self { tokens, dim, depth } = *self;
        let patches = vision.grid().pow(2);
        let maps = 8 * depth * dim * (patches + tokens);
        PictureActivations {
            rounded: maps + tokens * (dim + out),
            temporary: 3 * dim * patches,
            ..PictureActivations::default()
        }
    }
}

/// LayerNorm's epsilon in the blocks.
const EPS: f64 = 1e-5;

/// The parameters.
#[derive(Module, Debug)]
pub struct CAbstractor {
    /// Learned positions of the patches of a square, row by row: `[p, d]`.
    pub position: Param<Tensor<2>>,
    /// Blocks at the encoder's resolution.
    pub before: Vec<Abstraction>,
    /// Blocks at the image tokens' resolution.
    pub after: Vec<Abstraction>,
    /// First map of the read-out `[w, D]`.
    pub readout: Param<Tensor<2>>,
    /// `[D]`
    pub readout_bias: Param<Tensor<1>>,
    /// Second map of the read-out, after SiLU, `[D, D]`.
    pub project: Param<Tensor<2>>,
    /// `[D]`
    pub project_bias: Param<Tensor<1>>,
    /// Image tokens along a side.
    #[module(skip)]
    side: usize,
}

/// One RegNet bottleneck block from width `i` to `o`. All convolutions are without bias.
#[derive(Module, Debug)]
pub struct Abstraction {
    /// 1x1 convolution `[i, o]`.
    pub expand: Param<Tensor<2>>,
    /// After it.
    pub expand_norm: NormWeights,
    /// Depthwise 3x3 convolution `[9, o]`.
    pub depthwise: Param<Tensor<2>>,
    /// After it.
    pub depthwise_norm: NormWeights,
    /// From the mean over positions `[o, i / 4]`.
    pub squeeze: Param<Tensor<2>>,
    /// `[i / 4]`
    pub squeeze_bias: Param<Tensor<1>>,
    /// To the gates of the channels `[i / 4, o]`.
    pub excite: Param<Tensor<2>>,
    /// `[o]`
    pub excite_bias: Param<Tensor<1>>,
    /// 1x1 convolution `[o, o]`.
    pub reduce: Param<Tensor<2>>,
    /// After it.
    pub reduce_norm: NormWeights,
    /// Around the block where the widths differ.
    pub shortcut: Option<Shortcut>,
}

/// 1x1 convolution and norm.
#[derive(Module, Debug)]
pub struct Shortcut {
    /// `[i, o]`
    pub weight: Param<Tensor<2>>,
    /// After it.
    pub norm: NormWeights,
}

impl CAbstractor {
    /// From the encoder's width to `out`. `config` must have passed its check.
    pub fn new(init: &Init<'_>, config: &CAbstractorConfig, vision: &VisionConfig, out: usize) -> Self {
        let CAbstractorConfig { tokens, dim: width, depth } = *config;
        let stage = |name: &str, first: usize| {
            let inputs = |block| if block == 0 { first } else { width };
            (0..depth).map(|block| Abstraction::new(&init.at(name).at(block), inputs(block), width)).collect()
        };
        Self {
            // For the square that pictures are trained at; another grid has interpolated positions.
            position: init.param(
                "position",
                [vision.grid().pow(2), vision.dim],
                Initializer::Normal(POSITION),
            ),
            before: stage("before", vision.dim),
            after: stage("after", width),
            readout: init.param("readout", [width, out], Initializer::fan_in(width)),
            readout_bias: init.param("readout_bias", [out], Initializer::Zeros),
            project: init.param("project", [out, out], Initializer::fan_in(out)),
            project_bias: init.param("project_bias", [out], Initializer::Zeros),
            side: tokens.isqrt(),
        }
    }

    /// The same with positions interpolated to a grid of `side` rows and columns.
    pub(super) fn with_grid(self, side: usize) -> Self {
        Self { position: positions::for_side(self.position, side), ..self }
    }

    /// `[n, h w, d] -> [n, k, D]` for a `grid` of h rows and w columns; its positions are interpolated where
    /// it is not the table's.
    pub fn forward(&self, compute: &Compute, features: Tensor<3>, grid: [usize; 2]) -> Tensor<3> {
        let ops = compute.ops();
        let table = self.position.val();
        let position = positions::resample(table.clone(), [table.dims()[0].isqrt(); 2], grid);
        let x = map(features + position.unsqueeze::<3>(), grid);
        let x = self.before.iter().fold(x, |x, block| block.forward(compute, x));
        let x = ops.adaptive_avg_pool(x, self.side);
        let x = list(self.after.iter().fold(x, |x, block| block.forward(compute, x)));
        let x = ops.linear(x, Affine::new(&self.readout, &self.readout_bias));
        ops.act_linear_residual(x, Activation::Silu, Affine::new(&self.project, &self.project_bias), None)
    }
}

impl Abstraction {
    /// From width `inputs` to `width`.
    fn new(init: &Init<'_>, inputs: usize, width: usize) -> Self {
        // Of the block's input width, as timm's RegNet has it, not of its own.
        let squeezed = (inputs / 4).max(1);
        let conv = |name, inputs, out| init.param(name, [inputs, out], Initializer::fan_in(inputs));
        let norm = |name: &str| NormWeights::layer(&init.at(name), width, EPS);
        let shortcut = (inputs != width).then(|| {
            let init = init.at("shortcut");
            let weight = init.param("weight", [inputs, width], Initializer::fan_in(inputs));
            Shortcut { weight, norm: NormWeights::layer(&init.at("norm"), width, EPS) }
        });
        Self {
            expand: conv("expand", inputs, width),
            expand_norm: norm("expand_norm"),
            depthwise: conv("depthwise", 9, width),
            depthwise_norm: norm("depthwise_norm"),
            squeeze: conv("squeeze", width, squeezed),
            squeeze_bias: init.param("squeeze_bias", [squeezed], Initializer::Zeros),
            excite: conv("excite", squeezed, width),
            excite_bias: init.param("excite_bias", [width], Initializer::Zeros),
            reduce: conv("reduce", width, width),
            reduce_norm: norm("reduce_norm"),
            shortcut,
        }
    }

    /// `[n, h, w, i] -> [n, h, w, o]`
    fn forward(&self, compute: &Compute, x: Tensor<4>) -> Tensor<4> {
        let ops = compute.ops();
        let [n, h, w, _] = x.dims();
        let x = list(x);
        let y = ops.linear(x.clone(), (&self.expand).into());
        let y = ops.norm_activation(y, &self.expand_norm.norm(), Activation::Silu);
        let width = y.dims()[2];
        let y = list(ops.depthwise3x3(y.reshape([n, h, w, width]), &self.depthwise.val()));
        let y = ops.norm_activation(y, &self.depthwise_norm.norm(), Activation::Silu);
        let y = ops.gate(y.clone(), self.gates(compute, y));
        let y = ops.linear(y, (&self.reduce).into());
        let y = ops.norm(y, &self.reduce_norm.norm());
        let around = match &self.shortcut {
            None => x,
            Some(shortcut) => shortcut.forward(compute, x),
        };
        ops.add_activation(y, around, Activation::Silu).reshape([n, h, w, width])
    }

    /// Squeeze-and-excite (Hu et al. 2018): `[n, h w, o] -> [n, 1, o]` in (0, 1).
    fn gates(&self, compute: &Compute, y: Tensor<3>) -> Tensor<3> {
        let ops = compute.ops();
        let mean = ops.linear(y.mean_dim(1), Affine::new(&self.squeeze, &self.squeeze_bias));
        let excite = Affine::new(&self.excite, &self.excite_bias);
        let gates = ops.act_linear_residual(mean, Activation::Silu, excite, None);
        activation::sigmoid(gates)
    }
}

impl Shortcut {
    /// `[n, p, i] -> [n, p, o]`
    fn forward(&self, compute: &Compute, x: Tensor<3>) -> Tensor<3> {
        let projected = compute.ops().linear(x, (&self.weight).into());
        compute.ops().norm(projected, &self.norm.norm())
    }
}
