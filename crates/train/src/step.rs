//! [`Trainer`]: one optimisation step after another.

use std::collections::{BTreeMap, BTreeSet};
use std::sync::Arc;

use anyhow::{Context, Result, ensure};
use burn::module::Module;
use burn::tensor::Device;
use mm1_model::{Compute, weights};
use serde_json::Value;

use crate::checkpoint::Snapshot;
use crate::config::OptimizerConfig;
use crate::exchange::Exchange;
use crate::micro_batch::{MicroBatch, Preceding, Step};
use crate::norm::Norm;
use crate::optim::{AdamW, Update};
use crate::parameters;
use crate::report::{self, StepReport, Taken};
use crate::step_result::StepResult;
use crate::whole_step::WholeStep;

/// A model with what it minimises.
pub trait Objective: Module {
    /// A micro-batch.
    type Batch: MicroBatch;

    /// How ranks share a step in which the loss of an example depends on those of other micro-batches. Where
    /// it does not, [`Self::backward`] is given one micro-batch at a time by them.
    fn whole_step(&self) -> Option<&dyn WholeStep<Self::Batch>> {
        None
    }

    /// The weight of a micro-batch in the step's mean; 0 if there is nothing to learn.
    fn weight(batch: &Self::Batch) -> f64;

    /// The mean loss over the step and its gradients. How the examples are cut into micro-batches must not
    /// matter.
    ///
    /// # Errors
    /// If the model refuses the input, or a loss is not finite: with the samples' ids.
    fn backward(&self, compute: &Compute, step: &Step<'_, Self::Batch>) -> Result<StepResult>;

    /// Whether the optimizer changes the parameter at `path`.
    fn trains(&self, _path: &str) -> bool {
        true
    }

    /// What follows the optimizer's update number `step`, from 1: a teacher that follows its student.
    fn follow(self, _step: u64) -> Self {
        self
    }
}

/// A model and the optimizer that changes it.
#[derive(Debug)]
pub struct Trainer<M: Objective> {
    /// Taken out only while it is updated, so that the weights have one owner and change in place.
    pub(crate) model: Option<M>,
    pub(crate) optimizer: AdamW,
    compute: Compute,
    /// The model's, without autodiff.
    pub(crate) device: Device,
    pub(crate) step: u64,
    /// The ranks that train together, if they are several processes, or will be.
    pub(crate) exchange: Option<Arc<dyn Exchange>>,
    /// Steps that nobody has asked about yet.
    taken: Vec<Taken>,
}

impl<M: Objective> Trainer<M> {
    /// Starts at step 0. Parts that `config` freezes or the objective does not train need no gradient from
    /// here on, all others do.
    ///
    /// # Errors
    /// If `model` is not on an autodiff device, or nothing is left to train.
    pub fn new(compute: &Compute, model: M, config: OptimizerConfig) -> Result<Self> {
        Self::among(compute, model, config, None)
    }

    /// The same as one rank of an `exchange`. All ranks begin with the same model.
    ///
    /// # Errors
    /// As [`Self::new`].
    pub fn among(
        compute: &Compute,
        model: M,
        config: OptimizerConfig,
        exchange: Option<Arc<dyn Exchange>>,
    ) -> Result<Self> {
        let frozen = |path: &str| config.freezes(path) || !model.trains(path);
        let paths = weights::shapes(&model).into_iter().map(|(path, _)| path);
        let frozen: BTreeSet<String> = paths.filter(|path| frozen(path)).collect();
        let model = weights::freeze(model, |path| frozen.contains(path));
        let device =
            model.devices().into_iter().next().context("the model has no parameters")?.without_autodiff();
        let optimizer = AdamW::new(config, &model, exchange.as_deref());
        ensure!(
            !optimizer.is_empty(),
            "nothing to train: every part is frozen, or the device has no autodiff"
        );
        let (model, compute) = (Some(model), compute.clone());
        Ok(Self { model, optimizer, compute, device, step: 0, exchange, taken: Vec::new() })
    }

    /// One step over all `batches` together at the learning rate `lr`; of several ranks each has its own, as
    /// many as the others. How the examples are cut into batches does not matter: gradients are summed, and
    /// divided by the weight of the whole step.
    ///
    /// # Errors
    /// If there is nothing to learn, or a loss or gradient is not finite; nothing is updated then.
    pub fn step(&mut self, batches: &[M::Batch], lr: f64) -> Result<StepReport> {
        self.take_step(batches, lr)?;
        self.reports()?.pop().context("a step has a report")
    }

    /// As [`Self::step`], without waiting for a GPU: [`Self::reports`] reads what came of it. The digits are
    /// the same.
    ///
    /// # Errors
    /// If there is nothing to learn. That a loss or gradient is not finite may show later; neither that step
    /// nor one after it updates anything then.
    pub fn take_step(&mut self, batches: &[M::Batch], lr: f64) -> Result<()> {
        self.take_step_telling(batches, lr, || Ok(Vec::new())).map(drop)
    }

