//! [`WholeStep`]: a loss that depends on all examples of a step, such as a contrast, in two passes over its
//! micro-batches (as GradCache, Gao et al. 2021).
//!
//! First each micro-batch tells what the others must know of it: embeddings, or a teacher's classes. From all
//! of it follows what each needs, and each learns from there. Memory is bound by a micro-batch, the result is
//! that of one batch. Several ranks give each other what is told, and each computes what follows from it.
// Rejected: each rank computes its rows of a contrast's similarities alone (OpenCLIP's `local_loss`). It
// saves ranks times the work of a matrix that is small beside the towers, but its sums depend on the number
// of ranks.

use anyhow::{Context as _, Result};
use burn::tensor::{Device, Tensor, TensorData};
use mm1_model::Compute;

use crate::exchange::Exchange;
use crate::step::{MicroBatch, Preceding, Step, StepResult};

/// Tensors `[n, f]`; `None` where one has no rows.
pub type Rows = Vec<Option<Tensor<2>>>;

/// An objective whose micro-batches must know of each other before they learn.
pub trait WholeStep<B> {
    /// What all others must know of a micro-batch: always as many tensors, without a graph.
    ///
    /// # Errors
    /// If the model refuses the input.
    fn tell(&self, compute: &Compute, batch: &PlacedBatch<'_, B>) -> Result<Rows>;

    /// What follows from what all micro-batches have told.
    ///
    /// # Errors
    /// A loss that is not finite; a training that can't come back.
    fn settle(&self, compute: &Compute, all: ToldStep<'_>) -> Result<SettledStep>;

    /// Adds loss and gradients of a micro-batch to `found`, with its rows of what was `given`.
    ///
    /// # Errors
    /// As [`Self::tell`]; a loss that is not finite.
    fn learn(
        &self,
        compute: &Compute,
        batch: &PlacedBatch<'_, B>,
        given: Rows,
        found: &mut StepResult,
    ) -> Result<()>;
}

/// A micro-batch and where it stands in its step.
#[derive(Clone, Copy, Debug)]
pub struct PlacedBatch<'a, B> {
    /// It has something to learn.
    pub batch: &'a B,
    /// The sum of the weights of the step.
    pub weight: f64,
    /// Steps done before this one.
    pub number: u64,
    /// What precedes it in the step.
    pub preceding: Preceding,
}

/// What all micro-batches of a step have told.
#[derive(Debug)]
pub struct ToldStep<'a> {
    /// In the order of the step.
    pub told: Rows,
    /// The sum of the weights of the step.
    pub weight: f64,
    /// Steps done before this one.
    pub number: u64,
    /// The ids of the samples at hand, of several ranks this one's.
    pub samples: Vec<&'a str>,
}

/// What follows from it.
#[derive(Debug)]
pub struct SettledStep {
    /// Loss and gradients of no micro-batch, figures and buffers.
    pub found: StepResult,
    /// What each micro-batch needs: as many tensors as were told, with the same rows or none.
    pub given: Rows,
}

/// What [`crate::Objective::backward`] finds of such a loss, in two passes.
///
/// # Errors
/// As those of [`WholeStep`].
pub fn two_passes<W: WholeStep<B>, B: MicroBatch>(
    compute: &Compute,
    model: &W,
    step: &Step<'_, B>,
) -> Result<StepResult> {
    let placed = step.placed();
    let mut told = Told::default();
    for batch in &placed {
        told.push(model.tell(compute, batch)?);
    }
    let samples = step.batches.iter().flat_map(|batch| batch.samples()).collect();
    let all = ToldStep { told: told.take(), weight: step.weight, number: step.number, samples };
    let SettledStep { mut found, given } = model.settle(compute, all)?;
    for (number, batch) in placed.iter().enumerate() {
        model.learn(compute, batch, told.part(&given, number), &mut found)?;
    }
    Ok(found)
}

/// What micro-batches have told, and where the rows of each are.
#[derive(Default)]
struct Told {
    /// Of each tensor its parts.
    tensors: Vec<Vec<Tensor<2>>>,
    /// Of each micro-batch the rows in each tensor.
    rows: Vec<Vec<usize>>,
}

impl Told {
    fn push(&mut self, told: Rows) {
        self.rows.push(told.iter().map(|tensor| tensor.as_ref().map_or(0, |t| t.dims()[0])).collect());
        self.tensors.resize_with(self.tensors.len().max(told.len()), Vec::new);
        self.tensors.iter_mut().zip(told).for_each(|(tensors, told)| tensors.extend(told));
    }

