//! Flamingo's connector (Alayrac et al. 2022): a perceiver resampler makes latents of each picture, and gated
//! cross-attention layers between the decoder's blocks look at them. The sequence holds one position for a
//! picture, whose embedding is that of the image token itself.
//!
//! As in Flamingo a position looks at the last picture before it, in its own example. Gates begin at 0, so
//! that a decoder begins as it was without pictures. Of one picture there are no times to tell apart:
//! Flamingo's time embeddings are not there.

use anyhow::{Result, ensure};
use burn::module::{Module, Param};
use burn::tensor::Tensor;
use schemars::JsonSchema;
use serde::{Deserialize, Serialize};

use super::PictureActivations;
use crate::attention::NormWeights;
use crate::compute::Compute;
use crate::glances::Glances;
use crate::init::{Init, Initializer, STD};
use crate::lm_config::LmConfig;
use crate::memory::{Activations, Load};
use crate::mlp::Mlp;
use crate::ops::{Activation, Affine};
use crate::vision::VisionConfig;

/// The settings of `kind = "cross-attention"`.
#[derive(Clone, Debug, PartialEq, Serialize, Deserialize, JsonSchema)]
#[serde(deny_unknown_fields)]
pub struct CrossAttentionConfig {
    /// Latents that the resampler makes of an image; the sequence holds one position for it.
    /// Unit: latents.
    #[serde(default = "default_latents")]
    #[schemars(range(min = 1))]
    pub latents: usize,
    /// Layers of the perceiver resampler.
    /// Unit: layers.
    #[serde(default = "default_depth")]
    #[schemars(range(min = 1))]
    pub depth: usize,
    /// Attention heads of the resampler and of the gated layers; divides `model.vision.dim` and
    /// `model.lm.dim`.
    /// Unit: heads.
    #[serde(default = "default_heads")]
    #[schemars(range(min = 1))]
    pub heads: usize,
    /// A gated layer stands before the first of each so many blocks of the decoder.
    /// Unit: blocks.
    #[serde(default = "default_every")]
    #[schemars(range(min = 1))]
    pub every: usize,
}

fn default_latents() -> usize {
    64
}
fn default_depth() -> usize {
    2
}
fn default_heads() -> usize {
    8
}
fn default_every() -> usize {
    1
}

impl CrossAttentionConfig {
    pub(super) fn check(&self, vision: &VisionConfig, lm: &LmConfig) -> Result<()> {
        let Self { latents, depth, heads, every } = *self;
        for (field, value) in [("latents", latents), ("depth", depth), ("heads", heads), ("every", every)] {
            ensure!(value > 0, "model.connector.{field} must be at least 1");
        }
        for (of, dim) in [("vision", vision.dim), ("lm", lm.dim)] {
            ensure!(
                dim.is_multiple_of(heads),
                "model.connector.heads = {heads} must divide model.{of}.dim = {dim}"
            );
        }
        Ok(())
    }

    /// Gated layers of a decoder of so many blocks.
    pub(crate) fn gated_layers(&self, blocks: usize) -> usize {
        blocks.div_ceil(self.every)
    }

    /// Of the resampler, and of each gated layer the keys and values of a picture.
    pub(super) fn activations(&self, vision: &VisionConfig, lm: &LmConfig) -> PictureActivations {
        let (d, k) = (vision.dim, self.latents);
        let keys_and_values = (vision.grid().pow(2) + k) * 2 * d;
        // Keys and values, what is behind each norm, queries, what they gather, and the MLP.
        let layer = 2 * keys_and_values + k * (5 * d + 2 * 4 * d);
        let gated = self.gated_layers(lm.layers) * k * 2 * lm.dim;
        PictureActivations {
            saved: self.depth * layer + gated,
            temporary: 2 * keys_and_values,
            ..PictureActivations::default()
        }
    }

    /// Of the gated layers, for each position of the decoder.
    pub(crate) fn position_activations(&self, lm: &LmConfig, load: Load) -> Activations {
        let d = lm.dim;
        // Positions in a row by pictures, queries, what they gather, its map, and back; the sum; the MLP's
        // input and hidden layer, and what goes through the gates.
        let layer = 7 * d + load.rounded(d + HIDDEN * d) + 2 * d;
        Activations {
            saved: load.positions * self.gated_layers(lm.layers) * layer,
            temporary: load.positions * (2 * d + load.rounded(2 * HIDDEN * d)),
        }
    }
}

