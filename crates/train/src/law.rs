//! The law of the best peak learning rate (section 3.3, figure 6): a linear regression in log space over
//! grids at 9M, 85M, 302M and 1.2B parameters, scored by 8-shot performance; or one of one's own (`mm1
//! law`).

use anyhow::{Result, ensure};
use schemars::JsonSchema;
use serde::{Deserialize, Serialize};

/// Decoupled weight decay of every size. The paper's λ = 0.1 η is not multiplied by the learning rate again
/// in its own framework, so it is PyTorch's `AdamW(lr=η, weight_decay=0.1)`, and the same number here.
pub(crate) const WEIGHT_DECAY: f64 = 0.1;

/// The law that `optimizer.lr = "law"` follows, `[law]`: η = exp(a ln N + b), with N the decoder's parameters
/// without embedding and head. By default the paper's; `mm1 law` measures another.
#[derive(Clone, Copy, Debug, PartialEq, Serialize, Deserialize, JsonSchema)]
#[serde(deny_unknown_fields)]
pub struct LearningRateLaw {
    /// The exponent: how the rate falls with the size.
    /// Unit: none.
    pub a: f64,
    /// The logarithm of the factor before it.
    /// Unit: none.
    pub b: f64,
}

impl Default for LearningRateLaw {
    /// The paper's.
    fn default() -> Self {
        Self { a: -0.4214, b: -0.5535 }
    }
}

impl LearningRateLaw {
    /// The peak learning rate for `parameters` = N.
    ///
    /// # Errors
    /// No parameter; numbers that give no learning rate.
    pub fn learning_rate(&self, parameters: usize) -> Result<f64> {
        ensure!(parameters > 0, "optimizer.lr = \"law\" needs at least one trained parameter: give a number");
        let rate = (self.a * (parameters as f64).ln() + self.b).exp();
        ensure!(
            rate > 0.0 && rate <= HIGHEST_RATE,
            "law: a = {} and b = {} give a learning rate of {rate} for {parameters} parameters, and it must \
             be above 0 and at most {HIGHEST_RATE}: take the lines that `mm1 law` prints, or give \
             optimizer.lr a number",
            self.a,
            self.b
        );
        Ok(rate)
    }
}

/// The highest peak learning rate. Initial weights are about 0.02: a rate of 10 is a slip of the pen.
pub(crate) const HIGHEST_RATE: f64 = 1.0;
