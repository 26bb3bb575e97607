//! A step of several ranks: see [`Exchange`].
//!
//! Each micro-batch's gradient is computed by itself, and a rank adds those of its part of a parameter in
//! the order of the micro-batches of the whole step, one exchange for each round of the ranks. So losses and
//! weights are the same to the last bit for any number of ranks. A process without an exchange adds to its
//! sums inside of the backward pass, which is faster and rounds otherwise.
// Rejected: each rank sums its own micro-batches, and ranks are summed once a step. It sends accumulate / n
// times less, but sums of floats are not associative: every number of ranks would have digits of its own.

use std::collections::BTreeMap;

use anyhow::{Context as _, Result, ensure};
use mm1_model::Compute;
use serde_json::Value;

use crate::checkpoint::Snapshot;
use crate::exchange::{Exchange, of_step};
use crate::norm::Norm;
use crate::optim::{PartSums, Update};
use crate::parameters;
use crate::report::StepReport;
use crate::step::{MicroBatch, Objective, Preceding, Step, StepResult, Trainer};
use crate::whole_step::{PlacedBatch, SharedStep};

impl<M: Objective> Trainer<M> {
    /// As [`Trainer::step`]; `batches` are this rank's.
    pub(crate) fn step_among(
        &mut self,
        exchange: &dyn Exchange,
        compute: &Compute,
        batches: &[M::Batch],
        lr: f64,
    ) -> Result<StepReport> {
        let own: Vec<[f64; 3]> =
            batches.iter().map(|b| [M::weight(b), b.tokens() as f64, b.images() as f64]).collect();
        let all = of_step(exchange, &own)?;
        let sum = |of: usize| all.iter().map(|batch| batch[of]).sum::<f64>();
        let (weight, batches_of_all) = (sum(0), all.len());
        ensure!(
            weight > 0.0,
            "step {}: nothing to learn: every position of {batches_of_all} micro-batches has weight 0",
            self.steps_done()
        );
        let placed = self.placed(batches, weight, (exchange.rank(), exchange.ranks()), &all);
        let shared = self.model().whole_step().map(|whole| {
            let (on, at) = ((compute, &self.device), (weight, self.step));
            SharedStep::new(exchange, on, whole, &placed, at)
        });
        let mut shared = shared.transpose().with_context(|| format!("step {}", self.steps_done()))?;
        let (figures, mut buffers) = match &mut shared {
            Some(SharedStep { found, .. }) => {
                (std::mem::take(&mut found.figures), std::mem::take(&mut found.buffers))
            }
            None => Default::default(),
        };
        let (found, sums) = self.learn_among(exchange, compute, &placed, shared)?;
        let found = StepFindings { losses: found, squares: self.optimizer.squares_of_parts(&sums) };
        let found = found.of_all(exchange)?;
        let (loss, auxiliary_losses) = losses_of_step(&found);
        let squares: Vec<_> = found.into_iter().map(|of_rank| of_rank.squares).collect();
        let grad_norm = self.optimizer.norm_of_parts(&squares).with_context(|| {
            let samples: Vec<_> = batches.iter().flat_map(MicroBatch::samples).collect();
            format!("step {}, samples of this rank {}", self.steps_done(), samples.join(", "))
        })?;
        let time = self.step + 1;
        let update = Update { lr, norm: &Norm::Known(grad_norm), time: u32::try_from(time)? };
        let model = self.model.as_ref().context("the model is out")?;
        let moved = self.optimizer.update_parts(exchange, model, sums, update)?;
        let mut put = |path: &str, _: &[usize], values| match buffers.remove(path) {
            Some(buffer) => buffer,
            None => moved.take_place_of(path, values),
        };
        self.model = self.model.take().map(|model| parameters::map(model, &mut put).follow(time));
        self.step = time;
        let (tokens, images) = (sum(1) as usize, sum(2) as usize);
        Ok(StepReport { loss, grad_norm, weight, tokens, images, auxiliary_losses, figures })
    }

