//! AdamW with parameter groups and clipping by the global norm.

use std::collections::BTreeMap;

use anyhow::{Result, ensure};
use burn::backend::Flex;
use burn::module::Module;
use burn::tensor::{DType, Device, Tensor, TensorData};
use half::bf16;
use mm1_kernels::adamw;
use mm1_model::ops::Precision;
use mm1_model::weights::Group;

use crate::parameters::{self, Parameter};

/// How one part of the model is trained.
#[derive(Clone, Copy, Debug, PartialEq)]
pub struct Part {
    /// A factor on the learning rate.
    pub scale: f64,
    /// A frozen part gets no gradient, no update and no moments.
    pub frozen: bool,
}

impl Default for Part {
    fn default() -> Self {
        Self { scale: 1.0, frozen: false }
    }
}

/// The optimizer's settings.
#[derive(Clone, Copy, Debug, PartialEq)]
pub struct OptimizerConfig {
    /// Decay of the first moment.
    pub beta1: f64,
    /// Decay of the second moment.
    pub beta2: f64,
    /// Added to the root of the second moment.
    pub eps: f64,
    /// Decoupled weight decay, PyTorch's meaning: a step shrinks a weight by `lr * weight_decay` of itself. It applies
    /// to tensors of two or more dimensions (linear maps, convolutions, embeddings, position tables) and not to
    /// norms and biases, as in nanoGPT and OpenCLIP.
    pub weight_decay: f64,
    /// Gradients are scaled down so that the norm of all of them together is at most this.
    pub clip_norm: f64,
    /// How the moments are kept between steps. In bf16 a trained parameter takes 12 bytes in place of 16 (DeepSeek-V3, arXiv
    /// 2412.19437, section 3.3.3). It needs decays that move a moment by more than its rounding, as these do: b2 0.999 would not.
    pub moments: Precision,
    /// Parameters under `vision.`.
    pub vision: Part,
    /// Parameters under `connector.`.
    pub connector: Part,
    /// All others: the decoder, or what is trained beside an encoder.
    pub lm: Part,
}

impl Default for OptimizerConfig {
    /// The paper's (section 3.3 and appendix B): b1 0.9, b2 0.95, eps 1e-8, decay 0.1, clip 1, nothing frozen; moments in f32.
    fn default() -> Self {
        Self {
            beta1: 0.9,
            beta2: 0.95,
            eps: 1e-8,
            weight_decay: crate::law::WEIGHT_DECAY,
            clip_norm: 1.0,
            moments: Precision::F32,
            vision: Part::default(),
            connector: Part::default(),
            lm: Part::default(),
        }
    }
}

impl OptimizerConfig {
    /// How the parameter at `path` is trained.
    pub fn part(&self, path: &str) -> Part {
        match Group::of(path) {
            Some(Group::Vision) => self.vision,
            Some(Group::Connector) => self.connector,
            Some(Group::Lm) | None => self.lm,
        }
    }
}

/// Gradients by path of the parameter, flat.
pub type Gradients = BTreeMap<String, Tensor<1>>;

/// The optimizer and its moments.
#[derive(Debug)]
pub(crate) struct AdamW {
    config: OptimizerConfig,
    moments: BTreeMap<String, Moments>,
}

