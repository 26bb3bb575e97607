//! How pixels become patch features: one linear map of each patch, or convolutions before it.

use anyhow::{Result, ensure};
use burn::module::{Module, Param};
use burn::tensor::Tensor;
use schemars::JsonSchema;
use serde::{Deserialize, Serialize};

use crate::attention::NormWeights;
use crate::compute::Compute;
use crate::init::{Init, Initializer};
use crate::memory::Load;
use crate::ops::Activation;

/// How pixels become patch features.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq, Serialize, Deserialize, JsonSchema)]
#[serde(rename_all = "kebab-case")]
pub enum Stem {
    /// One linear map of each patch (Dosovitskiy et al. 2021).
    #[default]
    Patch,
    /// log2(patch) 3x3 convolutions of stride 2 whose widths double up to `dim`, each with a channel norm and
    /// GELU, then a linear map (Xiao et al. 2021, "Early convolutions help transformers see better"). With
    /// patch 16 the widths are dim/8, dim/4, dim/2, dim. The patch must be a power of two.
    Conv,
}

impl Stem {
    /// Checks what this stem asks of the encoder's sizes.
    pub(super) fn check(self, patch: usize, dim: usize) -> Result<()> {
        if self == Self::Patch {
            return Ok(());
        }
        ensure!(
            patch.is_power_of_two() && patch > 1,
            "model.vision.patch = {patch} must be a power of two above 1 for stem = \"conv\""
        );
        ensure!(
            dim.is_multiple_of(patch / 2),
            "model.vision.dim = {dim} must be a multiple of patch / 2 = {} for stem = \"conv\", \
             whose widths double",
            patch / 2
        );
        Ok(())
    }

    /// The convolutions for this patch up to the width `dim`: none, or log2(patch) stages.
    pub(super) fn stages(self, init: &Init<'_>, [patch, dim]: [usize; 2], eps: f64) -> Vec<ConvStage> {
        let stages = self.depth(patch);
        let width = |stage: usize| if stage == 0 { 3 } else { dim >> (stages - stage) };
        (0..stages)
            .map(|stage| {
                let (init, inputs) = (init.at(stage), 9 * width(stage));
                ConvStage {
                    weight: init.param("weight", [inputs, width(stage + 1)], Initializer::fan_in(inputs)),
                    norm: NormWeights::layer(&init.at("norm"), width(stage + 1), eps),
                }
            })
            .collect()
    }

    /// Floats that the stem saves for the backward pass, for one picture `size` pixels a side.
    pub(super) fn saved(self, size: usize, [patch, dim]: [usize; 2], load: Load) -> usize {
        let stages = self.depth(patch);
        match self {
            Self::Patch => load.rounded(size.pow(2) * 3),
            // Stage i halves the side and has dim / 2^(stages - i) channels, before its norm and after it.
            Self::Conv => (1..=stages)
                .map(|i| (size >> i).pow(2) * (dim >> (stages - i)))
                .map(|values| load.rounded(values) + values)
                .sum(),
        }
    }

    /// Number of convolutions.
    fn depth(self, patch: usize) -> usize {
        match self {
            Self::Patch => 0,
            Self::Conv => patch.ilog2() as usize,
        }
    }
}

/// 3x3 convolution of stride 2 without bias, LayerNorm over channels, GELU. BatchNorm learned more of 120
/// emoji (83% in place of 66%), but a picture's features would depend on its neighbours in the batch.
#[derive(Module, Debug)]
pub struct ConvStage {
    /// `[9 * in, out]`
    pub weight: Param<Tensor<2>>,
    /// Over channels.
    pub norm: NormWeights,
}

impl ConvStage {
    /// `[n, h, w, c] -> [n, h / 2, w / 2, o]`
    pub(super) fn forward(&self, compute: &Compute, x: Tensor<4>) -> Tensor<4> {
        let ops = compute.ops();
        let x = ops.conv3x3(x, &self.weight.val(), None, 2);
        let [n, h, w, c] = x.dims();
        let x = ops.norm_activation(x.reshape([n, h * w, c]), &self.norm.norm(), Activation::Gelu);
        x.reshape([n, h, w, c])
    }
}
