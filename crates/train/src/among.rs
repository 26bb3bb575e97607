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
use crate::optim::Update;
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
        let weight = sum(0);
        ensure!(
            weight > 0.0,
            "step {}: nothing to learn: every position of {} micro-batches has weight 0",
            self.steps_done(),
            all.len()
        );
        let placed = self.placed(batches, weight, (exchange.rank(), exchange.ranks()), &all);
        let shared = self.model().whole_step().map(|whole| {
            let (on, at) = ((compute, &self.device), (weight, self.step));
            SharedStep::new(exchange, on, whole, &placed, at)
        });
        let mut shared = shared.transpose().with_context(|| format!("step {}", self.steps_done()))?;
        let (figures, buffers) = match &mut shared {
            Some(SharedStep { found, .. }) => {
                (std::mem::take(&mut found.figures), std::mem::take(&mut found.buffers))
            }
            None => Default::default(),
        };
        let mut sums = self.optimizer.part_sums();
        let mut found = Vec::with_capacity(batches.len());
        for (round, placed) in placed.iter().enumerate() {
            let result = match (&mut shared, placed) {
                (Some(shared), placed) => {
                    let number = round * exchange.ranks() + exchange.rank();
                    shared.micro_batch(compute, placed.as_ref(), number)
                }
                (None, Some(placed)) => self.micro_batch(compute, placed),
                (None, None) => Ok(StepResult::default()),
            };
            let read = result.and_then(|result| Ok((result.losses.read_now()?, result.grads)));
            let (losses, grads) = read.with_context(|| format!("step {}", self.steps_done()))?;
            self.optimizer.add_parts(exchange, grads, &mut sums)?;
            found.push((losses.total, losses.auxiliary));
        }
        let auxiliary_losses = auxiliary_of_step(exchange, &found)?;
        let own: Vec<[f64; 1]> = found.iter().map(|(loss, _)| [*loss]).collect();
        let loss = of_step(exchange, &own)?.into_iter().flatten().sum();
        let grad_norm = self.optimizer.norm_of_parts(exchange, &sums).with_context(|| {
            let samples: Vec<_> = batches.iter().flat_map(MicroBatch::samples).collect();
            format!("step {}, samples of this rank {}", self.steps_done(), samples.join(", "))
        })?;
        let time = self.step + 1;
        let update = Update { lr, norm: &Norm::Known(grad_norm), time: u32::try_from(time)? };
        let model = self.model.as_ref().context("the model is out")?;
        let mut moved = self.optimizer.update_parts(exchange, model, sums, update)?;
        moved.extend(buffers);
        let mut put = |path: &str, _: &[usize], values| moved.remove(path).unwrap_or(values);
        self.model = self.model.take().map(|model| parameters::map(model, &mut put).follow(time));
        self.step = time;
        let (tokens, images) = (sum(1) as usize, sum(2) as usize);
        Ok(StepReport { loss, grad_norm, weight, tokens, images, auxiliary_losses, figures })
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

/// The auxiliary losses of all micro-batches, added in their order: a rank may have one that others have not.
fn auxiliary_of_step(
    exchange: &dyn Exchange,
    found: &[(f64, BTreeMap<String, f64>)],
) -> Result<BTreeMap<String, f64>> {
    let own: Vec<String> = found.iter().flat_map(|(_, auxiliary)| auxiliary.keys().cloned()).collect();
    let mut sums = BTreeMap::new();
    for names in exchange.gather(&serde_json::to_vec(&own)?)? {
        let names: Vec<String> = serde_json::from_slice(&names).context("what another rank has sent")?;
        sums.extend(names.into_iter().map(|name| (name, 0.0)));
    }
    for (name, sum) in &mut sums {
        let own: Vec<[f64; 1]> =
            found.iter().map(|(_, auxiliary)| [auxiliary.get(name).copied().unwrap_or_default()]).collect();
        *sum = of_step(exchange, &own)?.into_iter().flatten().sum();
    }
    Ok(sums)
}
