//! AdamW's moments of one parameter: how they are stored, and a step with them.

use anyhow::{Context, Result};
use burn::backend::Flex;
use burn::tensor::{DType, Device, Tensor, TensorData};
use mm1_kernels::adamw::{self, AdamWStep, ByteMoments, StepFactors};
use schemars::JsonSchema;
use serde::{Deserialize, Serialize};

#[cfg(feature = "gpu")]
use crate::gpu;
use crate::parameters;

/// How AdamW's moments are stored between steps; a step computes in f32.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq, Serialize, Deserialize, JsonSchema)]
pub enum MomentFormat {
    /// Four bytes each.
    #[default]
    #[serde(rename = "f32")]
    F32,
    /// A byte each, in blocks with a scale and stochastic rounding ([`ByteMoments`]). They lie in this
    /// process: on another device a step moves weight and gradient here and back.
    #[serde(rename = "8bit")]
    EightBit,
}

/// Bytes of a trained parameter's gradient. In a step of one micro-batch it lies where activations lay.
pub const GRADIENT_BYTES: u64 = 4;

impl MomentFormat {
    /// Bytes of so many trained parameters: weight and gradient in f32, and two moments.
    pub fn state_bytes(self, parameters: usize) -> u64 {
        let moments = match self {
            Self::F32 => 8 * parameters,
            Self::EightBit => 2 * parameters + 8 * parameters.div_ceil(adamw::BLOCK),
        };
        (4 + GRADIENT_BYTES) * parameters as u64 + moments as u64
    }
}

#[derive(Debug)]
pub(crate) enum Moments {
    /// Where the parameter is: the first and the second.
    Floats(Box<[Tensor<1>; 2]>),
    Bytes(ByteMoments),
}

impl Moments {
    pub(crate) fn zeros(format: MomentFormat, count: usize, device: &Device) -> Self {
        match format {
            MomentFormat::F32 => Self::Floats(Box::new([(); 2].map(|()| Tensor::zeros([count], device)))),
            MomentFormat::EightBit => Self::Bytes(ByteMoments::zeros(count)),
        }
    }

    /// What a checkpoint holds of a whole parameter of `shape`: names, shapes and types.
    pub(crate) fn layout(&self, shape: &[usize]) -> Vec<(&'static str, Vec<usize>, DType)> {
        let of = |name, dtype| (name, shape.to_vec(), dtype);
        match self {
            Self::Floats(_) => vec![of("m", DType::F32), of("v", DType::F32)],
            Self::Bytes(_) => vec![
                of("m", DType::I8),
                of("v", DType::U8),
                ("scales", vec![shape.iter().product::<usize>().div_ceil(adamw::BLOCK), 2], DType::F32),
            ],
        }
    }

    /// The tensors of [`Moments::layout`].
    pub(crate) fn export(&self, shape: &[usize]) -> Vec<(&'static str, TensorData)> {
        match self {
            Self::Floats(tensors) => {
                let named = [("m", &tensors[0]), ("v", &tensors[1])];
                named.map(|(name, t)| (name, parameters::download(t, shape))).to_vec()
            }
            Self::Bytes(ByteMoments { first, second, scales }) => vec![
                ("m", TensorData::new(first.clone(), shape)),
                ("v", TensorData::new(second.clone(), shape)),
                ("scales", TensorData::new(scales.as_flattened().to_vec(), [scales.len(), 2])),
            ],
        }
    }

    /// Takes the tensors of [`Moments::layout`] by their names.
    pub(crate) fn import(
        &mut self,
        mut take: impl FnMut(&str) -> Option<TensorData>,
        device: &Device,
    ) -> Result<()> {
        let mut take = |name| take(name).with_context(|| format!("the checkpoint lacks .{name}"));
        *self = match self {
            Self::Floats(_) => {
                let (first, second) = (take("m")?, take("v")?);
                Self::Floats(Box::new([first, second].map(|data| parameters::upload(data, device))))
            }
            Self::Bytes(_) => Self::Bytes(ByteMoments {
                first: take("m")?.try_to_vec()?,
                second: take("v")?.try_to_vec()?,
                scales: take("scales")?.try_to_vec()?.as_chunks().0.to_vec(),
            }),
        };
        Ok(())
    }

