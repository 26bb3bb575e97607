//! The image encoder: a vision transformer (Dosovitskiy et al. 2021) with a patch or a convolutional stem.
//! Its settings, its forward pass and its memory formula; those of the stem are in `stem`.

mod activation;
mod stem;

use std::path::PathBuf;

use anyhow::{Result, ensure};
use burn::module::{Module, Param};
use burn::tensor::{Device, Tensor};
use schemars::{JsonSchema, Schema};
use serde::{Deserialize, Serialize};
use serde_json::json;

pub use self::activation::VisionActivation;
pub use self::stem::{ConvStage, Stem};
use crate::attention::{Attention, NormWeights};
use crate::compute::Compute;
use crate::init::{Init, Initializer, POSITION, STD};
use crate::memory::{Activations, BlockStack, Load, Training};
use crate::mlp::{Block, Mlp};
use crate::ops::{self, Affine, Heads, Layout, Operations, Sight, WeightFormat};
use crate::positions;

/// The image encoder, `[model.vision]`: a vision transformer with pre-norm blocks (LayerNorm, GELU).
#[derive(Clone, Debug, PartialEq, Serialize, Deserialize, JsonSchema)]
#[serde(deny_unknown_fields)]
#[schemars(transform = required_without_origin)]
pub struct VisionConfig {
    /// Where the initial weights come from: a run folder, a Hugging Face folder of CLIP, SigLIP, DINOv2
    /// or of a whole model such as SmolVLM, or an ONNX file. By default they are drawn from the seed. The
    /// origin settles the other fields, which may then be left out.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub from: Option<PathBuf>,
    /// Side of the square image that the encoder takes.
    /// Unit: pixels.
    #[schemars(range(min = 1))]
    pub image_size: usize,
    /// Side of a patch; divides `image_size`.
    /// Unit: pixels.
    #[schemars(range(min = 1))]
    pub patch: usize,
    /// How pixels become patch features.
    #[serde(default)]
    pub stem: Stem,
    /// Width of the residual stream.
    /// Unit: channels.
    #[schemars(range(min = 1))]
    pub dim: usize,
    /// Transformer blocks.
    /// Unit: blocks.
    pub layers: usize,
    /// Attention heads; divides `dim`.
    /// Unit: heads.
    #[schemars(range(min = 1))]
    pub heads: usize,
    /// Width of the MLP's hidden layer.
    /// Unit: channels.
    #[schemars(range(min = 1))]
    pub ffn: usize,
    /// Whether a learned class token is put before the patches. The connector never sees it.
    #[serde(default)]
    pub class_token: bool,
    /// LayerNorm's epsilon.
    /// Unit: none.
    #[serde(default = "default_norm_eps")]
    pub norm_eps: f64,
    /// The MLP's activation function.
    #[serde(default, skip_serializing_if = "is_default")]
    #[schemars(extend("default" = VisionActivation::default()))]
    pub activation: VisionActivation,
    /// Whether a LayerNorm comes after positions and class token, before the first block (CLIP's).
    #[serde(default, skip_serializing_if = "is_default")]
    #[schemars(extend("default" = false))]
    pub pre_norm: bool,
    /// The block whose output, after the last norm, is the features, counted from 1; by default the last of
    /// `layers`. The blocks after it are neither made nor run, so they have no weights either.
    /// Unit: number of a block.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub feature_block: Option<usize>,
    /// Whether a LayerNorm comes after the last block. LLaVA takes features as the block leaves them
    /// (`export = "llava"`); the norm of an encoder that is there already is then left out.
    #[serde(default = "default_last_norm", skip_serializing_if = "is_default_last_norm")]
    #[schemars(extend("default" = true))]
    pub last_norm: bool,
}

/// The sizes that every image encoder has: see [`VisionConfig`].
#[derive(Clone, Copy, Debug)]
pub struct VisionSizes {
    /// Side of the square picture in pixels.
    pub image_size: usize,
    /// Side of a patch in pixels.
    pub patch: usize,
    /// Width.
    pub dim: usize,
    /// Blocks.
    pub layers: usize,
    /// Attention heads.
    pub heads: usize,
    /// Width of the MLP's hidden layer.
    pub ffn: usize,
}

/// The schema of settings with a `from`: what must be written is required only where no origin settles it.
pub(crate) fn required_without_origin(schema: &mut Schema) {
    if let Some(required) = schema.remove("required") {
        schema.insert("anyOf".to_owned(), json!([{ "required": ["from"] }, { "required": required }]));
    }
}

/// A field that stands for nothing is not written: a plan from before there was such a field stays the same.
pub(crate) fn is_default<T: Default + PartialEq>(value: &T) -> bool {
    *value == T::default()
}
fn default_last_norm() -> bool {
    true
}
#[expect(clippy::trivially_copy_pass_by_ref, reason = "serde hands over a reference")]
fn is_default_last_norm(last_norm: &bool) -> bool {
    *last_norm == default_last_norm()
}
fn default_norm_eps() -> f64 {
    1e-6
}

