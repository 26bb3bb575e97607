//! [`LawObservation`]: one run of a grid of sizes and learning rates.

use std::str::FromStr;

use anyhow::{Error, Result, bail, ensure};
use serde::{Deserialize, Serialize};

/// What a run is judged by.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "kebab-case")]
pub enum LawTarget {
    /// The lower, the better.
    Loss,
    /// The higher, the better: the paper took the score with 8 shots.
    Score,
}

/// What is looked for.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "kebab-case")]
pub enum LawAxis {
    /// The peak learning rate η.
    LearningRate,
    /// The weight decay c, as PyTorch's `AdamW(weight_decay = c)` has it; the paper's λ is c η, with c = 0.1.
    WeightDecay,
}

/// What came out of one run.
#[derive(Clone, Copy, Debug, PartialEq, Serialize, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct LawObservation {
    /// N: the decoder's parameters without embedding and head.
    pub parameters: u64,
    /// Peak learning rate.
    pub learning_rate: f64,
    /// Decoupled weight decay c, of which a step takes `learning_rate * weight_decay`.
    pub weight_decay: f64,
    /// Seed of the training.
    pub seed: u64,
    /// The run's loss in nats or its score; `None` of a run that diverged.
    pub result: Option<f64>,
}

impl LawAxis {
    /// The paper's a and b (section 3.3): of the learning rate its law, of the decay the same for all sizes.
    pub fn paper(self) -> [f64; 2] {
        match self {
            Self::LearningRate => [-0.4214, -0.5535],
            Self::WeightDecay => [0.0, 0.1_f64.ln()],
        }
    }

    /// Of one run.
    pub fn of(self, run: &LawObservation) -> f64 {
        match self {
            Self::LearningRate => run.learning_rate,
            Self::WeightDecay => run.weight_decay,
        }
    }

    /// The other one, which all runs of a size have to share.
    pub(super) fn other(self) -> Self {
        match self {
            Self::LearningRate => Self::WeightDecay,
            Self::WeightDecay => Self::LearningRate,
        }
    }

    /// As words.
    pub fn name(self) -> &'static str {
        match self {
            Self::LearningRate => "learning rate",
            Self::WeightDecay => "weight decay",
        }
    }
}

impl FromStr for LawAxis {
    type Err = Error;

    /// `learning-rate` or `weight-decay`.
    fn from_str(text: &str) -> Result<Self> {
        Ok(match text {
            "learning-rate" => Self::LearningRate,
            "weight-decay" => Self::WeightDecay,
            _ => bail!("write learning-rate or weight-decay"),
        })
    }
}

impl LawObservation {
    pub(super) fn check(&self) -> Result<()> {
        let Self { parameters, seed, .. } = *self;
        ensure!(parameters > 0, "a run of seed {seed} has 0 parameters");
        for axis in [LawAxis::LearningRate, LawAxis::WeightDecay] {
            let value = axis.of(self);
            // A decay of 0 has no logarithm, but may be what a grid of learning rates has.
            let least_ok = value > 0.0 || (axis == LawAxis::WeightDecay && value == 0.0);
            ensure!(
                value.is_finite() && least_ok,
                "size {parameters}, seed {seed}: the {} {value} must be above 0",
                axis.name()
            );
        }
        Ok(())
    }
}