    /// One step of the parameter with `values`: in place, in one pass, where they lie in this process.
    /// `values` are those from number `begin` on, which is the first of a piece.
    pub(crate) fn step(
        &mut self,
        rule: &AdamWStep,
        values: Tensor<1>,
        grad: Tensor<1>,
        begin: usize,
    ) -> Tensor<1> {
        let Ok(grad_here) = grad.clone().try_into_primitive::<Flex>() else {
            return self.step_elsewhere(rule, values, grad, begin);
        };
        let own = |t: Tensor<1>| {
            t.try_into_primitive::<Flex>().expect("a parameter is where its gradient is").to_contiguous()
        };
        let (mut values, grad_here) = (own(values), grad_here.to_contiguous());
        self.step_here(rule, values.storage_mut(), grad_here.storage(), begin);
        Tensor::from_primitive::<Flex>(values)
    }

    /// The same of values on the host, which change in place. They are those of a parameter on `device`.
    ///
    /// # Errors
    /// Values that are not f32.
    pub(crate) fn step_values(
        &mut self,
        rule: &AdamWStep,
        values: &mut [f32],
        grad: &[f32],
        (begin, device): (usize, Device),
    ) -> Result<()> {
        if let Self::Floats(tensors) = self
            && tensors[0].clone().try_into_primitive::<Flex>().is_err()
        {
            let there = |x: &[f32]| Tensor::from_data(TensorData::new(x.to_vec(), [x.len()]), &device);
            let moved = self.step(rule, there(values), there(grad), begin);
            return parameters::read(moved, |moved| values.copy_from_slice(moved));
        }
        self.step_here(rule, values, grad, begin);
        Ok(())
    }

    /// The same with moments on the host.
    fn step_here(&mut self, rule: &AdamWStep, values: &mut [f32], grad: &[f32], begin: usize) {
        match self {
            Self::Bytes(moments) => rule.step_bytes_from(begin, values, grad, moments),
            Self::Floats(tensors) => {
                let own = |t: &mut Tensor<1>| {
                    let empty = Tensor::zeros([0], &t.device());
                    let moment = std::mem::replace(t, empty).try_into_primitive::<Flex>();
                    moment.expect("moments are where their parameter is").to_contiguous()
                };
                let [mut first, mut second] = tensors.each_mut().map(own);
                let moments = adamw::MomentsMut { first: first.storage_mut(), second: second.storage_mut() };
                rule.step(values, grad, moments);
                **tensors = [first, second].map(Tensor::from_primitive::<Flex>);
            }
        }
    }

    /// The same on another device, and there if the moments are there.
    fn step_elsewhere(
        &mut self,
        rule: &AdamWStep,
        values: Tensor<1>,
        grad: Tensor<1>,
        begin: usize,
    ) -> Tensor<1> {
        match self {
            Self::Bytes(moments) => {
                let device = values.device();
                let [mut here, along] = [values, grad].map(|t| t.into_data().iter().collect::<Vec<f32>>());
                rule.step_bytes_from(begin, &mut here, &along, moments);
                let count = here.len();
                Tensor::from_data(TensorData::new(here, [count]), &device)
            }
            Self::Floats(tensors) => {
                #[cfg(feature = "gpu")]
                if gpu::has(&grad) {
                    return gpu::step(rule, values, grad, tensors);
                }
                step_composed(rule, values, grad, tensors)
            }
        }
    }
}

