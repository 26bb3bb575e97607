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

/// RMSNorm of each query head and of each key head by itself.
#[derive(Clone, Debug)]
pub struct QkNorm {
    /// Scale of the queries `[c]`.
    pub q: Tensor<1>,
    /// Scale of the keys `[c]`.
    pub k: Tensor<1>,
    /// Added to the mean square of a head.
    pub eps: f64,
}