impl VisionConfig {
    /// A plain vision transformer: what a recipe with these sizes alone means.
    pub fn plain(sizes: VisionSizes) -> Self {
        let VisionSizes { image_size, patch, dim, layers, heads, ffn } = sizes;
        Self {
            from: None,
            image_size,
            patch,
            stem: Stem::default(),
            dim,
            layers,
            heads,
            ffn,
            class_token: false,
            norm_eps: default_norm_eps(),
            activation: VisionActivation::default(),
            pre_norm: false,
            feature_block: None,
            last_norm: default_last_norm(),
        }
    }

    /// Checks every relation between the sizes.
    ///
    /// # Errors
    /// One line that names the field and what it must be.
    pub fn check(&self) -> Result<()> {
        for (field, value) in [
            ("image_size", self.image_size),
            ("patch", self.patch),
            ("dim", self.dim),
            ("heads", self.heads),
            ("ffn", self.ffn),
        ] {
            ensure!(value > 0, "model.vision.{field} must be at least 1");
        }
        for (field, value, of, whole) in
            [("patch", self.patch, "image_size", self.image_size), ("heads", self.heads, "dim", self.dim)]
        {
            ensure!(whole.is_multiple_of(value), "model.vision.{field} = {value} must divide {of} = {whole}");
        }
        if let Some(block) = self.feature_block {
            ensure!(
                block > 0,
                "model.vision.feature_block = 0 must be at least 1; leave it out to take the last block"
            );
            ensure!(
                block <= self.layers,
                "model.vision.feature_block = {block} must be at most layers = {}",
                self.layers
            );
        }
        let eps = self.norm_eps;
        ensure!(eps >= 0.0 && eps.is_finite(), "model.vision.norm_eps = {eps} must not be below 0");
        self.stem.check(self.patch, self.dim)
    }

    /// Patches along a side.
    pub fn grid(&self) -> usize {
        self.image_size / self.patch
    }

    /// Blocks that there are: those up to the feature block.
    pub fn blocks(&self) -> usize {
        self.feature_block.unwrap_or(self.layers)
    }

    /// Activations of a training step.
    pub(crate) fn activations(&self, load: Load, training: Training<'_>) -> Activations {
        let patches = self.grid().pow(2) + usize::from(self.class_token);
        // The stem's first gradient needs them.
        let pixels = self.image_size.pow(2) * 3;
        let blocks = BlockStack {
            layers: self.blocks(),
            dim: self.dim,
            attended: self.dim,
            qkv: 3 * self.dim,
            qk_norm: false,
            hidden: self.ffn,
            activated: self.ffn,
        };
        let stem = self.stem.saved(self.image_size, [self.patch, self.dim], load);
        let pre_norm = load.rounded(patches * usize::from(self.pre_norm) * self.dim);
        let Activations { saved, temporary } = blocks.activations(load.images * patches, load, training);
        Activations { saved: saved + load.images * (pixels + stem + pre_norm), temporary }
    }
}

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
    /// After the last block, where the encoder ends in one.
    pub norm: Option<NormWeights>,
    /// Along a side; with convolutions two to the power of their number.
    #[module(skip)]
    pixels_per_patch: usize,
}

impl Vision {
    /// `config` must have passed its check.
    pub fn new(init: &Init<'_>, config: &VisionConfig) -> Self {
        let (dim, patch) = (config.dim, config.patch);
        let heads = Heads { heads: config.heads, kv_heads: config.heads, width: dim / config.heads };
        let stem = config.stem.stages(&init.at("stem"), [patch, dim], config.norm_eps);
        let inputs = if stem.is_empty() { patch * patch * 3 } else { dim };
        let norm = |init: &Init<'_>| NormWeights::layer(&init.at("norm"), dim, config.norm_eps);
        // Blocks behind the feature block are not made, but the depth that scales the others' values is the
        // whole one: `feature_block` changes no initial value.
        let blocks = (0..config.blocks()).map(|layer| {
            let (attention, mlp) =
                (init.at("blocks").at(layer).at("attention"), init.at("blocks").at(layer).at("mlp"));
            Block {
                attention: Attention::new(&attention, norm(&attention), heads, config.layers),
                mlp: Mlp::new(&mlp, norm(&mlp), config.ffn, config.activation.into(), config.layers),
            }
        });
        Self {
            patch: init.param("patch", [inputs, dim], Initializer::fan_in(inputs)),
            patch_bias: init.param("patch_bias", [dim], Initializer::Zeros),
            position: init.param("position", [config.grid().pow(2), dim], Initializer::Normal(POSITION)),
            class_token: config
                .class_token
                .then(|| init.param("class_token", [1, dim], Initializer::Normal(STD))),
            pre_norm: config.pre_norm.then(|| NormWeights::layer(&init.at("pre_norm"), dim, config.norm_eps)),
            blocks: blocks.collect(),
            norm: config.last_norm.then(|| norm(init)),
            pixels_per_patch: patch,
            stem,
        }
    }

