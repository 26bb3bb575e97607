//! A normalisation as the operations take it.

use burn::tensor::Tensor;

/// A normalisation over the last axis.
#[derive(Clone, Debug)]
#[expect(clippy::large_enum_variant, reason = "made for one call and passed by reference")]
pub enum Norm {
    /// `x / sqrt(mean(x^2) + eps) * gamma` (Zhang and Sennrich 2019).
    Rms {
        /// `[d]`
        gamma: Tensor<1>,
        /// Added to the mean square.
        eps: f64,
    },
    /// `(x - mean) / sqrt(var + eps) * gamma + beta`, the variance divided by `d` (Ba et al. 2016).
    Layer {
        /// `[d]`
        gamma: Tensor<1>,
        /// `[d]`
        beta: Tensor<1>,
        /// Added to the variance.
        eps: f64,
    },
}