    /// All parts together.
    fn take(&mut self) -> Rows {
        let parts = std::mem::take(&mut self.tensors).into_iter();
        parts.map(|parts| (!parts.is_empty()).then(|| Tensor::cat(parts, 0))).collect()
    }

    /// The rows of micro-batch `number` in `given`.
    fn part(&self, given: &Rows, number: usize) -> Rows {
        let rows = |batch: &Vec<usize>, tensor: usize| batch.get(tensor).copied().unwrap_or(0);
        let part = |(tensor, given): (usize, &Option<Tensor<2>>)| {
            let first = self.rows[..number].iter().map(|batch| rows(batch, tensor)).sum();
            let count = rows(&self.rows[number], tensor);
            given.as_ref().filter(|_| count > 0).map(|given| given.clone().narrow(0, first, count))
        };
        given.iter().enumerate().map(part).collect()
    }
}

/// Such a step that several ranks share.
pub(crate) struct SharedStep<'a, B> {
    whole: &'a dyn WholeStep<B>,
    told: Told,
    given: Rows,
    /// Loss and gradients of no micro-batch; they go with the first one of the step.
    pub(crate) found: StepResult,
}

impl<'a, B: MicroBatch> SharedStep<'a, B> {
    /// The step `number` of the weight `weight` in which this rank has `batches`, whose tensors are on
    /// `device`; `None` has nothing to learn.
    pub(crate) fn new(
        exchange: &dyn Exchange,
        (compute, device): (&Compute, &Device),
        whole: &'a dyn WholeStep<B>,
        batches: &[Option<PlacedBatch<'_, B>>],
        (weight, number): (f64, u64),
    ) -> Result<Self> {
        let mut told = Told::default();
        for batch in batches {
            let own = match batch {
                Some(batch) => bytes_of(whole.tell(compute, batch)?)?,
                None => Vec::new(),
            };
            for given in exchange.gather(&own)? {
                told.push(from_bytes(&given, device)?);
            }
        }
        let samples = batches.iter().flatten().flat_map(|placed| placed.batch.samples()).collect();
        let all = ToldStep { told: told.take(), weight, number, samples };
        let SettledStep { found, given } = whole.settle(compute, all)?;
        Ok(Self { whole, told, given, found })
    }

    /// What is found of micro-batch `number` of the step.
    pub(crate) fn micro_batch(
        &mut self,
        compute: &Compute,
        batch: Option<&PlacedBatch<'_, B>>,
        number: usize,
    ) -> Result<StepResult> {
        let mut found = if number == 0 { std::mem::take(&mut self.found) } else { StepResult::default() };
        if let Some(batch) = batch {
            self.whole.learn(compute, batch, self.told.part(&self.given, number), &mut found)?;
        }
        Ok(found)
    }
}

/// Tensors as ranks send them: of each n, f and the values.
fn bytes_of(told: Rows) -> Result<Vec<u8>> {
    let mut bytes = Vec::new();
    for tensor in told {
        let dims = tensor.as_ref().map_or([0, 0], Tensor::dims);
        bytes.extend(dims.into_iter().flat_map(|dim| (dim as u64).to_le_bytes()));
        let Some(tensor) = tensor else { continue };
        let values: Vec<f32> = tensor.into_data().try_to_vec().context("rows in f32")?;
        bytes.extend(values.into_iter().flat_map(f32::to_le_bytes));
    }
    Ok(bytes)
}

/// What [`bytes_of`] was given; nothing of no bytes.
fn from_bytes(mut bytes: &[u8], device: &Device) -> Result<Rows> {
    let mut told = Rows::new();
    while let Some((dims, behind)) = bytes.split_first_chunk::<16>() {
        let dim = |at: usize| u64::from_le_bytes(std::array::from_fn(|byte| dims[8 * at + byte]));
        let shape = [usize::try_from(dim(0))?, usize::try_from(dim(1))?];
        let (values, behind) =
            behind.split_at_checked(4 * shape[0] * shape[1]).context("what another rank has told")?;
        let values: Vec<f32> = values.as_chunks().0.iter().map(|&value| f32::from_le_bytes(value)).collect();
        told.push((shape[0] > 0).then(|| Tensor::from_data(TensorData::new(values, shape), device)));
        bytes = behind;
    }
    Ok(told)
}