/// The width of an MLP's hidden layer, in widths of what it works on.
const HIDDEN: usize = 4;

/// A layer of the resampler: latents look at the patches and at each other, then an MLP.
#[derive(Module, Debug)]
pub struct ResamplerLayer {
    /// Before keys and values of patches.
    pub media_norm: NormWeights,
    /// Before queries, keys and values of latents.
    pub norm: NormWeights,
    /// `[d, d]`
    pub q: Param<Tensor<2>>,
    /// Keys and values side by side `[d, 2d]`, of patches and latents alike.
    pub kv: Param<Tensor<2>>,
    /// `[d, d]`
    pub out: Param<Tensor<2>>,
    /// Works on each latent.
    pub mlp: Mlp,
    #[module(skip)]
    heads: usize,
}

impl ResamplerLayer {
    fn new(init: &Init<'_>, config: &CrossAttentionConfig, dim: usize, eps: f64) -> Self {
        let norm = |name: &str| NormWeights::layer(&init.at(name), dim, eps);
        let mlp = init.at("mlp");
        Self {
            media_norm: norm("media_norm"),
            norm: norm("norm"),
            q: init.param("q", [dim, dim], Initializer::fan_in(dim)),
            kv: init.param("kv", [dim, 2 * dim], Initializer::fan_in(dim)),
            out: init.param("out", [dim, dim], Initializer::residual(dim, 1)),
            mlp: Mlp::new(
                &mlp,
                NormWeights::layer(&mlp.at("norm"), dim, eps),
                HIDDEN * dim,
                Activation::Gelu,
                1,
            ),
            heads: config.heads,
        }
    }

    /// `[n, k, d]` and `[n, p, d] -> [n, k, d]`
    fn forward(&self, compute: &Compute, latents: Tensor<3>, features: Tensor<3>) -> Tensor<3> {
        let ops = compute.ops();
        let norm = self.norm.norm();
        let q = ops.norm_linear(latents.clone(), &norm, (&self.q).into());
        let of_patches = ops.norm_linear(features, &self.media_norm.norm(), (&self.kv).into());
        let of_latents = ops.norm_linear(latents.clone(), &norm, (&self.kv).into());
        let seen = ops.cross_attention(q, Tensor::cat(vec![of_patches, of_latents], 1), self.heads);
        let out = Affine::from(&self.out);
        self.mlp.forward(compute, ops.act_linear_residual(seen, Activation::Identity, out, Some(latents)))
    }
}

/// A layer before a block of the decoder: positions look at the latents of their picture, then an MLP; what
/// both give goes through gates, `x + tanh(gate) y`.
#[derive(Module, Debug)]
pub struct GatedLayer {
    /// Before queries.
    pub norm: NormWeights,
    /// `[D, D]`
    pub q: Param<Tensor<2>>,
    /// Keys and values of latents side by side `[d, 2D]`.
    pub kv: Param<Tensor<2>>,
    /// `[D, D]`
    pub out: Param<Tensor<2>>,
    /// `[1]`, at first 0.
    pub attention_gate: Param<Tensor<1>>,
    /// Before the MLP.
    pub mlp_norm: NormWeights,
    /// `[D, 4D]`
    pub up: Param<Tensor<2>>,
    /// `[4D, D]`
    pub down: Param<Tensor<2>>,
    /// `[1]`, at first 0.
    pub mlp_gate: Param<Tensor<1>>,
    #[module(skip)]
    heads: usize,
}

