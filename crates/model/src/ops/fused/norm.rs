//! `activation(norm(x))`.

use std::sync::Arc;

use burn::backend::autodiff::ops::NodeGuard;
use burn::tensor::Tensor;
use burn_flex::FlexTensor;
use half::bf16;
use mm1_kernels::gemm::Precision;
use mm1_kernels::norm::{NormGrad, RowNorm as Kernel, RowStats};

use super::memory::{Number as _, precision_of, with_number};
use super::record::{BackwardPass, Operation, record};
use super::{Fused, Operand, floats, shape, tensor};
use crate::ops::{Activation, Norm};

/// See [`crate::ops::Operations::norm_activation`].
pub(super) fn norm_activation(fused: &Fused, x: Tensor<3>, by: &Norm, activation: Activation) -> Tensor<3> {
    let ([b, t, d], memory) = (x.dims(), &fused.memory);
    let width = activation.width(d);
    let (x, (norm, [gamma, beta])) = (Operand::new(x), operands(by));
    let mut y = memory.floats(b * t * d);
    let mut stats = norm.kernel().forward(x.values(), &mut y);
    if activation != Activation::Identity {
        let normed = std::mem::replace(&mut y, memory.floats(b * t * width));
        activation.forward(&normed, width, &mut y);
    }
    record(NormActivation, memory, [x.node, gamma, beta], tensor(y, [b, t, width]), || {
        let x = norm.saved(fused, x.value, &mut stats);
        State { x, norm, stats: Arc::new(stats), activation }
    })
}

/// A norm's parameters as saved for backward.
#[derive(Clone, Debug)]
pub(super) struct NormParams {
    gamma: FlexTensor,
    beta: Option<FlexTensor>,
    eps: f32,
}

/// A norm's parameters, and the nodes of gamma and beta.
pub(super) fn operands(norm: &Norm) -> (NormParams, [Option<NodeGuard>; 2]) {
    let (gamma, beta, eps) = match norm {
        Norm::Rms { gamma, eps } => (gamma, None, *eps),
        Norm::Layer { gamma, beta, eps } => (gamma, Some(Operand::new(beta.clone())), *eps),
    };
    let gamma = Operand::new(gamma.clone());
    let (beta, beta_node) = beta.map(|b| (b.value, b.node)).unzip();
    (NormParams { gamma: gamma.value, beta, eps: eps as f32 }, [gamma.node, beta_node.flatten()])
}

impl NormParams {
    /// Rows as saved for the backward pass of a norm, in the precision of products: bfloat16 ones without
    /// their mean, of which they would have fewer digits.
    pub(super) fn saved(&self, fused: &Fused, x: FlexTensor, stats: &mut [RowStats]) -> FlexTensor {
        if fused.precision == Precision::F32 {
            return x;
        }
        let mut centred = fused.memory.uninitialised::<bf16>(floats(&x).len());
        self.kernel().centre(floats(&x), stats, &mut centred);
        tensor(centred, shape(&x))
    }

    pub(super) fn kernel(&self) -> Kernel<'_> {
        Kernel { gamma: floats(&self.gamma), beta: self.beta.as_ref().map(floats), eps: self.eps }
    }
}

#[derive(Debug)]
struct NormActivation;

#[derive(Clone, Debug)]
struct State {
    /// See [`NormParams::saved`].
    x: FlexTensor,
    norm: NormParams,
    stats: Arc<Vec<RowStats>>,
    activation: Activation,
}

impl Operation<3> for NormActivation {
    type State = State;

    fn backward(state: State, dy: FlexTensor, mut pass: BackwardPass<'_, 3>) {
        let (State { x, norm, stats, activation }, memory) = (state, pass.memory.clone());
        let ([_, _, width], kernel) = (shape(&dy).dims(), norm.kernel());
        let mut grad = memory.to_change(memory.in_f32(dy));
        let NormGrad { gamma, beta } = with_number!(precision_of(&x), T => {
            let x = T::of(&x);
            if activation != Activation::Identity {
                let mut normed = memory.floats(x.len());
                kernel.apply(x, &stats, &mut normed);
                let mut d_normed = memory.floats(x.len());
                activation.backward(&normed, width, &mut grad, &mut d_normed);
                grad = d_normed;
            }
            kernel.backward(x, &stats, &mut grad)
        });
        let d = gamma.len();
        pass.give(0, || tensor(grad, shape(&x)));
        pass.give(1, || tensor(gamma, [d]));
        pass.give(2, || tensor(beta, [d]));
    }
}
