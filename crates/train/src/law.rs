//! The paper's law of the best peak learning rate (section 3.3, figure 6): a linear regression in log space
//! over grids at 9M, 85M, 302M and 1.2B parameters, scored by 8-shot performance.

/// Decoupled weight decay of every size. The paper's λ = 0.1 η is not multiplied by the learning rate again
/// in its own framework, so it is PyTorch's `AdamW(lr=η, weight_decay=0.1)`, and the same number here.
pub const WEIGHT_DECAY: f64 = 0.1;

/// The peak learning rate η = exp(-0.4214 ln N - 0.5535) for `parameters` = N, the decoder's parameters
/// without its embedding table and head.
///
/// # Panics
/// If `parameters` is 0: there is no such model.
pub fn learning_rate(parameters: usize) -> f64 {
    assert!(parameters > 0, "the learning-rate law needs at least one parameter");
    (-0.4214 * (parameters as f64).ln() - 0.5535).exp()
}
