//! [`StepReport`]: what a step was. On a GPU its figures are read later than it was taken.

use std::collections::BTreeMap;

use anyhow::{Context as _, Result, ensure};
use burn::tensor::{Tensor, TensorData};
use serde::Serialize;

use crate::norm::Norm;

/// Figures of a step by their names.
pub type Figures = BTreeMap<&'static str, f64>;

/// What one step was.
#[derive(Clone, Debug, PartialEq, Serialize)]
pub struct StepReport {
    /// Mean loss over the whole step: Σ weight · loss / Σ weight.
    pub loss: f64,
    /// Norm of all gradients together, before clipping.
    pub grad_norm: f64,
    /// Σ weight: of a language model, the learned tokens.
    pub weight: f64,
    /// Positions of text and pictures.
    pub tokens: usize,
    /// Pictures.
    pub images: usize,
    /// Parts of the loss beside the objective's own.
    #[serde(flatten)]
    pub auxiliary_losses: BTreeMap<String, f64>,
    /// What else the objective measures.
    #[serde(flatten)]
    pub figures: Figures,
}

/// A step that was taken. What of its figures is on a device is read later.
#[derive(Debug)]
pub(crate) struct Taken {
    /// Without what is on a device.
    pub(crate) report: StepReport,
    pub(crate) losses: Vec<LossThere>,
    pub(crate) norm: Norm,
    /// Its number, from 0.
    pub(crate) number: u64,
    pub(crate) samples: String,
}

impl Taken {
    /// A step of which nothing is on a device.
    pub(crate) fn known(report: StepReport, number: u64) -> Self {
        let norm = Norm::Known(report.grad_norm);
        Self { report, losses: Vec::new(), norm, number, samples: String::new() }
    }

    /// What is to be read.
    pub(crate) fn there(&self) -> impl Iterator<Item = &Tensor<1>> {
        let sums = match &self.norm {
            Norm::Known(_) => None,
            Norm::There(squares) => Some(&squares.sums),
        };
        self.losses.iter().map(|part| &part.loss).chain(sums)
    }

    /// The report, with what was read.
    ///
    /// # Errors
    /// If a loss or gradient is not finite.
    pub(crate) fn report(self, read: &mut impl Iterator<Item = TensorData>) -> Result<StepReport> {
        let mut report = self.report;
        let mut next = || read.next().map(|data| data.iter::<f64>().collect::<Vec<_>>()).unwrap_or_default();
        for LossThere { samples, .. } in self.losses {
            let loss = next().into_iter().sum();
            report.loss += finite(loss, || samples).with_context(|| format!("step {}", self.number))?;
        }
        report.grad_norm = match self.norm {
            Norm::Known(norm) => norm,
            Norm::There(squares) => squares
                .norm(next())
                .with_context(|| format!("step {}, samples {}", self.number, self.samples))?,
        };
        Ok(report)
    }
}

/// A part of the loss on another device: `[1]`.
#[derive(Debug)]
pub(crate) struct LossThere {
    pub(crate) loss: Tensor<1>,
    pub(crate) samples: String,
}

/// Refuses a part of the loss, that of `samples`, if it is not finite.
pub(crate) fn finite(loss: f64, samples: impl FnOnce() -> String) -> Result<f64> {
    ensure!(loss.is_finite(), "the loss is {loss} on samples {}", samples());
    Ok(loss)
}
