//! How long a stage takes: a step of one that trains, and the first questions of one that evaluates, are done
//! and timed, with random weights.

use std::sync::atomic::AtomicBool;
use std::time::Instant;

use anyhow::Result;
use mm1_data::batch::Batch;
use mm1_data::loader::{Cursor, Loader};
use mm1_eval::log::Log;
use mm1_eval::protocol::Protocol;
use mm1_eval::run::{EvalPass, evaluate};
use mm1_eval::task::Task;
use mm1_kernels::allocator::TrainingMemory;
use mm1_model::Mm1;
use mm1_model::compute::on_pool;
use mm1_serve::generate::Generator;
use mm1_train::{Objective, Trainer};

use crate::error::input;
use crate::evaluation::style_after;
use crate::local::LocalModel;
use crate::plan::{Plan, Worker};
use crate::recipe::{EvalStage, TrainStage};
use crate::stage::objective::{InitialWeights, WithModel, with_model};
use crate::stage::train::next_batches;
use crate::tasks::TaskData;

/// Seconds of a first question after which no batch of them is asked.
const LONG: f64 = 3.0;

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

/// Seconds of the evaluation `stage` on this machine, by the first batch of questions of each task and number
/// of shots. A network of random weights seldom ends an answer: it is as long as it may be, so this is about
/// the most that a trained one takes.
///
/// # Errors
/// Questions that can't be asked; data that can't be read.
pub(crate) fn evaluation_seconds(plan: &Plan, stage: &EvalStage) -> Result<f64> {
    let recipe = plan.recipe.as_of(&stage.name);
    let model = Mm1::new(&recipe.model, plan.recipe.seed, plan.compute.device())?;
    let generator = Generator::new(&plan.compute, model, plan.tokenizer.clone(), recipe.image_spec());
    let data = TaskData::of_run(&plan.recipe, &plan.sources, stage.protocol.data.as_deref());
    let measured = TimedQuestions { plan, stage, generator: &generator };
    let mut seconds = 0.0;
    for name in &stage.protocol.tasks {
        let task = data.task(name)?;
        for &shots in &stage.protocol.shots {
            seconds += measured.seconds(task.as_ref(), shots)?;
        }
    }
    Ok(seconds)
}

struct TimedQuestions<'a> {
    plan: &'a Plan,
    stage: &'a EvalStage,
    generator: &'a Generator,
}

impl TimedQuestions<'_> {
    /// Of all questions of `task`, blind ones too.
    fn seconds(&self, task: &dyn Task, shots: usize) -> Result<f64> {
        let Protocol { questions, batch, blind, .. } = self.stage.protocol;
        let total = task.tests().min(questions as u64).max(1);
        let most = (batch as u64).min(total);
        let mut asked = 1;
        let mut spent = self.first(task, shots, asked)?;
        if spent < LONG && most > 1 {
            asked = most;
            spent = self.first(task, shots, asked)?;
        }
        let passes = if blind && task.has_pictures() { 2.0 } else { 1.0 };
        Ok(spent * passes * total as f64 / asked as f64)
    }

    /// Of the first `count` questions.
    fn first(&self, task: &dyn Task, shots: usize, count: u64) -> Result<f64> {
        let protocol = Protocol { questions: count as usize, ..self.stage.protocol.clone() };
        let trained = style_after(self.plan.recipe.trained_before(&self.stage.name));
        let pass = EvalPass {
            protocol: &protocol,
            style: protocol.style.style(trained),
            shots,
            blind: false,
            seed: self.plan.recipe.data_seed(),
            kept_pictures: 0,
            progress: &|_, _| {},
        };
        let stop = AtomicBool::new(false);
        let mut model = LocalModel { generator: self.generator, batch: protocol.batch, stop: &stop };
        let begun = Instant::now();
        evaluate(task, &mut model, &mut Log::none(), &pass)?;
        Ok(begun.elapsed().as_secs_f64())
    }
}
