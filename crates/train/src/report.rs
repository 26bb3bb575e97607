//! [`StepReport`]: what a step was. On a GPU its figures are read later than it was taken.

use std::collections::BTreeMap;

use anyhow::{Context as _, Result, ensure};
use burn::backend::Flex;
use burn::tensor::{Tensor, TensorData, Transaction};
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
    /// Without `losses` and `norm`.
    pub(crate) report: StepReport,
    pub(crate) losses: Losses,
    pub(crate) norm: Norm,
    /// Its number, from 0.
    pub(crate) number: u64,
    pub(crate) samples: String,
}

impl Taken {
    /// A step of which nothing is on a device.
    pub(crate) fn known(report: StepReport, number: u64) -> Self {
        let norm = Norm::Known(report.grad_norm);
        Self { report, losses: Losses::default(), norm, number, samples: String::new() }
    }

    /// What is to be read.
    pub(crate) fn there(&self) -> impl Iterator<Item = &Tensor<1>> {
        let sums = match &self.norm {
            Norm::Known(_) => None,
            Norm::There(squares) => Some(&squares.sums),
        };
        self.losses.there().chain(sums)
    }

    /// The report, with what was read.
    ///
    /// # Errors
    /// If a loss or gradient is not finite.
    pub(crate) fn report(self, read: &mut impl Iterator<Item = TensorData>) -> Result<StepReport> {
        let Self { mut report, losses, norm, number, samples } = self;
        let Losses { total, auxiliary, .. } = losses.read(read).with_context(|| format!("step {number}"))?;
        report.loss += total;
        report.auxiliary_losses.extend(auxiliary);
        report.grad_norm = match norm {
            Norm::Known(norm) => norm,
            Norm::There(squares) => squares
                .norm(read.next().iter().flat_map(|data| data.iter::<f64>()))
                .with_context(|| format!("step {number}, samples {samples}"))?,
        };
        Ok(report)
    }
}

/// The losses of a step: those that are known, and parts of them that are on another device.
#[derive(Debug, Default)]
pub(crate) struct Losses {
    /// The step's loss, auxiliary ones included.
    pub(crate) total: f64,
    /// The auxiliary losses among it, by their names.
    pub(crate) auxiliary: BTreeMap<String, f64>,
    /// `[1]` each.
    there: Vec<(Part, Tensor<1>)>,
}

/// What a part of the losses belongs to.
#[derive(Debug)]
pub(crate) enum Part {
    /// The step's loss: the part of the micro-batch with these samples.
    OfStep(String),
    /// The auxiliary loss of this name. The step's has it too, so that it need not be looked at by itself.
    OfAuxiliary(&'static str),
}

impl Losses {
    /// Adds the part `loss` `[1]`, which is read here from the CPU alone.
    ///
    /// # Errors
    /// If it is read, of the step, and not finite.
    pub(crate) fn add(&mut self, part: Part, loss: &Tensor<1>) -> Result<()> {
        let loss = loss.clone().inner();
        if loss.clone().try_into_primitive::<Flex>().is_ok() {
            return self.put(part, f64::from(loss.into_scalar::<f32>()));
        }
        self.there.push((part, loss));
        Ok(())
    }

    /// What is on another device.
    pub(crate) fn there(&self) -> impl Iterator<Item = &Tensor<1>> {
        self.there.iter().map(|(_, loss)| loss)
    }

    /// What of the step's loss is on another device: no auxiliary one by itself.
    pub(crate) fn of_step_there(&self) -> impl Iterator<Item = &Tensor<1>> {
        let of_step = |(part, _): &&(Part, Tensor<1>)| matches!(part, Part::OfStep(_));
        self.there.iter().filter(of_step).map(|(_, loss)| loss)
    }

    /// All of them, with what was read of [`Self::there`], in its order.
    ///
    /// # Errors
    /// If a part of the step's is not finite.
    pub(crate) fn read(mut self, read: &mut impl Iterator<Item = TensorData>) -> Result<Self> {
        for (part, _) in std::mem::take(&mut self.there) {
            let loss: f64 = read.next().context("a loss was not read")?.iter::<f64>().sum();
            self.put(part, loss)?;
        }
        Ok(self)
    }

    /// The same, read here and now.
    ///
    /// # Errors
    /// As [`Self::read`], or that of the device.
    pub(crate) fn read_now(self) -> Result<Self> {
        let read = read(self.there().cloned())?;
        self.read(&mut read.into_iter())
    }

    fn put(&mut self, part: Part, loss: f64) -> Result<()> {
        match part {
            Part::OfStep(samples) => {
                ensure!(loss.is_finite(), "the loss is {loss} on samples {samples}");
                self.total += loss;
            }
            Part::OfAuxiliary(name) => *self.auxiliary.entry(name.to_owned()).or_default() += loss,
        }
        Ok(())
    }
}

/// `tensors` from their device, all in one transfer.
///
/// # Errors
/// The device's own.
pub(crate) fn read(tensors: impl Iterator<Item = Tensor<1>>) -> Result<Vec<TensorData>> {
    let mut tensors = tensors.peekable();
    if tensors.peek().is_none() {
        return Ok(Vec::new());
    }
    Ok(tensors.fold(Transaction::default(), Transaction::register).try_execute()?)
}
