//! [`StepResult`]: what an objective finds in a step.

use std::collections::BTreeMap;

use anyhow::Result;
use burn::module::Module;
use burn::tensor::Tensor;
use mm1_model::Compute;

use crate::micro_batch::{MicroBatch, Step};
use crate::parameters::{self, Gradients};
use crate::report::{Figures, Losses, Part};

/// What an objective minimises of a micro-batch: SUMS over its examples, each `[1]`.
#[derive(Debug)]
pub struct Loss {
    /// Its own.
    pub main: Tensor<1>,
    /// What is added to it, such as the balance of a mixture of experts, by its name in `metrics.jsonl`.
    pub auxiliary: Vec<(&'static str, Tensor<1>)>,
}

/// Without auxiliary losses.
impl From<Tensor<1>> for Loss {
    fn from(main: Tensor<1>) -> Self {
        Self { main, auxiliary: Vec::new() }
    }
}

/// What an objective finds in a step.
#[derive(Debug, Default)]
pub struct StepResult {
    /// Σ weight · loss / Σ weight, and the auxiliary losses among it, each divided by Σ weight.
    pub(crate) losses: Losses,
    /// The gradients of the loss.
    pub grads: Gradients,
    /// What else it measures, by its name in `metrics.jsonl`.
    pub figures: Figures,
    /// New values of parameters that have no gradient, such as running means, by path.
    pub buffers: BTreeMap<String, Tensor<1>>,
}

impl StepResult {
    /// The mean of the loss that `loss` gives as a SUM over the examples of each micro-batch, and its
    /// gradients.
    ///
    /// # Errors
    /// As `loss`; if a loss is not finite.
    pub fn of_sums<M: Module, B: MicroBatch, L: Into<Loss>>(
        compute: &Compute,
        model: &M,
        step: &Step<'_, B>,
        mut loss: impl FnMut(&B) -> Result<L>,
    ) -> Result<Self> {
        let mut sum = Self::default();
        for batch in step.batches {
            let Loss { main, auxiliary } = loss(batch)?.into();
            let mut total = main / step.weight;
            for (name, loss) in auxiliary {
                let loss = loss / step.weight;
                sum.losses.add(Part::OfAuxiliary(name), &loss)?;
                total = total + loss;
            }
            sum.add_loss(&total, batch.samples())?;
            sum.add_gradients(compute, model, &total);
        }
        Ok(sum)
    }

    /// Adds a part of the loss, that of `samples`: `[1]`. On another device than the CPU it is read with the
    /// step's report, and its error comes then.
    ///
    /// # Errors
    /// If it is not finite.
    pub fn add_loss<'a>(
        &mut self,
        loss: &Tensor<1>,
        samples: impl IntoIterator<Item = &'a str>,
    ) -> Result<()> {
        let samples = samples.into_iter().collect::<Vec<_>>().join(", ");
        self.losses.add(Part::OfStep(samples), loss)
    }

    /// Adds the gradients of a part of the loss `[1]` by the parameters of `model`. Gives those by other
    /// tensors.
    pub fn add_gradients<M: Module>(
        &mut self,
        compute: &Compute,
        model: &M,
        loss: &Tensor<1>,
    ) -> burn::tensor::Gradients {
        parameters::add_gradients(compute, model, loss, &mut self.grads)
    }
}