/// One step by the engine's operations, on any device: the reference.
fn step_composed(
    rule: &AdamWStep,
    values: Tensor<1>,
    grad: Tensor<1>,
    [first, second]: &mut [Tensor<1>; 2],
) -> Tensor<1> {
    let StepFactors { rate, keep, root } = rule.factors();
    let grad = grad * rule.grad_scale;
    *first = first.clone() * rule.beta1 + grad.clone() * (1.0 - rule.beta1);
    *second = second.clone() * rule.beta2 + grad.square() * (1.0 - rule.beta2);
    let spread = second.clone().sqrt() * root + rule.eps;
    values * keep - first.clone() / spread * rate
}

#[cfg(test)]
mod tests {
    use super::*;

    const RULE: AdamWStep = AdamWStep {
        lr: 1e-2,
        beta1: 0.9,
        beta2: 0.95,
        eps: 1e-8,
        weight_decay: 0.1,
        time: 3,
        grad_scale: 0.5,
    };

    fn tensor(f: fn(usize) -> f32) -> Tensor<1> {
        let values: Vec<_> = (0..1000).map(f).collect();
        Tensor::from_data(TensorData::new(values, [1000]), &Device::flex())
    }

    fn apart(x: &Tensor<1>, y: &Tensor<1>) -> f32 {
        (x.clone() - y.clone()).abs().max().into_scalar()
    }

    #[test]
    fn the_engines_operations_give_the_same_step() {
        let (values, grad) = (tensor(|i| (i as f32).sin()), tensor(|i| (i as f32 * 1.3).cos()));
        let first = tensor(|i| (i as f32 * 0.7).sin() * 0.1);
        let second = tensor(|i| (i as f32 * 0.3).cos().powi(2) * 0.01);
        let [mut here, mut elsewhere] =
            [(); 2].map(|()| Moments::Floats(Box::new([first.clone(), second.clone()])));
        let fused = here.step(&RULE, values.clone(), grad.clone(), 0);
        let composed = elsewhere.step_elsewhere(&RULE, values.clone(), grad, 0);
        assert!(apart(&fused, &composed) < 1e-6);
        let (Moments::Floats(here), Moments::Floats(elsewhere)) = (here, elsewhere) else {
            panic!("moments changed their kind");
        };
        assert!(here.iter().zip(elsewhere.iter()).all(|(x, y)| apart(x, y) < 1e-6));
        assert!(apart(&fused, &values) > 1e-3, "nothing moved");
    }

    #[test]
    fn moments_in_bytes_step_the_same_for_another_device() {
        let (values, grad) = (tensor(|i| (i as f32).sin()), tensor(|i| (i as f32 * 1.3).cos()));
        let [mut here, mut elsewhere] =
            [(); 2].map(|()| Moments::zeros(MomentFormat::EightBit, 1000, &Device::flex()));
        let there = elsewhere.step_elsewhere(&RULE, values.clone(), grad.clone(), 0);
        assert_eq!(here.step(&RULE, values, grad, 0).into_data(), there.into_data());
        assert_eq!(here.export(&[10, 100]), elsewhere.export(&[10, 100]));
    }

    #[test]
    fn the_bill_is_what_is_kept() {
        for format in [MomentFormat::F32, MomentFormat::EightBit] {
            let moments = Moments::zeros(format, 1000, &Device::flex()).export(&[1000]);
            let kept: usize = moments.iter().map(|(_, data)| data.bytes().len()).sum();
            assert_eq!(format.state_bytes(1000), 8 * 1000 + kept as u64, "{format:?}");
        }
    }

    #[test]
    fn a_checkpoint_holds_what_its_layout_says() {
        for format in [MomentFormat::F32, MomentFormat::EightBit] {
            let moments = Moments::zeros(format, 1000, &Device::flex());
            let exported = moments.export(&[10, 100]).into_iter();
            let exported: Vec<_> =
                exported.map(|(name, d)| (name, d.shape().as_slice().to_vec(), d.dtype())).collect();
            assert_eq!(exported, moments.layout(&[10, 100]), "{format:?}");
        }
    }
}
