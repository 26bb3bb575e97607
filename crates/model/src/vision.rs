//! The image encoder: a vision transformer (Dosovitskiy et al. 2021) with a patch or a convolutional stem.

use burn::module::{Module, Param};
use burn::tensor::Tensor;

use crate::attention::{Attention, NormWeights};
use crate::config::{Stem, VisionActivation, VisionConfig};
use crate::init::{Fill, Init, POSITION, STD};
use crate::mlp::{Block, Mlp};
use crate::ops::{self, Activation, Heads, Layout, Precision, Sight};
use crate::positions;

/// Pictures to patch features.
#[derive(Module, Debug)]
pub struct Vision {
    /// Convolutions before the patch map; none with a patch stem.
    pub stem: Vec<ConvStage>,
    /// Patch stem: `[patch^2 * 3, d]`, from pixels in the order (y, x, channel). Conv stem: `[d, d]`.
    pub patch: Param<Tensor<2>>,
    /// `[d]`
    pub patch_bias: Param<Tensor<1>>,
    /// Learned positions of the patches of a square, row by row: `[p, d]`.
    pub position: Param<Tensor<2>>,
    /// `[1, d]`, put before the patches. Its position is fixed, so it needs no entry in the table.
    pub class_token: Option<Param<Tensor<2>>>,
    /// Before the first block (CLIP's).
    pub pre_norm: Option<NormWeights>,
    /// The transformer, up to the feature block.
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
        let norm = |init: &Init<'_>| NormWeights::layer(&init.at("norm"), dim, config.norm_eps);
        let blocks = (0..config.blocks()).map(|layer| {
            let (attention, mlp) =
                (init.at("blocks").at(layer).at("attention"), init.at("blocks").at(layer).at("mlp"));
            Block {
                attention: Attention::new(&attention, norm(&attention), heads, config.layers),
                mlp: Mlp::new(&mlp, norm(&mlp), config.ffn, config.activation.into(), config.layers),
            }
        });
        Self {
            patch: init.param("patch", [inputs, dim], Fill::fan_in(inputs)),
            patch_bias: init.param("patch_bias", [dim], Fill::Zeros),
            position: init.param("position", [config.grid().pow(2), dim], Fill::Normal(POSITION)),
            class_token: config.class_token.then(|| init.param("class_token", [1, dim], Fill::Normal(STD))),
            pre_norm: config.pre_norm.then(|| NormWeights::layer(&init.at("pre_norm"), dim, config.norm_eps)),
            blocks: blocks.collect(),
            norm: norm(init),
            pixels_per_patch: patch,
            stem,
        }
    }

    /// See [`crate::Mm1::read_only`].
    pub(crate) fn read_only(self, precision: Precision) -> Self {
        let blocks = self.blocks.into_iter().map(|block| block.read_only(precision)).collect();
        Self { blocks, ..self }
    }

    /// What the connector takes: features of the patches, row by row, without the class token's:
    /// `[n, h, w, 3] -> [n, p, d]`.
    ///
    /// # Panics
    /// As [`Self::grid`].
    pub fn forward(&self, pixels: Tensor<4>) -> Tensor<3> {
        self.without_class(self.tokens(pixels))
    }

    /// The blocks and the last norm on any tokens: `[n, t, d] -> [n, t, d]`. With [`Layout::full`] of all that
    /// [`Self::place`] gave, these are [`Self::forward`]'s features, behind the class token's where there is one.
    pub fn encode(&self, x: Tensor<3>, layout: &Layout) -> Tensor<3> {
        let x = self.blocks.iter().fold(x, |x, block| block.forward(x, layout, None));
        ops::norm(x, &self.norm.norm())
    }

    /// The states of all tokens, the class token's first where there is one: `[n, h, w, 3] -> [n, t, d]`.
    ///
    /// # Panics
    /// As [`Self::grid`].
    pub fn tokens(&self, pixels: Tensor<4>) -> Tensor<3> {
        let x = self.embed(pixels);
        let [n, t, _] = x.dims();
        self.encode(x, &Layout::full(n, t, Sight::All))
    }

    /// The patches' states alone: `[n, t, d] -> [n, p, d]`, of what [`Self::encode`] gave.
    pub fn without_class(&self, tokens: Tensor<3>) -> Tensor<3> {
        let (t, first) = (tokens.dims()[1], usize::from(self.class_token.is_some()));
        tokens.narrow(1, first, t - first)
    }

    /// The picture as one vector: the class token's state where there is one, else the mean of the patches':
    /// `[n, t, d] -> [n, d]`, of what [`Self::encode`] gave.
    pub fn pooled(&self, tokens: &Tensor<3>) -> Tensor<2> {
        let tokens = tokens.clone();
        let one = if self.class_token.is_some() { tokens.narrow(1, 0, 1) } else { tokens.mean_dim(1) };
        one.squeeze_dim(1)
    }

    /// What goes into the first block: `[n, h, w, 3] -> [n, t, d]` with `t` = `p`, or `p + 1` with a class token.
    ///
    /// # Panics
    /// As [`Self::grid`].
    pub fn embed(&self, pixels: Tensor<4>) -> Tensor<3> {
        let grid = self.grid(&pixels);
        self.place(self.patches(pixels), grid)
    }

    /// Rows and columns of patches in pictures `[n, h, w, 3]`.
    ///
    /// # Panics
    /// When the patch does not divide height and width.
    pub fn grid(&self, pixels: &Tensor<4>) -> [usize; 2] {
        let ([_, h, w, _], patch) = (pixels.dims(), self.pixels_per_patch);
        let whole = h.is_multiple_of(patch) && w.is_multiple_of(patch) && h * w > 0;
        assert!(whole, "pictures of {h}x{w} pixels are not whole patches of {patch}x{patch}");
        [h / patch, w / patch]
    }

    /// Stem and patch map, without positions: `[n, h, w, 3] -> [n, p, d]`, the patches row by row.
    ///
    /// # Panics
    /// As [`Self::grid`].
    pub fn patches(&self, pixels: Tensor<4>) -> Tensor<3> {
        self.grid(&pixels);
        let patches = if self.stem.is_empty() {
            ops::patches(pixels, self.pixels_per_patch)
        } else {
            let map = self.stem.iter().fold(pixels, |x, stage| stage.forward(x));
            let [n, h, w, d] = map.dims();
            map.reshape([n, h * w, d])
        };
        ops::linear(patches, &self.patch.val(), Some(&self.patch_bias.val()))
    }

    /// Adds the positions of a `grid` of h rows and w columns, puts the class token before the patches and norms all where
    /// that belongs: `[n, h w, d] -> [n, t, d]`. A grid other than the table's has interpolated positions.
    ///
    /// # Panics
    /// When the patches are not those of the grid.
    pub fn place(&self, patches: Tensor<3>, grid: [usize; 2]) -> Tensor<3> {
        let ([n, p, d], table) = (patches.dims(), self.position.val());
        assert_eq!(p, grid[0] * grid[1], "{p} patches for a grid of {}x{}", grid[0], grid[1]);
        let side = table.dims()[0].isqrt();
        let mut x = patches + positions::resample(table, [side; 2], grid).unsqueeze::<3>();
        if let Some(class) = &self.class_token {
            x = Tensor::cat(vec![class.val().unsqueeze::<3>().expand([n, 1, d]), x], 1);
        }
        match &self.pre_norm {
            None => x,
            Some(norm) => ops::norm(x, &norm.norm()),
        }
    }
}

/// As the operations take it.
impl From<VisionActivation> for Activation {
    fn from(activation: VisionActivation) -> Self {
        match activation {
            VisionActivation::Gelu => Self::Gelu,
            VisionActivation::QuickGelu => Self::QuickGelu,
            VisionActivation::GeluTanh => Self::GeluTanh,
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