    /// As [`Self::take_step`]. Each rank tells all others its `note`, with what they exchange anyway: they do
    /// not wait for each other once more. It is asked for when the gradients of the step are there; without
    /// ranks, after the step. Gives the notes of all ranks, in their order.
    ///
    /// # Errors
    /// As [`Self::take_step`]; as `note`.
    pub fn take_step_telling(
        &mut self,
        batches: &[M::Batch],
        lr: f64,
        mut note: impl FnMut() -> Result<Vec<u8>>,
    ) -> Result<Vec<Vec<u8>>> {
        let compute = self.compute.clone();
        let (exchange, number) = (self.exchange.clone(), self.step);
        let (taken, notes) = compute.step(|compute| -> Result<_> {
            let Some(exchange) = exchange else { return Ok((self.step_over(compute, batches, lr)?, None)) };
            let (report, notes) = self.step_among(exchange.as_ref(), compute, (batches, lr), &mut note)?;
            Ok((Taken::known(report, number), Some(notes)))
        })?;
        self.taken.push(taken);
        notes.map_or_else(|| Ok(vec![note()?]), Ok)
    }

    /// The reports of all steps since the last call, in order.
    ///
    /// # Errors
    /// If a loss or gradient was not finite: the first step where one was. [`Self::steps_done`] is then the
    /// number of those before it.
    pub fn reports(&mut self) -> Result<Vec<StepReport>> {
        let taken = std::mem::take(&mut self.taken);
        let mut read = report::read(taken.iter().flat_map(Taken::there).cloned())?.into_iter();
        let mut reports = Vec::new();
        for step in taken {
            let number = step.number;
            let report = step.report(&mut read).inspect_err(|_| {
                self.step = number;
                self.optimizer.recover();
            })?;
            reports.push(report);
        }
        Ok(reports)
    }

    fn step_over(&mut self, compute: &Compute, batches: &[M::Batch], lr: f64) -> Result<Taken> {
        let (weight, number): (f64, _) = (batches.iter().map(M::weight).sum(), self.step);
        let mut found = self.backward(compute, batches, weight).with_context(|| format!("step {number}"))?;
        let samples: Vec<_> = batches.iter().flat_map(MicroBatch::samples).collect();
        let samples = samples.join(", ");
        let norm = self
            .optimizer
            .norm(&found.grads, found.losses.of_step_there())
            .with_context(|| format!("step {number}, samples {samples}"))?;
        if let Norm::Known(_) = norm {
            // The device was waited for anyway: refuse them before the update.
            found.losses = found.losses.read_now().with_context(|| format!("step {number}"))?;
        }
        let StepResult { losses, grads, figures, mut buffers } = found;
        let time = number + 1;
        let update = Update { lr, norm: &norm, time: u32::try_from(time)? };
        if let Some(model) = self.model.take() {
            let mut model = self.optimizer.update(model, grads, update);
            if !buffers.is_empty() {
                model = parameters::map(model, |path, _, values| buffers.remove(path).unwrap_or(values));
            }
            self.model = Some(model.follow(time));
        }
        self.step = time;
        let tokens = batches.iter().map(MicroBatch::tokens).sum();
        let images = batches.iter().map(MicroBatch::images).sum();
        let (loss, grad_norm, auxiliary_losses) = (0.0, 0.0, BTreeMap::new());
        let report = StepReport { loss, grad_norm, weight, tokens, images, auxiliary_losses, figures };
        Ok(Taken { report, losses, norm, number, samples })
    }

    fn backward(&self, compute: &Compute, batches: &[M::Batch], weight: f64) -> Result<StepResult> {
        ensure!(
            weight > 0.0,
            "nothing to learn: every position of {} micro-batches has weight 0",
            batches.len()
        );
        let batches: Vec<&M::Batch> = batches.iter().filter(|b| M::weight(b) > 0.0).collect();
        let preceding = Preceding::default();
        self.model().backward(compute, &Step { batches: &batches, weight, number: self.step, preceding })
    }

    /// The model as it is. A clone that lives on into the next step costs that step a copy of the weights.
    pub fn model(&self) -> &M {
        self.model.as_ref().expect("the model is only out while a step updates it")
    }

    /// The model as it is, without the optimizer.
    pub(crate) fn into_model(mut self) -> M {
        self.model.take().expect("the model is only out while a step updates it")
    }

    /// Steps done.
    pub fn steps_done(&self) -> u64 {
        self.step
    }

    /// All that [`Trainer::restore`] needs, with the caller's own `state`. Ask for the [`Self::reports`]
    /// before: a step that went wrong shows there.
    pub fn snapshot(&self, state: Value) -> Snapshot {
        let model = parameters::export(self.model());
        Snapshot { step: self.step, model, optimizer: self.optimizer.export(), state }
    }

    /// Goes back to `snapshot`: the next steps are bit for bit those of the run that took it.
    ///
    /// # Errors
    /// If its tensors are not those of this model and optimizer, by name, shape and type; nothing is changed
    /// then.
    pub fn restore(&mut self, snapshot: Snapshot) -> Result<()> {
        let here = parameters::collect(self.model());
        let expected = here.iter().map(|(path, p)| (path.clone(), p.shape.clone(), p.values.dtype()));
        let mut weights = parameters::check(snapshot.model, expected)?;
        self.optimizer.import(snapshot.optimizer, &self.device)?;
        let mut restored = |path: &str, _: &[usize], values| {
            weights.remove(path).map_or(values, |data| parameters::upload(data, &self.device))
        };
        self.model = self.model.take().map(|model| parameters::map(model, &mut restored));
        self.step = snapshot.step;
        self.taken.clear();
        self.optimizer.recover();
        Ok(())
    }
}
