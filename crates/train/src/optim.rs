//! AdamW with parameter groups and clipping by the global norm.

use std::collections::BTreeMap;

use anyhow::{Result, ensure};
use burn::backend::Flex;
use burn::module::Module;
use burn::tensor::{Device, Tensor, TensorData};
use mm1_kernels::adamw;

use crate::config::OptimizerConfig;
#[cfg(feature = "gpu")]
use crate::gpu;
use crate::moments::Moments;
use crate::parameters;

/// Gradients by path of the parameter, flat.
pub type Gradients = BTreeMap<String, Tensor<1>>;

/// The optimizer and its moments.
#[derive(Debug)]
pub(crate) struct AdamW {
    config: OptimizerConfig,
    /// By path of the parameter.
    trained: BTreeMap<String, TrainedParameter>,
}

/// What is kept of a trained parameter.
#[derive(Debug)]
struct TrainedParameter {
    shape: Vec<usize>,
    /// The factor on the learning rate.
    scale: f64,
    moments: Moments,
}

/// The numbers of one update.
#[derive(Clone, Copy, Debug)]
pub(crate) struct Update {
    pub(crate) lr: f64,
    /// The norm of all gradients together.
    pub(crate) norm: f64,
    /// The update, from 1, for the correction of the moments' bias.
    pub(crate) time: u32,
}

impl AdamW {
    /// With moments of 0 for every trained parameter.
    pub(crate) fn new<M: Module>(config: OptimizerConfig, model: &M) -> Self {
        let all = parameters::collect(model);
        let decay = config.layer_decay.factors(all.keys());
        let trained = all.into_iter().filter(|(_, p)| p.trained).map(|(path, p)| {
            let moments = Moments::zeros(config.moments, p.shape.iter().product(), &p.values.device());
            let scale = config.scale_of(&path) * decay[&path];
            (path, TrainedParameter { shape: p.shape, scale, moments })
        });
        let trained = trained.collect();
        Self { config, trained }
    }

    pub(crate) fn is_empty(&self) -> bool {
        self.trained.is_empty()
    }

    /// Updates every trained parameter; one without a gradient (the encoder's, in a step without pictures)
    /// has a gradient of 0, so that a step means the same however it is cut into micro-batches.
    pub(crate) fn update<M: Module>(&mut self, model: M, mut grads: Gradients, update: Update) -> M {
        let clip = (self.config.clip_norm / (update.norm + 1e-6)).min(1.0);
        parameters::map(model, |path, shape, values| {
            let Some(trained) = self.trained.get_mut(path) else { return values };
            let grad = grads.remove(path).unwrap_or_else(|| values.zeros_like());
            let rule = adamw::AdamWStep {
                lr: (update.lr * trained.scale) as f32,
                beta1: self.config.beta1 as f32,
                beta2: self.config.beta2 as f32,
                eps: self.config.eps as f32,
                weight_decay: if shape.len() >= 2 { self.config.weight_decay as f32 } else { 0.0 },
                time: update.time,
                grad_scale: clip as f32,
            };
            trained.moments.step(&rule, values, grad)
        })
    }

    /// The moments as they are kept, named by the parameter's path and `.m`, `.v` or `.scales`.
    pub(crate) fn export(&self) -> BTreeMap<String, TensorData> {
        let of = |(path, trained): (&String, &TrainedParameter)| {
            let tensors = trained.moments.export(&trained.shape).into_iter();
            tensors.map(|(name, data)| (format!("{path}.{name}"), data)).collect::<Vec<_>>()
        };
        self.trained.iter().flat_map(of).collect()
    }

    /// Takes the moments that [`AdamW::export`] gave; they must be those of the same parameters.
    pub(crate) fn import(&mut self, tensors: BTreeMap<String, TensorData>, device: &Device) -> Result<()> {
        let expected = self.trained.iter().flat_map(|(path, trained)| {
            let layout = trained.moments.layout(&trained.shape).into_iter();
            layout.map(move |(name, shape, dtype)| (format!("{path}.{name}"), shape, dtype))
        });
        let mut loaded = parameters::check(tensors, expected)?;
        for (path, trained) in &mut self.trained {
            trained.moments.import(|name| loaded.remove(&format!("{path}.{name}")), device)?;
        }
        Ok(())
    }
}

/// The norm of all gradients together: summed in f64, in the order of their paths.
///
/// # Errors
/// Names the first parameter whose gradient is not finite.
pub(crate) fn norm(grads: &Gradients) -> Result<f64> {
    let here = |grad: &Tensor<1>| {
        let flex = grad.clone().try_into_primitive::<Flex>().ok()?;
        Some(adamw::sum_of_squares(flex.to_contiguous().storage::<f32>()))
    };
    let squares: Vec<f64> = match grads.values().map(here).collect() {
        Some(squares) => squares,
        // On another device: all in one transfer.
        #[cfg(feature = "gpu")]
        None if grads.values().all(gpu::has) => gpu::sums_of_squares(grads.values()),
        None => {
            let squares = grads.values().map(|grad| grad.clone().square().sum()).collect();
            Tensor::cat(squares, 0).into_data().iter().collect()
        }
    };
    let mut sum = 0.0;
    for (path, squares) in grads.keys().zip(squares) {
        ensure!(squares.is_finite(), "the gradient of {path} is not finite");
        sum += squares;
    }
    Ok(sum.sqrt())
}