    /// The losses of this rank's micro-batches, and the sums of the gradients of all.
    fn learn_among(
        &self,
        exchange: &dyn Exchange,
        compute: &Compute,
        placed: &[Option<PlacedBatch<'_, M::Batch>>],
        mut shared: Option<SharedStep<'_, M::Batch>>,
    ) -> Result<(Vec<BatchLosses>, PartSums)> {
        let crossing = self.optimizer.crossing();
        let mut sums = self.optimizer.part_sums();
        let mut found = Vec::with_capacity(placed.len());
        for (round, placed) in placed.iter().enumerate() {
            let number = round * exchange.ranks() + exchange.rank();
            let losses = crossing.add_while(exchange, &mut sums, |outlet| {
                let mut compute = compute.clone();
                if exchange.overlaps() {
                    let hook = outlet.hook(self.model(), |path| self.optimizer.number_of(path));
                    compute = compute.with_gradient_hook(&hook);
                }
                let result = match (&mut shared, placed) {
                    (Some(shared), placed) => shared.micro_batch(&compute, placed.as_ref(), number),
                    (None, Some(placed)) => self.micro_batch(&compute, placed),
                    (None, None) => Ok(StepResult::default()),
                };
                let StepResult { losses, grads, .. } = result?;
                let losses = losses.read_now()?;
                outlet.give_rest(grads)?;
                Ok((losses.total, losses.auxiliary))
            });
            found.push(losses.with_context(|| format!("step {}", self.steps_done()))?);
        }
        Ok((found, sums))
    }

    /// The micro-batches of this rank, rank `rank` of `ranks`, in a step of the weight `weight`; none in the
    /// place of one with nothing to learn. `all` has weight, tokens and pictures of all of the step.
    fn placed<'a>(
        &self,
        batches: &'a [M::Batch],
        weight: f64,
        (rank, ranks): (usize, usize),
        all: &[[f64; 3]],
    ) -> Vec<Option<PlacedBatch<'a, M::Batch>>> {
        let place = |(round, batch): (usize, &'a M::Batch)| {
            let learned = all[..round * ranks + rank].iter().filter(|[weight, ..]| *weight > 0.0);
            let preceding = Preceding {
                batches: learned.clone().count() as u64,
                images: learned.map(|[.., images]| *images as usize).sum(),
            };
            let placed = PlacedBatch { batch, weight, number: self.step, preceding };
            (M::weight(batch) > 0.0).then_some(placed)
        };
        batches.iter().enumerate().map(place).collect()
    }

    /// Loss and gradient of one micro-batch.
    fn micro_batch(&self, compute: &Compute, placed: &PlacedBatch<'_, M::Batch>) -> Result<StepResult> {
        let PlacedBatch { batch, weight, number, preceding } = *placed;
        self.model().backward(compute, &Step { batches: &[batch], weight, number, preceding })
    }

    /// As [`Trainer::snapshot`], at rank 0; nothing at the others, which give their moments.
    ///
    /// # Errors
    /// The network's own.
    pub fn snapshot_of_all(&self, state: Value) -> Result<Option<Snapshot>> {
        let Some(exchange) = &self.exchange else { return Ok(Some(self.snapshot(state))) };
        let Some(optimizer) = self.optimizer.export_of_all(exchange.as_ref())? else { return Ok(None) };
        Ok(Some(Snapshot { step: self.step, model: parameters::export(self.model()), optimizer, state }))
    }
}

/// The loss of a micro-batch, and the auxiliary losses among it by name.
type BatchLosses = (f64, BTreeMap<String, f64>);

/// What a rank has found in a step, of which the others must know.
#[derive(Debug, PartialEq)]
struct StepFindings {
    /// Of each of its micro-batches.
    losses: Vec<BatchLosses>,
    /// The sums of squares of its parts.
    squares: Vec<f64>,
}

