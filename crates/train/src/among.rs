//! A step of several ranks: see [`Exchange`].
//!
//! Each micro-batch's gradient is computed by itself, and a rank adds those of its part of a parameter in
//! the order of the micro-batches of the whole step, as they cross in rounds of the ranks. So losses and
//! weights are the same to the last bit for any number of ranks. A process without an exchange adds to its
//! sums inside of the backward pass, which is faster and rounds otherwise.
// Rejected: each rank sums its own micro-batches, and ranks are summed once a step. It sends accumulate / n
// times less, but sums of floats are not associative: every number of ranks would have digits of its own.

use std::collections::BTreeMap;

use anyhow::{Context as _, Result, ensure};
use mm1_model::Compute;
use serde_json::Value;

use crate::checkpoint::Snapshot;
use crate::exchange::{Exchange, PartSums, of_step, put_part, take_part};
use crate::micro_batch::{MicroBatch, PlacedBatch, Preceding, Step};
use crate::norm::Norm;
use crate::optim::Update;
use crate::overlap::Rounds;
use crate::parameters;
use crate::report::StepReport;
use crate::step::{Objective, Trainer};
use crate::step_result::StepResult;
use crate::whole_step::SharedStep;

impl<M: Objective> Trainer<M> {
    /// As [`Trainer::take_step_telling`]; `batches` are this rank's. Gives the notes of all ranks.
    pub(crate) fn step_among(
        &mut self,
        exchange: &dyn Exchange,
        compute: &Compute,
        (batches, lr): (&[M::Batch], f64),
        note: &mut dyn FnMut() -> Result<Vec<u8>>,
    ) -> Result<(StepReport, Vec<Vec<u8>>)> {
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
        let (losses, sums) = self.learn_among(exchange, compute, &placed, shared)?;
        let squares = self.optimizer.squares_of_parts(&sums);
        let found = StepFindings { losses, squares, note: note()? }.of_all(exchange)?;
        let (loss, auxiliary_losses) = losses_of_step(&found);
        let (squares, notes): (Vec<_>, Vec<_>) =
            found.into_iter().map(|of_rank| (of_rank.squares, of_rank.note)).unzip();
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
        Ok((StepReport { loss, grad_norm, weight, tokens, images, auxiliary_losses, figures }, notes))
    }

    /// The losses of this rank's micro-batches, and the sums of the gradients of all.
    fn learn_among(
        &self,
        exchange: &dyn Exchange,
        compute: &Compute,
        placed: &[Option<PlacedBatch<'_, M::Batch>>],
        mut shared: Option<SharedStep<'_, M::Batch>>,
    ) -> Result<(Vec<BatchLosses>, PartSums)> {
        let (crossing, sums) = (self.optimizer.crossing(), self.optimizer.part_sums());
        let how = (placed.len(), compute.gives_gradients_away());
        let mut rounds = Rounds::new(exchange, crossing, sums, how);
        let beside = rounds.beside();
        let mut found = Vec::with_capacity(placed.len());
        for (round, placed) in placed.iter().enumerate() {
            let number = round * exchange.ranks() + exchange.rank();
            let losses = rounds.add_while(exchange, |outlet| {
                let mut compute = compute.clone();
                if beside {
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
        Ok((found, rounds.into_sums()))
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
    /// What it tells the others beside.
    note: Vec<u8>,
}

impl StepFindings {
    /// Those of all ranks.
    fn of_all(&self, exchange: &dyn Exchange) -> Result<Vec<Self>> {
        exchange.gather(&self.bytes()?)?.iter().map(|bytes| Self::from_bytes(bytes)).collect()
    }

    /// The losses as JSON, with numbers as bits, which none may lose, and the note, each behind its length;
    /// the squares.
    fn bytes(&self) -> Result<Vec<u8>> {
        let bits = |(loss, auxiliary): &BatchLosses| {
            let auxiliary = auxiliary.iter().map(|(name, loss)| (name.clone(), loss.to_bits()));
            (loss.to_bits(), auxiliary.collect::<BTreeMap<_, _>>())
        };
        let losses = serde_json::to_vec(&self.losses.iter().map(bits).collect::<Vec<_>>())?;
        let mut bytes = Vec::new();
        put_part(&mut bytes, &losses);
        put_part(&mut bytes, &self.note);
        bytes.extend(self.squares.iter().flat_map(|square| square.to_le_bytes()));
        Ok(bytes)
    }

    /// What [`Self::bytes`] gave.
    fn from_bytes(bytes: &[u8]) -> Result<Self> {
        let (losses, behind) = take_part(bytes).context("what another rank has sent")?;
        let (note, squares) = take_part(behind).context("what another rank has sent")?;
        let losses: Vec<(u64, BTreeMap<String, u64>)> =
            serde_json::from_slice(losses).context("what another rank has sent")?;
        let floats = |(loss, auxiliary): (u64, BTreeMap<String, u64>)| {
            let auxiliary = auxiliary.into_iter().map(|(name, bits)| (name, f64::from_bits(bits)));
            (f64::from_bits(loss), auxiliary.collect())
        };
        Ok(Self {
            losses: losses.into_iter().map(floats).collect(),
            squares: squares.as_chunks().0.iter().map(|&square| f64::from_le_bytes(square)).collect(),
            note: note.to_vec(),
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
            note: vec![7; 30],
        };
        let bytes = found.bytes().expect("bytes");
        assert_eq!(StepFindings::from_bytes(&bytes).expect("the same"), found);
        assert!(StepFindings::from_bytes(&bytes[..20]).is_err());
        assert!(StepFindings::from_bytes(&[]).is_err());
        let (loss, auxiliary) =
            losses_of_step(&[found, StepFindings { losses: vec![], squares: vec![], note: vec![] }]);
        assert_eq!((loss, auxiliary["balance"]), (0.1 + 0.2 + f64::MIN_POSITIVE, 1.0 / 3.0));
    }
}
