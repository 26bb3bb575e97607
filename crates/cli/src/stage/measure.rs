//! How long a step of a training stage takes: one is done and timed, with random weights.

use std::time::Instant;

use anyhow::Result;
use mm1_data::batch::Batch;
use mm1_data::loader::{Cursor, Loader};
use mm1_kernels::allocator::TrainingMemory;
use mm1_model::compute::on_pool;
use mm1_train::{Objective, Trainer};

use crate::error::input;
use crate::plan::{Plan, Worker};
use crate::recipe::TrainStage;
use crate::stage::objective::{InitialWeights, WithModel, with_model};
use crate::stage::train::next_batches;

/// Seconds of one step of `stage` on this machine, waiting for data included. It is the second that is timed:
/// the first one fills memory and caches.
///
/// # Errors
/// Data that can't be read; a loss that is not finite.
pub(crate) fn step_seconds(plan: &Plan, stage: &TrainStage, worker: Worker) -> Result<f64> {
    let loader = input(Loader::start(plan.loader(stage, worker)?, Cursor::default()))?;
    let timed = TimedStep { plan, stage, loader };
    on_pool(|| with_model(plan, stage, InitialWeights::Random, timed))
}

struct TimedStep<'a> {
    plan: &'a Plan,
    stage: &'a TrainStage,
    loader: Loader,
}

impl WithModel for TimedStep<'_> {
    type Output = f64;

    fn with<M: Objective<Batch = Batch>>(mut self, model: M) -> Result<f64> {
        let compute = self.plan.compute.with_checkpointing(self.stage.activation_checkpointing);
        let _memory = TrainingMemory::new();
        let mut trainer = Trainer::new(&compute, model, self.stage.optimizer.clone())?;
        let schedule =
            self.stage.optimizer.schedule(self.plan.derived.lr[&self.stage.name], self.stage.steps);
        let mut seconds = 0.0;
        for step in 0..2 {
            let begun = Instant::now();
            let (batches, _) = input(next_batches(&mut self.loader, self.stage.accumulate))?;
            trainer.step(&batches, schedule.lr(step))?;
            seconds = begun.elapsed().as_secs_f64();
        }
        Ok(seconds)
    }
}