impl GatedLayer {
    fn new(init: &Init<'_>, heads: usize, vision: &VisionConfig, lm: &LmConfig) -> Self {
        let (dim, seen) = (lm.dim, vision.dim);
        let norm = |name: &str| NormWeights::layer(&init.at(name), dim, vision.norm_eps);
        let gate = |name: &str| init.param(name, [1], Initializer::Zeros);
        Self {
            norm: norm("norm"),
            q: init.param("q", [dim, dim], Initializer::fan_in(dim)),
            kv: init.param("kv", [seen, 2 * dim], Initializer::fan_in(seen)),
            out: init.param("out", [dim, dim], Initializer::residual(dim, 1)),
            attention_gate: gate("attention_gate"),
            mlp_norm: norm("mlp_norm"),
            up: init.param("up", [dim, HIDDEN * dim], Initializer::fan_in(dim)),
            down: init.param("down", [HIDDEN * dim, dim], Initializer::residual(HIDDEN * dim, 1)),
            mlp_gate: gate("mlp_gate"),
            heads,
        }
    }

    /// `[b, t, D] -> [b, t, D]`, where `kv` are the keys and values of the pictures of `glances`.
    pub(crate) fn forward(
        &self,
        compute: &Compute,
        x: Tensor<3>,
        (glances, kv): (&Glances, Option<Tensor<3>>),
    ) -> Tensor<3> {
        let ops = compute.ops();
        let x = match kv {
            None => x,
            Some(kv) => {
                let q =
                    ops.norm_linear(glances.gather(compute, x.clone()), &self.norm.norm(), (&self.q).into());
                let seen = ops.linear(ops.cross_attention(q, kv, self.heads), (&self.out).into());
                x.clone()
                    + glances.scatter(compute, seen, x.dims())
                        * self.attention_gate.val().tanh().unsqueeze::<3>()
            }
        };
        let hidden = ops.norm_linear(x.clone(), &self.mlp_norm.norm(), (&self.up).into());
        let y = ops.act_linear_residual(hidden, Activation::Gelu, (&self.down).into(), None);
        x + y * self.mlp_gate.val().tanh().unsqueeze::<3>()
    }
}

/// Resampler and gated layers.
#[derive(Module, Debug)]
pub struct CrossAttention {
    /// Learned latents `[k, d]`, from which the resampler begins.
    pub queries: Param<Tensor<2>>,
    /// The resampler.
    pub resampler: Vec<ResamplerLayer>,
    /// After it.
    pub norm: NormWeights,
    /// Those before the decoder's blocks.
    pub gated: Vec<GatedLayer>,
    #[module(skip)]
    every: usize,
}

impl CrossAttention {
    /// `config` must have passed its check.
    pub fn new(init: &Init<'_>, config: &CrossAttentionConfig, vision: &VisionConfig, lm: &LmConfig) -> Self {
        let (dim, eps) = (vision.dim, vision.norm_eps);
        let layer = |i| ResamplerLayer::new(&init.at("resampler").at(i), config, dim, eps);
        let gated = |i| GatedLayer::new(&init.at("gated").at(i), config.heads, vision, lm);
        Self {
            queries: init.param("queries", [config.latents, dim], Initializer::Normal(STD)),
            resampler: (0..config.depth).map(layer).collect(),
            norm: NormWeights::layer(&init.at("norm"), dim, eps),
            gated: (0..config.gated_layers(lm.layers)).map(gated).collect(),
            every: config.every,
        }
    }

    /// The latents of pictures: `[n, p, d] -> [n, k, d]`.
    pub fn forward(&self, compute: &Compute, features: Tensor<3>) -> Tensor<3> {
        let (n, [k, d]) = (features.dims()[0], self.queries.val().dims());
        let latents = self.queries.val().unsqueeze::<3>().expand([n, k, d]);
        let layer = |x, layer: &ResamplerLayer| layer.forward(compute, x, features.clone());
        compute.ops().norm(self.resampler.iter().fold(latents, layer), &self.norm.norm())
    }

    /// Of each gated layer the keys and values of the latents of pictures: `[n, k, d] -> [n, k, 2D]`.
    pub(crate) fn keys_and_values(&self, compute: &Compute, latents: Tensor<3>) -> Vec<Tensor<3>> {
        self.gated.iter().map(|layer| compute.ops().linear(latents.clone(), (&layer.kv).into())).collect()
    }

    /// The gated layer before a block of the decoder, if one is there, with its number.
    pub(crate) fn before(&self, block: usize) -> Option<(usize, &GatedLayer)> {
        let number = block / self.every;
        block.is_multiple_of(self.every).then(|| (number, &self.gated[number]))
    }
}