#[derive(Debug)]
struct Moments {
    shape: Vec<usize>,
    first: Tensor<1>,
    second: Tensor<1>,
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
        let trained = parameters::collect(model).into_iter().filter(|(_, p)| p.trained);
        let kept = match config.moments {
            Precision::F32 => DType::F32,
            Precision::Bf16 => DType::BF16,
        };
        let zeros =
            |p: &Parameter| Tensor::zeros([p.shape.iter().product::<usize>()], (&p.values.device(), kept));
        let moments = trained.map(|(path, p)| {
            let (first, second) = (zeros(&p), zeros(&p));
            (path, Moments { shape: p.shape, first, second })
        });
        Self { config, moments: moments.collect() }
    }

    pub(crate) fn is_empty(&self) -> bool {
        self.moments.is_empty()
    }

    /// Updates every trained parameter; one without a gradient (the encoder's, in a step without pictures) has a
    /// gradient of 0, so that a step means the same however it is cut into micro-batches.
    pub(crate) fn update<M: Module>(&mut self, model: M, mut grads: Gradients, update: Update) -> M {
        let clip = (self.config.clip_norm / (update.norm + 1e-6)).min(1.0);
        parameters::map(model, |path, shape, values| {
            let Some(moments) = self.moments.get_mut(path) else { return values };
            let grad = grads.remove(path).unwrap_or_else(|| values.zeros_like());
            let rule = adamw::AdamW {
                lr: (update.lr * self.config.part(path).scale) as f32,
                beta1: self.config.beta1 as f32,
                beta2: self.config.beta2 as f32,
                eps: self.config.eps as f32,
                weight_decay: if shape.len() >= 2 { self.config.weight_decay as f32 } else { 0.0 },
                time: update.time,
                grad_scale: clip as f32,
            };
            step(&rule, values, grad, moments)
        })
    }

    /// The moments as tensors of their parameter's shape, named by its path and `.m` or `.v`, as they are kept.
    pub(crate) fn export(&self) -> BTreeMap<String, TensorData> {
        let mut tensors = BTreeMap::new();
        for (path, Moments { shape, first, second }) in &self.moments {
            for (moment, values) in [("m", first), ("v", second)] {
                tensors.insert(format!("{path}.{moment}"), parameters::download(values, shape));
            }
        }
        tensors
    }

    /// Takes the moments that [`AdamW::export`] gave; they must be those of the same parameters.
    pub(crate) fn import(&mut self, tensors: BTreeMap<String, TensorData>, device: &Device) -> Result<()> {
        let expected = self.moments.iter().flat_map(|(path, moments)| {
            ["m", "v"]
                .map(|moment| (format!("{path}.{moment}"), moments.shape.as_slice(), moments.first.dtype()))
        });
        let mut loaded = parameters::upload(tensors, expected, device)?;
        for (path, moments) in &mut self.moments {
            for (moment, values) in [("m", &mut moments.first), ("v", &mut moments.second)] {
                if let Some(tensor) = loaded.remove(&format!("{path}.{moment}")) {
                    *values = tensor;
                }
            }
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

/// One step of one parameter: in place, in one pass, where its values lie in this process; by the engine's operations
/// elsewhere.
fn step(rule: &adamw::AdamW, values: Tensor<1>, grad: Tensor<1>, moments: &mut Moments) -> Tensor<1> {
    let Ok(grad_values) = grad.clone().try_into_primitive::<Flex>() else {
        return step_composed(rule, values, grad, moments);
    };
    let empty = || Tensor::zeros([0], &grad.device());
    let own = |t: Tensor<1>| {
        t.try_into_primitive::<Flex>().expect("a parameter is where its gradient is").to_contiguous()
    };
    let bf16s = moments.first.dtype() == DType::BF16;
    let mut values = own(values);
    let mut first = own(std::mem::replace(&mut moments.first, empty()));
    let mut second = own(std::mem::replace(&mut moments.second, empty()));
    let grad_values = grad_values.to_contiguous();
    let (to, along) = (values.storage_mut(), grad_values.storage());
    if bf16s {
        let moments = adamw::Moments { first: first.storage_mut::<bf16>(), second: second.storage_mut() };
        rule.step(to, along, moments);
    } else {
        let moments = adamw::Moments { first: first.storage_mut::<f32>(), second: second.storage_mut() };
        rule.step(to, along, moments);
    }
    moments.first = Tensor::from_primitive::<Flex>(first);
    moments.second = Tensor::from_primitive::<Flex>(second);
    Tensor::from_primitive::<Flex>(values)
}

fn step_composed(
    rule: &adamw::AdamW,
    values: Tensor<1>,
    grad: Tensor<1>,
    moments: &mut Moments,
) -> Tensor<1> {
    let correction = |beta: f32| (1.0 - f64::from(beta).powi(rule.time.cast_signed())) as f32;
    let grad = grad * rule.grad_scale;
    let kept = moments.first.dtype();
    let mean = moments.first.clone().cast(DType::F32) * rule.beta1 + grad.clone() * (1.0 - rule.beta1);
    let square = moments.second.clone().cast(DType::F32) * rule.beta2 + grad.square() * (1.0 - rule.beta2);
    (moments.first, moments.second) = (mean.clone().cast(kept), square.clone().cast(kept));
    let root = (square / correction(rule.beta2)).sqrt() + rule.eps;
    let move_by = mean / root * (rule.lr / correction(rule.beta1));
    values * (1.0 - rule.lr * rule.weight_decay) - move_by
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn the_engines_operations_give_the_same_step() {
        for (kept, digits) in [(DType::F32, 1e-6), (DType::BF16, 1e-3)] {
            let device = Device::flex();
            let tensor = |f: fn(usize) -> f32| {
                Tensor::<1>::from_data(TensorData::new((0..1000).map(f).collect::<Vec<_>>(), [1000]), &device)
            };
            let moments = || Moments {
                shape: vec![1000],
                first: tensor(|i| (i as f32 * 0.7).sin() * 0.1).cast(kept),
                second: tensor(|i| (i as f32 * 0.3).cos().powi(2) * 0.01).cast(kept),
            };
            let (values, grad) = (tensor(|i| (i as f32).sin()), tensor(|i| (i as f32 * 1.3).cos()));
            let rule = adamw::AdamW {
                lr: 1e-2,
                beta1: 0.9,
                beta2: 0.95,
                eps: 1e-8,
                weight_decay: 0.1,
                time: 3,
                grad_scale: 0.5,
            };
            let (mut a, mut b) = (moments(), moments());
            let fused = step(&rule, values.clone(), grad.clone(), &mut a);
            let composed = step_composed(&rule, values.clone(), grad, &mut b);
            let apart = |x: &Tensor<1>, y: &Tensor<1>| -> f32 {
                (x.clone().cast(DType::F32) - y.clone().cast(DType::F32)).abs().max().into_scalar()
            };
            assert!(apart(&fused, &composed) < 1e-6);
            for (x, y) in [(&a.first, &b.first), (&a.second, &b.second)] {
                assert_eq!((x.dtype(), y.dtype()), (kept, kept));
                // A sum that lies between two numbers of bfloat16 may go to either.
                assert!(apart(x, y) < digits, "{kept:?}: they differ by {}", apart(x, y));
            }
            assert!(apart(&fused, &values) > 1e-3, "nothing moved");
        }
    }
}
