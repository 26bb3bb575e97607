//! [`Comparison`]: a loss that compares the examples of a whole step, such as a contrast, in two passes over
//! its micro-batches (GradCache, Gao et al. 2021).
//!
//! All are embedded, the loss gives the gradient of each embedding, and each micro-batch is embedded again
//! for the backward pass from there. Memory is bound by a micro-batch, the result is that of one batch.
//! Several ranks give each other their embeddings between the passes, and each computes the whole loss.
// Rejected: each rank computes its rows of the similarities alone (OpenCLIP's `local_loss`). It saves ranks
// times the work of a matrix that is small beside the towers, but its sums depend on the number of ranks.

use anyhow::{Context as _, Result};
use burn::module::Module;
use burn::tensor::{Device, Tensor, TensorData};
use mm1_model::Compute;

use crate::exchange::Exchange;
use crate::step::{Figures, MicroBatch, Step, StepResult};

/// A loss of the features of all examples of a step.
pub trait Comparison<B> {
    /// What the loss sees of the examples of a micro-batch: `[n, f]`.
    ///
    /// # Errors
    /// If the model refuses the input.
    fn features(&self, compute: &Compute, batch: &B) -> Result<Tensor<2>>;

    /// The SUM of the losses of all examples, whose features are `[N, f]`: `[1]`.
    fn compare(&self, features: Tensor<2>) -> Tensor<1>;

    /// What else it measures, by its name in `metrics.jsonl`.
    fn figures(&self) -> Figures {
        Figures::default()
    }
}

/// What [`crate::Objective::backward`] finds of a comparison, in two passes.
///
/// # Errors
/// As [`Comparison::features`]; if the loss is not finite: with the samples' ids.
pub fn two_passes<M: Module + Comparison<B>, B: MicroBatch>(
    compute: &Compute,
    model: &M,
    step: &Step<'_, B>,
) -> Result<StepResult> {
    // Without its graph, each micro-batch is only a few vectors.
    let features = step.batches.iter().map(|batch| Ok(model.features(compute, batch)?.inner()));
    let features: Vec<Tensor<2>> = features.collect::<Result<_>>()?;
    let samples = step.batches.iter().flat_map(|batch| batch.samples());
    let (mut found, gradient) = compare(compute, model, model, (features, step.weight), samples)?;
    let mut first = 0;
    for batch in step.batches {
        let features = model.features(compute, batch)?;
        let [n, _] = features.dims();
        add_gradients(compute, model, features, gradient.clone().narrow(0, first, n), &mut found);
        first += n;
    }
    Ok(found)
}

/// The loss of a step of the weight `weight` from the features of its micro-batches, with the gradients of
/// what sees all examples at once; and its gradient by the features, `[N, f]`.
fn compare<'a, M: Module, B>(
    compute: &Compute,
    model: &M,
    comparison: &dyn Comparison<B>,
    (features, weight): (Vec<Tensor<2>>, f64),
    samples: impl IntoIterator<Item = &'a str>,
) -> Result<(StepResult, Tensor<2>)> {
    let all = Tensor::cat(features, 0).autodiff().require_grad();
    let loss = comparison.compare(all.clone()) / weight;
    let mut found = StepResult { figures: comparison.figures(), ..StepResult::default() };
    found.add_loss(&loss, samples)?;
    let grads = found.add_gradients(compute, model, &loss);
    let gradient = all.grad(&grads).context("features without a gradient")?;
    Ok((found, gradient))
}

/// Adds the gradients of a micro-batch by that of its `features`, `[n, f]` each.
fn add_gradients<M: Module>(
    compute: &Compute,
    model: &M,
    features: Tensor<2>,
    gradient: Tensor<2>,
    found: &mut StepResult,
) {
    let value = (features * gradient.autodiff()).sum();
    found.add_gradients(compute, model, &value);
}

/// The comparison of a step that several ranks share.
pub(crate) struct SharedComparison<'a, B> {
    comparison: &'a dyn Comparison<B>,
    /// The loss and what is of no micro-batch; it goes with the first one of the step.
    found: StepResult,
    /// `[N, f]`
    gradient: Tensor<2>,
    /// Where the examples of each micro-batch of the step begin, and their end.
    bounds: Vec<usize>,
}

impl<'a, B: MicroBatch> SharedComparison<'a, B> {
    /// Of a step of the weight `weight` in which this rank has `batches`; `None` has nothing to learn.
    pub(crate) fn new<M: Module>(
        exchange: &dyn Exchange,
        compute: &Compute,
        (model, comparison): (&M, &'a dyn Comparison<B>),
        batches: &[Option<&B>],
        weight: f64,
    ) -> Result<Self> {
        let device = model.devices().into_iter().next().context("the model has no parameters")?;
        let device = device.without_autodiff();
        let (mut features, mut bounds) = (Vec::new(), vec![0]);
        for batch in batches {
            let own = match batch {
                Some(batch) => bytes_of(comparison.features(compute, batch)?.inner())?,
                None => Vec::new(),
            };
            for given in exchange.gather(&own)? {
                let of_batch = from_bytes(&given, &device)?;
                let n = of_batch.as_ref().map_or(0, |features| features.dims()[0]);
                bounds.push(bounds.last().copied().unwrap_or_default() + n);
                features.extend(of_batch);
            }
        }
        let samples = batches.iter().flatten().flat_map(|batch| batch.samples());
        let (found, gradient) = compare(compute, model, comparison, (features, weight), samples)?;
        Ok(Self { comparison, found, gradient, bounds })
    }

    /// What it measures.
    pub(crate) fn figures(&self) -> Figures {
        self.found.figures.clone()
    }

    /// What is found of micro-batch `number` of the step.
    pub(crate) fn micro_batch<M: Module>(
        &mut self,
        compute: &Compute,
        model: &M,
        batch: &B,
        number: usize,
    ) -> Result<StepResult> {
        let mut found = if number == 0 { std::mem::take(&mut self.found) } else { StepResult::default() };
        let (first, n) = (self.bounds[number], self.bounds[number + 1] - self.bounds[number]);
        if n > 0 {
            let features = self.comparison.features(compute, batch)?;
            add_gradients(compute, model, features, self.gradient.clone().narrow(0, first, n), &mut found);
        }
        Ok(found)
    }
}

/// Features `[n, f]` as ranks send them: f and the values.
fn bytes_of(features: Tensor<2>) -> Result<Vec<u8>> {
    let [_, width] = features.dims();
    let values: Vec<f32> = features.into_data().try_to_vec().context("features in f32")?;
    let values = values.into_iter().flat_map(f32::to_le_bytes);
    Ok((width as u64).to_le_bytes().into_iter().chain(values).collect())
}

/// What [`bytes_of`] was given; nothing of no bytes.
fn from_bytes(bytes: &[u8], device: &Device) -> Result<Option<Tensor<2>>> {
    let Some((width, values)) = bytes.split_first_chunk() else { return Ok(None) };
    let width = usize::try_from(u64::from_le_bytes(*width))?;
    let values: Vec<f32> = values.as_chunks().0.iter().map(|&value| f32::from_le_bytes(value)).collect();
    let shape = [values.len() / width.max(1), width];
    Ok(Some(Tensor::from_data(TensorData::new(values, shape), device)))
}
