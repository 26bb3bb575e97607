//! The activation function of an image encoder.

use schemars::JsonSchema;
use serde::{Deserialize, Serialize};

use crate::ops::Activation;

/// The activation function of an image encoder's MLP.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq, Serialize, Deserialize, JsonSchema)]
#[serde(rename_all = "kebab-case")]
pub enum VisionActivation {
    /// `x * Phi(x)` with the exact error function (Hendrycks and Gimpel 2016): ViT's, DINOv2's.
    #[default]
    Gelu,
    /// `x * sigmoid(1.702 x)`: CLIP's.
    QuickGelu,
    /// With `tanh` instead of the error function: SigLIP's.
    GeluTanh,
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
