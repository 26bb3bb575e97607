//! Autoregressive training of the image encoder: AIM (El-Nouby et al. 2024, "Scalable pre-training of large
//! autoregressive image models"). Patches come row by row; each says what the pixels of the next are. A
//! prefix sees all of itself, so that the encoder can later look at whole pictures.

use anyhow::{Result, ensure};
use burn::module::{Module, Param};
use burn::tensor::{Tensor, TensorData};
use rand::{Rng as _, SeedableRng};
use rand_chacha::ChaCha8Rng;
use schemars::JsonSchema;
use serde::{Deserialize, Serialize};

use crate::attention::NormWeights;
use crate::compute::Compute;
use crate::init::{Init, Initializer};
use crate::mlp::Mlp;
use crate::ops::{self, Activation, Affine, Layout, Sight};
use crate::vision::Vision;

/// The settings of objective `aim`: autoregressive prediction of patches (El-Nouby et al. 2024).
#[derive(Clone, Debug, PartialEq, Serialize, Deserialize, JsonSchema)]
#[serde(deny_unknown_fields, default)]
pub struct AimConfig {
    /// MLP blocks of the head, each on its patch alone; 12 in the paper.
    /// Unit: blocks.
    pub head_layers: usize,
    /// Width of the head's hidden layers.
    /// Unit: channels.
    #[schemars(range(min = 1))]
    pub head_ffn: usize,
}

impl Default for AimConfig {
    /// A small head beside a small encoder.
    fn default() -> Self {
        Self { head_layers: 2, head_ffn: 512 }
    }
}

impl AimConfig {
    /// Checks the numbers.
    ///
    /// # Errors
    /// One line that names the field.
    pub fn check(&self) -> Result<()> {
        ensure!(self.head_ffn > 0, "aim.head_ffn must be at least 1");
        Ok(())
    }
}

/// An image encoder and a head that paints.
#[derive(Module, Debug)]
pub struct Aim {
    /// The encoder, which later stages use.
    pub vision: Vision,
    /// Blocks on each patch (section 3.2).
    pub head: Vec<Mlp>,
    /// Before the last map.
    pub norm: NormWeights,
    /// To the pixels of a patch, in the order (y, x, channel): `[d, patch^2 * 3]`.
    pub paint: Param<Tensor<2>>,
    /// `[patch^2 * 3]`
    pub paint_bias: Param<Tensor<1>>,
    /// Pixels along a side of a patch.
    #[module(skip)]
    patch: usize,
    /// The prefixes' random numbers follow from it and the step.
    #[module(skip)]
    seed: u64,
}

impl Aim {
    /// Puts a head behind `vision`, whose patches have `patch` pixels a side. The encoder has a patch stem
    /// and no class token: convolutions would let a patch see the next one's pixels.
    pub fn new(vision: Vision, config: &AimConfig, patch: usize, seed: u64) -> Self {
        let device = vision.device();
        let init = Init::new(seed, &device);
        let dim = vision.dim();
        let (eps, pixels) = (1e-6, patch * patch * 3);
        let block = |layer: usize| {
            let init = init.at("head").at(layer);
            Mlp::new(
                &init,
                NormWeights::layer(&init.at("norm"), dim, eps),
                config.head_ffn,
                Activation::Gelu,
                config.head_layers,
            )
        };
        Self {
            head: (0..config.head_layers).map(block).collect(),
            norm: NormWeights::layer(&init.at("norm"), dim, eps),
            paint: init.param("paint", [dim, pixels], Initializer::fan_in(dim)),
            paint_bias: init.param("paint_bias", [pixels], Initializer::Zeros),
            vision,
            patch,
            seed,
        }
    }

    /// The prefix of picture number `picture` of step `step`: 1 to p - 1 of its p patches, all as likely
    /// (section 3.2).
    pub fn prefix(&self, step: u64, picture: usize, patches: usize) -> usize {
        // A stream for each picture of the step: how it is cut into micro-batches changes no prefix.
        let mut rng = ChaCha8Rng::seed_from_u64(self.seed ^ step);
        rng.set_stream(picture as u64);
        rng.random_range(1..patches)
    }

    /// The SUM over the n pictures of the mean squared error over the patches after their prefix, as `[1]`:
    /// `[n, s, s, 3]` (equation 2, with the normalised pixels of section 3.1).
    pub fn loss(&self, compute: &Compute, pixels: Tensor<4>, prefixes: &[usize]) -> Tensor<1> {
        let targets = normalised(ops::patches(pixels.clone(), self.patch));
        let x = self.vision.embed(compute, pixels);
        let [n, p, _] = x.dims();
        let layout = Layout::full(n, p, Sight::Prefix(prefixes.to_vec()));
        // Position i says what patch i + 1 is, so the last has nothing to say.
        let mut x = self.vision.encode(compute, x, &layout).narrow(1, 0, p - 1);
        for block in &self.head {
            x = block.forward(compute, x);
        }
        let paint = Affine::new(&self.paint, &self.paint_bias);
        let painted = compute.ops().norm_linear(x, &self.norm.norm(), paint);
        let errors = (painted - targets.narrow(1, 1, p - 1)).square().mean_dim(2);
        let weights = prefixes.iter().flat_map(|&prefix| {
            (1..p).map(move |patch| if patch < prefix { 0.0 } else { 1.0 / (p - prefix) as f32 })
        });
        let weights = TensorData::new(weights.collect::<Vec<f32>>(), [n, p - 1, 1]);
        let weights = Tensor::from_data(weights, &errors.device());
        (errors * weights).sum()
    }
}

/// Each patch with mean 0 and variance 1 (He et al. 2022): `[n, p, v] -> [n, p, v]`.
fn normalised(patches: Tensor<3>) -> Tensor<3> {
    let v = patches.dims()[2];
    let centred = patches.clone() - patches.mean_dim(2);
    // Unbiased, and epsilon under the root, as the code of MAE has it (He et al. 2022).
    let variance = centred.clone().square().sum_dim(2) / (v - 1) as f64;
    centred / (variance + 1e-6).sqrt()
}