    /// The same encoder for pictures of `size` pixels a side, whole patches: its table of positions is
    /// interpolated to their grid, and is trained on from there.
    pub fn with_image_size(self, size: usize) -> Self {
        Self { position: positions::for_side(self.position, size / self.pixels_per_patch), ..self }
    }

    /// Width of its features.
    pub fn dim(&self) -> usize {
        self.patch_bias.lazy_shape().num_elements()
    }

    /// Where its parameters are.
    pub fn device(&self) -> Device {
        self.patch.lazy_device()
    }

    /// See [`crate::Mm1::read_only`].
    pub(crate) fn read_only(self, ops: &dyn Operations) -> Self {
        let packed = |block: Block| block.read_only(ops, WeightFormat::Precision);
        Self { blocks: self.blocks.into_iter().map(packed).collect(), ..self }
    }

    /// What the connector takes: features of the patches, row by row, without the class token's:
    /// `[n, h, w, 3] -> [n, p, d]`.
    ///
    /// # Panics
    /// As [`Self::grid`].
    pub fn forward(&self, compute: &Compute, pixels: Tensor<4>) -> Tensor<3> {
        self.without_class(self.tokens(compute, pixels))
    }

    /// The blocks and the last norm on any tokens: `[n, t, d] -> [n, t, d]`. With [`Layout::full`] of all
    /// that [`Self::place`] gave, these are [`Self::forward`]'s features, behind the class token's where
    /// there is one.
    pub fn encode(&self, compute: &Compute, x: Tensor<3>, layout: &Layout) -> Tensor<3> {
        let x = self.blocks.iter().fold(x, |x, block| block.forward(compute, x, layout, None));
        match &self.norm {
            None => x,
            Some(norm) => compute.ops().norm(x, &norm.norm()),
        }
    }

    /// The states of all tokens, the class token's first where there is one: `[n, h, w, 3] -> [n, t, d]`.
    ///
    /// # Panics
    /// As [`Self::grid`].
    pub fn tokens(&self, compute: &Compute, pixels: Tensor<4>) -> Tensor<3> {
        let x = self.embed(compute, pixels);
        let [n, t, _] = x.dims();
        self.encode(compute, x, &Layout::full(n, t, Sight::All))
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

    /// What goes into the first block: `[n, h, w, 3] -> [n, t, d]` with `t` = `p`, or `p + 1` with a class
    /// token.
    ///
    /// # Panics
    /// As [`Self::grid`].
    pub fn embed(&self, compute: &Compute, pixels: Tensor<4>) -> Tensor<3> {
        let grid = self.grid(&pixels);
        self.place(compute, self.patches(compute, pixels), grid)
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
    pub fn patches(&self, compute: &Compute, pixels: Tensor<4>) -> Tensor<3> {
        self.grid(&pixels);
        let patches = if self.stem.is_empty() {
            ops::patches(pixels, self.pixels_per_patch)
        } else {
            let map = self.stem.iter().fold(pixels, |x, stage| stage.forward(compute, x));
            let [n, h, w, d] = map.dims();
            map.reshape([n, h * w, d])
        };
        compute.ops().linear(patches, Affine::new(&self.patch, &self.patch_bias))
    }

    /// Adds the positions of a `grid` of h rows and w columns, puts the class token before the patches and
    /// norms all where that belongs: `[n, h w, d] -> [n, t, d]`. A grid other than the table's has
    /// interpolated positions.
    ///
    /// # Panics
    /// When the patches are not those of the grid.
    pub fn place(&self, compute: &Compute, patches: Tensor<3>, grid: [usize; 2]) -> Tensor<3> {
        let ([n, p, d], table) = (patches.dims(), self.position.val());
        assert_eq!(p, grid[0] * grid[1], "{p} patches for a grid of {}x{}", grid[0], grid[1]);
        let side = table.dims()[0].isqrt();
        // The class token comes last: it has no position, and another grid leaves it alone.
        let mut x = patches + positions::resample(table, [side; 2], grid).unsqueeze::<3>();
        if let Some(class) = &self.class_token {
            x = Tensor::cat(vec![class.val().unsqueeze::<3>().expand([n, 1, d]), x], 1);
        }
        match &self.pre_norm {
            None => x,
            Some(norm) => compute.ops().norm(x, &norm.norm()),
        }
    }
}
