//! The angles of rotary position embedding (RoPE), and how they are stretched for long contexts.

use std::f64::consts::TAU;

use anyhow::{Result, ensure};
use schemars::JsonSchema;
use serde::{Deserialize, Serialize};

use crate::ops::Rope;

/// How RoPE's angles are stretched for contexts longer than those of pre-training,
/// `[model.lm.rope_scaling]`.
#[derive(Clone, Copy, Debug, Default, PartialEq, Serialize, Deserialize, JsonSchema)]
#[serde(tag = "kind", rename_all = "kebab-case", deny_unknown_fields)]
pub enum RopeScaling {
    /// Not at all.
    #[default]
    None,
    /// All angles are divided by a number (Chen et al. 2023).
    Linear {
        /// That number.
        /// Unit: none.
        #[schemars(range(min = 1))]
        factor: f64,
    },
    /// Llama 3's: slow angles are divided by a number, fast ones stay, and those between are blended
    /// (Grattafiori et al. 2024).
    Llama3 {
        /// What slow angles are divided by.
        /// Unit: none.
        #[schemars(range(min = 1))]
        factor: f64,
        /// An angle of fewer turns than this within `original_length` is slow.
        /// Unit: turns.
        low_freq_factor: f64,
        /// An angle of more turns than this within `original_length` is fast.
        /// Unit: turns.
        high_freq_factor: f64,
        /// Context of the pre-training.
        /// Unit: positions.
        #[schemars(range(min = 1))]
        original_length: usize,
    },
}

impl RopeScaling {
    /// Checks the numbers.
    ///
    /// # Errors
    /// One line that names the field and what it must be.
    pub(crate) fn check(&self) -> Result<()> {
        let factor = match *self {
            Self::None => return Ok(()),
            Self::Linear { factor } => factor,
            Self::Llama3 { factor, low_freq_factor: low, high_freq_factor: high, original_length } => {
                ensure!(
                    low > 0.0 && high > low && high.is_finite(),
                    "model.lm.rope_scaling.low_freq_factor = {low} must be above 0 and below \
                     high_freq_factor = {high}"
                );
                ensure!(original_length > 0, "model.lm.rope_scaling.original_length must be at least 1");
                factor
            }
        };
        ensure!(
            factor >= 1.0 && factor.is_finite(),
            "model.lm.rope_scaling.factor = {factor} must be at least 1"
        );
        Ok(())
    }

    /// The table, without positions yet, for heads `width` wide (even).
    pub fn table(&self, base: f64, width: usize) -> Rope {
        Rope::of_divisors(divisors(base, width).map(|divisor| self.scaled(divisor)).collect())
    }

    /// By what it multiplies each divisor of positions, for heads `width` wide: 1 where angles stay.
    pub(crate) fn factors(&self, base: f64, width: usize) -> Vec<f64> {
        divisors(base, width).map(|divisor| self.scaled(divisor) / divisor).collect()
    }

    /// What takes the place of `divisor`, by which positions are divided.
    fn scaled(&self, divisor: f64) -> f64 {
        match *self {
            // Untouched, so that models from before there was a scaling keep every bit.
            Self::None => divisor,
            Self::Linear { factor } => divisor * factor,
            Self::Llama3 { factor, low_freq_factor: low, high_freq_factor: high, original_length } => {
                let turns = original_length as f64 / (TAU * divisor);
                let kept = ((turns - low) / (high - low)).clamp(0.0, 1.0);
                divisor / (kept + (1.0 - kept) / factor)
            }
        }
    }
}

/// By what positions are divided, for each pair of channels of a head, before any scaling.
pub(crate) fn divisors(base: f64, width: usize) -> impl Iterator<Item = f64> {
    (0..width / 2).map(move |j| base.powf((2 * j) as f64 / width as f64))
}
