//! The image encoder: a vision transformer (Dosovitskiy et al. 2021) with a patch or a convolutional stem.

use burn::module::{Module, Param};
use burn::tensor::Tensor;

use crate::attention::{Attention, NormWeights};
use crate::config::{Stem, VisionConfig};
use crate::init::{Fill, Init, POSITION, STD};
use crate::mlp::{Block, Mlp};
use crate::ops::{self, Activation, Heads, Layout, Sight};

/// Pictures to patch features.
#[derive(Module, Debug)]
pub struct Vision {
    /// Convolutions before the patch map; none with a patch stem.
    pub stem: Vec<ConvStage>,
    /// Patch stem: `[patch^2 * 3, d]`, from pixels in the order (y, x, channel). Conv stem: `[d, d]`.
    pub patch: Param<Tensor<2>>,
    /// `[d]`
    pub patch_bias: Param<Tensor<1>>,
    /// Learned positions of the patches, row by row: `[p, d]`.
    pub position: Param<Tensor<2>>,
    /// `[1, d]`, put before the patches. Its position is fixed, so it needs no entry in the table.
    pub class_token: Option<Param<Tensor<2>>>,
    /// The transformer.
    pub blocks: Vec<Block>,
    /// After the last block.
    pub norm: NormWeights,
    #[module(skip)]
    pixels_per_patch: usize,
}

/// 3x3 convolution of stride 2 without bias, LayerNorm over channels, GELU.
#[derive(Module, Debug)]
pub struct ConvStage {
    /// `[9 * in, out]`
    pub weight: Param<Tensor<2>>,
    /// Over channels.
    pub norm: NormWeights,
}

impl Vision {
    /// `config` must have passed its check.
    pub fn new(init: &Init<'_>, config: &VisionConfig) -> Self {
        let (dim, patch) = (config.dim, config.patch);
        let heads = Heads { heads: config.heads, kv_heads: config.heads, width: dim / config.heads };
        let stem = stem(&init.at("stem"), config);
        let inputs = if stem.is_empty() { patch * patch * 3 } else { dim };
        let blocks = (0..config.layers).map(|layer| {
            let (attention, mlp) =
                (init.at("blocks").at(layer).at("attention"), init.at("blocks").at(layer).at("mlp"));
            let norm = |init: &Init<'_>| NormWeights::layer(&init.at("norm"), dim, config.norm_eps);
            Block {
                attention: Attention::new(&attention, norm(&attention), heads, config.layers),
                mlp: Mlp::new(&mlp, norm(&mlp), config.ffn, config.layers),
            }
        });
        Self {
            patch: init.param("patch", [inputs, dim], Fill::fan_in(inputs)),
            patch_bias: init.param("patch_bias", [dim], Fill::Zeros),
            position: init.param("position", [config.grid().pow(2), dim], Fill::Normal(POSITION)),
            class_token: config.class_token.then(|| init.param("class_token", [1, dim], Fill::Normal(STD))),
            blocks: blocks.collect(),
            norm: NormWeights::layer(&init.at("norm"), dim, config.norm_eps),
            pixels_per_patch: patch,
            stem,
        }
    }

    /// Features of the patches, row by row, without the class token's: `[n, s, s, 3] -> [n, p, d]`.
    pub fn forward(&self, pixels: Tensor<4>) -> Tensor<3> {
        let mut x = self.embed(pixels);
        let [n, t, _] = x.dims();
        let layout = Layout::full(n, t, Sight::All);
        for block in &self.blocks {
            x = block.forward(x, &layout, None);
        }
        let p = self.position.dims()[0];
        ops::norm(x.narrow(1, t - p, p), &self.norm.norm())
    }

    /// Stem, positions and class token: `[n, s, s, 3] -> [n, t, d]` with `t` = `p`, or `p + 1` with a class token.
    pub fn embed(&self, pixels: Tensor<4>) -> Tensor<3> {
        let patches = if self.stem.is_empty() {
            ops::patches(pixels, self.pixels_per_patch)
        } else {
            let map = self.stem.iter().fold(pixels, |x, stage| stage.forward(x));
            let [n, h, w, d] = map.dims();
            map.reshape([n, h * w, d])
        };
        let x = ops::linear(patches, &self.patch.val(), Some(&self.patch_bias.val()));
        let x = x + self.position.val().unsqueeze::<3>();
        match &self.class_token {
            None => x,
            Some(class) => {
                let [n, _, d] = x.dims();
                Tensor::cat(vec![class.val().unsqueeze::<3>().expand([n, 1, d]), x], 1)
            }
        }
    }
}

/// `log2(patch)` stages whose widths double up to `dim`.
fn stem(init: &Init<'_>, config: &VisionConfig) -> Vec<ConvStage> {
    if config.stem == Stem::Patch {
        return Vec::new();
    }
    let stages = config.patch.ilog2() as usize;
    let width = |stage: usize| if stage == 0 { 3 } else { config.dim >> (stages - stage) };
    (0..stages)
        .map(|stage| {
            let (init, inputs) = (init.at(stage), 9 * width(stage));
            ConvStage {
                weight: init.param("weight", [inputs, width(stage + 1)], Fill::fan_in(inputs)),
                norm: NormWeights::layer(&init.at("norm"), width(stage + 1), config.norm_eps),
            }
        })
        .collect()
}

impl ConvStage {
    /// `[n, h, w, c] -> [n, h / 2, w / 2, o]`
    fn forward(&self, x: Tensor<4>) -> Tensor<4> {
        let x = ops::conv3x3(x, &self.weight.val(), None, 2);
        let [n, h, w, c] = x.dims();
        let x = ops::norm_activation(x.reshape([n, h * w, c]), &self.norm.norm(), Activation::Gelu);
        x.reshape([n, h, w, c])
    }
}
