//! [`Trainer`]: one optimisation step after another.

use anyhow::{Context, Result, bail, ensure};
use burn::module::Module;
use burn::tensor::{Device, Tensor};
use mm1_model::weights;
use serde::Serialize;
use serde_json::Value;

use crate::checkpoint::Snapshot;
use crate::optim::{self, AdamW, Gradients, OptimizerConfig, Update};
use crate::parameters;

/// What is in a part of a step.
pub trait Counts {
    /// Positions of text and pictures.
    fn tokens(&self) -> usize;
    /// Pictures.
    fn images(&self) -> usize;
    /// The ids of its samples.
    fn samples(&self) -> &[String];
}

/// A part of a step whose examples go through the model `M` together.
pub trait MicroBatch<M>: Counts {
    /// The SUM of weight times loss over its examples, as `[1]`.
    ///
    /// # Errors
    /// If the model refuses the input.
    fn loss(&self, model: &M) -> Result<Tensor<1>>;
    /// Sum of the weights; 0 if there is nothing to learn, and then `loss` is not called.
    fn weight(&self) -> f64;
}

/// What one step was.
#[derive(Clone, Copy, Debug, PartialEq, Serialize)]
pub struct StepReport {
    /// Mean loss over the whole step: Σ weight · loss / Σ weight.
    pub loss: f64,
    /// Norm of all gradients together, before clipping.
    pub grad_norm: f64,
    /// Σ weight: of a language model, the learned tokens.
    pub weight: f64,
    /// Positions of text and pictures.
    pub tokens: usize,
    /// Pictures.
    pub images: usize,
}

/// A model and the optimizer that changes it.
#[derive(Debug)]
pub struct Trainer<M: Module> {
    /// Taken out only while it is updated, so that the weights have one owner and change in place.
    model: Option<M>,
    optimizer: AdamW,
    device: Device,
    step: u64,
}

impl<M: Module> Trainer<M> {
    /// Starts at step 0. Parts that `config` freezes need no gradient from here on, all others do.
    ///
    /// # Errors
    /// If `model` is not on an autodiff device, or nothing is left to train.
    pub fn new(model: M, config: OptimizerConfig) -> Result<Self> {
        let model = weights::freeze(model, |path| config.part(path).frozen);
        let device =
            model.devices().into_iter().next().context("the model has no parameters")?.without_autodiff();
        let optimizer = AdamW::new(config, &model);
        ensure!(
            !optimizer.is_empty(),
            "nothing to train: every part is frozen, or the device has no autodiff"
        );
        Ok(Self { model: Some(model), optimizer, device, step: 0 })
    }

    /// One step over all `batches` together at the learning rate `lr`. How the examples are cut into batches does not
    /// matter: gradients are summed, and divided by the weight of the whole step.
    ///
    /// # Errors
    /// If there is nothing to learn, or a loss or gradient is not finite; nothing is updated then.
    pub fn step<B: MicroBatch<M>>(&mut self, batches: &[B], lr: f64) -> Result<StepReport> {
        let (loss, grads) = self.gradients(batches).with_context(|| format!("step {}", self.step))?;
        let grad_norm = optim::norm(&grads).with_context(|| {
            let samples: Vec<_> = batches.iter().flat_map(Counts::samples).map(String::as_str).collect();
            format!("step {}, samples {}", self.step, samples.join(", "))
        })?;
        let update = Update { lr, norm: grad_norm, time: u32::try_from(self.step + 1)? };
        if let Some(model) = self.model.take() {
            self.model = Some(self.optimizer.update(model, grads, update));
        }
        self.step += 1;
        Ok(StepReport {
            loss,
            grad_norm,
            weight: batches.iter().map(MicroBatch::weight).sum(),
            tokens: batches.iter().map(Counts::tokens).sum(),
            images: batches.iter().map(Counts::images).sum(),
        })
    }

    /// The mean loss over all `batches` and its gradients.
    fn gradients<B: MicroBatch<M>>(&self, batches: &[B]) -> Result<(f64, Gradients)> {
        let weight: f64 = batches.iter().map(MicroBatch::weight).sum();
        ensure!(
            weight > 0.0,
            "nothing to learn: every position of {} micro-batches has weight 0",
            batches.len()
        );
        let (mut total, mut grads) = (0.0, Gradients::new());
        for batch in batches.iter().filter(|b| b.weight() > 0.0) {
            let loss = batch.loss(self.model())? / weight;
            let value: f32 = loss.clone().into_scalar();
            if !value.is_finite() {
                bail!("the loss is {value} on samples {}", batch.samples().join(", "));
            }
            total += f64::from(value);
            parameters::add_gradients(self.model(), loss.backward(), &mut grads);
        }
        Ok((total, grads))
    }

    /// The model as it is. A clone that lives on into the next step costs that step a copy of the weights.
    pub fn model(&self) -> &M {
        self.model.as_ref().expect("the model is only out while a step updates it")
    }

    /// Ends training.
    pub fn into_model(self) -> M {
        self.model.expect("the model is only out while a step updates it")
    }

    /// Steps done.
    pub fn steps_done(&self) -> u64 {
        self.step
    }

    /// All that [`Trainer::restore`] needs, with the caller's own `state`.
    pub fn snapshot(&self, state: Value) -> Snapshot {
        let weights = parameters::collect(self.model()).into_iter();
        let model = weights.map(|(path, p)| (path, parameters::download(&p.values, &p.shape)));
        Snapshot { step: self.step, model: model.collect(), optimizer: self.optimizer.export(), state }
    }

    /// Goes back to `snapshot`: the next steps are bit for bit those of the run that took it.
    ///
    /// # Errors
    /// If its tensors are not those of this model and optimizer, by name and shape; nothing is changed then.
    pub fn restore(&mut self, snapshot: Snapshot) -> Result<()> {
        let here = parameters::collect(self.model());
        let expected = here.iter().map(|(path, p)| (path.clone(), p.shape.as_slice()));
        let mut weights = parameters::upload(snapshot.model, expected, &self.device)?;
        self.optimizer.import(snapshot.optimizer, &self.device)?;
        self.model = self
            .model
            .take()
            .map(|model| parameters::map(model, |path, _, values| weights.remove(path).unwrap_or(values)));
        self.step = snapshot.step;
        Ok(())
    }
}
