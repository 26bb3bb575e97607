//! [`WholeStep`]: a loss that depends on all examples of a step, such as a contrast, in two passes over its
//! micro-batches (as GradCache, Gao et al. 2021).
//!
//! The first pass is forward alone, without a graph: the features of each micro-batch, embeddings or a
//! teacher's logits. Those of the whole step are combined into what each micro-batch needs for its backward
//! pass: gradients of its features, or targets. The second pass is forward and backward. Memory is bound by a
//! micro-batch, the result is that of one batch. Several ranks gather the features, and each combines all.
// Rejected: each rank computes its rows of a contrast's similarities alone (OpenCLIP's `local_loss`). It
// saves ranks times the work of a matrix that is small beside the towers, but its sums depend on the number
// of ranks.

use anyhow::{Context as _, Result};
use burn::tensor::{Device, Tensor, TensorData};
use mm1_model::Compute;

use crate::exchange::{Exchange, MOST_BYTES, put_part, take_part};
use crate::micro_batch::{MicroBatch, PlacedBatch, Step};
use crate::step_result::StepResult;

/// Tensors `[n, f]`; `None` where one has no rows.
pub type Rows = Vec<Option<Tensor<2>>>;

/// An objective whose loss is not a sum over micro-batches: each needs the features of all.
pub trait WholeStep<B> {
    /// The features of a micro-batch that all others need: always as many tensors, without a graph.
    ///
    /// # Errors
    /// If the model refuses the input.
    fn features(&self, compute: &Compute, batch: &PlacedBatch<'_, B>) -> Result<Rows>;

    /// What follows from the features of the whole step, the loss's gradients by them for instance.
    ///
    /// # Errors
    /// A loss that is not finite; a training that can't come back.
    fn combine(&self, compute: &Compute, all: StepFeatures<'_>) -> Result<CombinedStep>;

    /// Adds loss and gradients of a micro-batch to `found`, with its rows of [`CombinedStep::needed`].
    ///
    /// # Errors
    /// As [`Self::features`]; a loss that is not finite.
    fn backward_batch(
        &self,
        compute: &Compute,
        batch: &PlacedBatch<'_, B>,
        needed: Rows,
        found: &mut StepResult,
    ) -> Result<()>;
}

/// The features of all micro-batches of a step.
#[derive(Debug)]
pub struct StepFeatures<'a> {
    /// In the order of the step.
    pub features: Rows,
    /// The sum of the weights of the step.
    pub weight: f64,
    /// Steps done before this one.
    pub number: u64,
    /// The ids of the samples at hand, of several ranks this one's.
    pub samples: Vec<&'a str>,
}

/// What follows from them.
#[derive(Debug)]
pub struct CombinedStep {
    /// Loss and gradients that are of no single micro-batch, figures and buffers.
    pub found: StepResult,
    /// What the micro-batches need: a tensor for each of the features, with the same rows or none.
    pub needed: Rows,
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
    let mut gathered = Gathered::default();
    for batch in &placed {
        gathered.push(model.features(compute, batch)?);
    }
    let samples = step.batches.iter().flat_map(|batch| batch.samples()).collect();
    let features = gathered.take();
    let all = StepFeatures { features, weight: step.weight, number: step.number, samples };
    let CombinedStep { mut found, needed } = model.combine(compute, all)?;
    for (number, batch) in placed.iter().enumerate() {
        model.backward_batch(compute, batch, gathered.part(&needed, number), &mut found)?;
    }
    Ok(found)
}

/// The features of micro-batches, and where the rows of each are.
#[derive(Default)]
struct Gathered {
    /// Of each tensor its parts.
    tensors: Vec<Vec<Tensor<2>>>,
    /// Of each micro-batch the rows in each tensor.
    rows: Vec<Vec<usize>>,
}

impl Gathered {
    fn push(&mut self, features: Rows) {
        self.rows.push(features.iter().map(|tensor| tensor.as_ref().map_or(0, |t| t.dims()[0])).collect());
        self.tensors.resize_with(self.tensors.len().max(features.len()), Vec::new);
        self.tensors.iter_mut().zip(features).for_each(|(tensors, part)| tensors.extend(part));
    }