impl StepFindings {
    /// Those of all ranks.
    fn of_all(&self, exchange: &dyn Exchange) -> Result<Vec<Self>> {
        exchange.gather(&self.bytes()?)?.iter().map(|bytes| Self::from_bytes(bytes)).collect()
    }

    /// The length of the losses as JSON, with numbers as bits, which none may lose; these; the squares.
    fn bytes(&self) -> Result<Vec<u8>> {
        let bits = |(loss, auxiliary): &BatchLosses| {
            let auxiliary = auxiliary.iter().map(|(name, loss)| (name.clone(), loss.to_bits()));
            (loss.to_bits(), auxiliary.collect::<BTreeMap<_, _>>())
        };
        let losses = serde_json::to_vec(&self.losses.iter().map(bits).collect::<Vec<_>>())?;
        let mut bytes = (losses.len() as u64).to_le_bytes().to_vec();
        bytes.extend(losses);
        bytes.extend(self.squares.iter().flat_map(|square| square.to_le_bytes()));
        Ok(bytes)
    }

    /// What [`Self::bytes`] gave.
    fn from_bytes(bytes: &[u8]) -> Result<Self> {
        let (length, rest) = bytes.split_first_chunk().context("what another rank has sent")?;
        let length = usize::try_from(u64::from_le_bytes(*length))?;
        let (losses, squares) = rest.split_at_checked(length).context("what another rank has sent")?;
        let losses: Vec<(u64, BTreeMap<String, u64>)> =
            serde_json::from_slice(losses).context("what another rank has sent")?;
        let floats = |(loss, auxiliary): (u64, BTreeMap<String, u64>)| {
            let auxiliary = auxiliary.into_iter().map(|(name, bits)| (name, f64::from_bits(bits)));
            (f64::from_bits(loss), auxiliary.collect())
        };
        Ok(Self {
            losses: losses.into_iter().map(floats).collect(),
            squares: squares.as_chunks().0.iter().map(|&square| f64::from_le_bytes(square)).collect(),
        })
    }
}

/// The loss, and the auxiliary losses: those of all micro-batches, added in their order. A rank may have an
/// auxiliary loss that others have not.
fn losses_of_step(found: &[StepFindings]) -> (f64, BTreeMap<String, f64>) {
    let rounds = found.first().map_or(0, |of_rank| of_rank.losses.len());
    // Ranks have as many micro-batches each.
    let in_order = || (0..rounds).flat_map(|round| found.iter().filter_map(move |f| f.losses.get(round)));
    let loss = in_order().map(|(loss, _)| loss).sum();
    let names = in_order().flat_map(|(_, auxiliary)| auxiliary.keys());
    let sum = |name: &String| {
        in_order().map(|(_, auxiliary)| auxiliary.get(name).copied().unwrap_or_default()).sum()
    };
    (loss, names.map(|name| (name.clone(), sum(name))).collect())
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn findings_cross_without_a_loss_of_bits() {
        let auxiliary = BTreeMap::from([("balance".to_owned(), 1.0 / 3.0)]);
        let found = StepFindings {
            losses: vec![(0.1 + 0.2, auxiliary), (f64::MIN_POSITIVE, BTreeMap::new())],
            squares: vec![1e300, -0.0, f64::INFINITY],
        };
        let bytes = found.bytes().expect("bytes");
        assert_eq!(StepFindings::from_bytes(&bytes).expect("the same"), found);
        assert!(StepFindings::from_bytes(&bytes[..20]).is_err());
        assert!(StepFindings::from_bytes(&[]).is_err());
        let (loss, auxiliary) = losses_of_step(&[found, StepFindings { losses: vec![], squares: vec![] }]);
        assert_eq!((loss, auxiliary["balance"]), (0.1 + 0.2 + f64::MIN_POSITIVE, 1.0 / 3.0));
    }
}