    /// The features of `rounds` rounds, as each rank has sent them: in the order of the step.
    fn push_rounds(&mut self, rounds: usize, of_ranks: &[Vec<u8>], device: &Device) -> Result<()> {
        let mut rest: Vec<&[u8]> = of_ranks.iter().map(Vec::as_slice).collect();
        for _ in 0..rounds {
            for of_rank in &mut rest {
                let (features, behind) =
                    take_part(std::mem::take(of_rank)).context("the features of another rank")?;
                self.push(from_bytes(features, device)?);
                *of_rank = behind;
            }
        }
        Ok(())
    }

    /// All parts together.
    fn take(&mut self) -> Rows {
        let parts = std::mem::take(&mut self.tensors).into_iter();
        parts.map(|parts| (!parts.is_empty()).then(|| Tensor::cat(parts, 0))).collect()
    }

    /// The rows of micro-batch `number` in `needed`.
    fn part(&self, needed: &Rows, number: usize) -> Rows {
        let rows = |batch: &Vec<usize>, tensor: usize| batch.get(tensor).copied().unwrap_or(0);
        let part = |(tensor, needed): (usize, &Option<Tensor<2>>)| {
            let first = self.rows[..number].iter().map(|batch| rows(batch, tensor)).sum();
            let count = rows(&self.rows[number], tensor);
            needed.as_ref().filter(|_| count > 0).map(|needed| needed.clone().narrow(0, first, count))
        };
        needed.iter().enumerate().map(part).collect()
    }
}

/// Such a step that several ranks share.
pub(crate) struct SharedStep<'a, B> {
    whole: &'a dyn WholeStep<B>,
    gathered: Gathered,
    needed: Rows,
    /// Loss and gradients of no single micro-batch; they go with the first one of the step.
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
        let (mut gathered, mut rest, mut together) = (Gathered::default(), batches, 1);
        while !rest.is_empty() {
            let (now, later) = rest.split_at(together.min(rest.len()));
            let mut own = Vec::new();
            for batch in now {
                let features = match batch {
                    Some(batch) => bytes_of(whole.features(compute, batch)?)?,
                    None => Vec::new(),
                };
                put_part(&mut own, &features);
            }
            let of_ranks = exchange.gather(&own)?;
            together = rounds_together(of_ranks.iter().map(Vec::len).max().unwrap_or(0), now.len(), exchange);
            gathered.push_rounds(now.len(), &of_ranks, device)?;
            rest = later;
        }
        let samples = batches.iter().flatten().flat_map(|placed| placed.batch.samples()).collect();
        let all = StepFeatures { features: gathered.take(), weight, number, samples };
        let CombinedStep { found, needed } = whole.combine(compute, all)?;
        Ok(Self { whole, gathered, needed, found })
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
            let needed = self.gathered.part(&self.needed, number);
            self.whole.backward_batch(compute, batch, needed, &mut found)?;
        }
        Ok(found)
    }
}

/// Rounds whose features cross together next: as many as fit into a message, if they are as long as those of
/// the `rounds` before, of which the longest of a rank took `bytes`. All ranks find the same.
fn rounds_together(bytes: usize, rounds: usize, exchange: &dyn Exchange) -> usize {
    (MOST_BYTES * rounds / exchange.ranks() / bytes.max(1)).max(1)
}

/// Tensors as ranks send them: of each n, f and the values.
fn bytes_of(features: Rows) -> Result<Vec<u8>> {
    let mut bytes = Vec::new();
    for tensor in features {
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
    let mut features = Rows::new();
    while let Some((dims, behind)) = bytes.split_first_chunk::<16>() {
        let dim = |at: usize| u64::from_le_bytes(std::array::from_fn(|byte| dims[8 * at + byte]));
        let shape = [usize::try_from(dim(0))?, usize::try_from(dim(1))?];
        let (values, behind) =
            behind.split_at_checked(4 * shape[0] * shape[1]).context("the features of another rank")?;
        let values: Vec<f32> = values.as_chunks().0.iter().map(|&value| f32::from_le_bytes(value)).collect();
        features.push((shape[0] > 0).then(|| Tensor::from_data(TensorData::new(values, shape), device)));
        bytes = behind;
    }
    Ok(features)
}
