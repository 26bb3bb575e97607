//! `activation(norm(x))`.

use std::sync::Arc;

use burn::backend::Flex;
use burn::backend::autodiff::checkpoint::base::Checkpointer;
use burn::backend::autodiff::grads::Gradients;
use burn::backend::autodiff::ops::{Backward, NodeGuard, Ops};
use burn::tensor::Tensor;
use burn_flex::FlexTensor;
use half::bf16;
use mm1_kernels::gemm::Precision;
use mm1_kernels::norm::{Norm as Kernel, NormGrad, RowStats};

use super::memory::{Number as _, Values, lies_in, owned, rounded, vector};
use super::{Back, Operand, floats, record, shape, tensor};
use crate::ops::{Activation, Norm, precision};

/// See [`crate::ops::norm`].
pub(in crate::ops) fn norm(x: Tensor<3>, by: &Norm) -> Tensor<3> {
    norm_activation(x, by, Activation::None)
}

/// See [`crate::ops::norm_activation`].
pub(in crate::ops) fn norm_activation(x: Tensor<3>, by: &Norm, activation: Activation) -> Tensor<3> {
    let [b, t, d] = x.dims();
    let width = activation.width(d);
    let (x, (norm, [gamma, beta])) = (Operand::new(x), operands(by));
    let mut y = vector(b * t * d);
    let mut stats = norm.kernel().forward(x.values(), &mut y);
    if let Some(activation) = activation.kernel() {
        let normed = std::mem::replace(&mut y, vector(b * t * width));
        activation.forward(&normed, width, &mut y);
    }
    record(NormActivation, [x.node, gamma, beta], tensor(y, [b, t, width]), || {
        let x = norm.kept(x.value, &mut stats, precision());
        State { x, norm, stats: Arc::new(stats), activation }
    })
}

/// A norm's parameters as kept for the way back.
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
    /// Rows as kept for the way back through a norm.
    pub(super) fn kept(&self, x: FlexTensor, stats: &mut [RowStats], precision: Precision) -> FlexTensor {
        if precision == Precision::F32 {
            return x;
        }
        let mut centred = Values::<bf16>::some(floats(&x).len());
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
    /// As kept for the norm.
    x: FlexTensor,
    norm: NormParams,
    stats: Arc<Vec<RowStats>>,
    activation: Activation,
}

impl Backward<Flex, 3> for NormActivation {
    type State = State;

    fn backward(self, ops: Ops<State, 3>, grads: &mut Gradients, _: &mut Checkpointer) {
        let (dy, State { x, norm, stats, activation }, mut back) = Back::start(ops, grads);
        let ([_, _, width], kernel) = (shape(&dy).dims(), norm.kernel());
        let mut grad = owned(dy);
        let NormGrad { gamma, beta } = rounded!(lies_in(&x), T => {
            let x = T::of(&x);
            if let Some(activation) = activation.kernel() {
                let mut normed = vector(x.len());
                kernel.apply(x, &stats, &mut normed);
                let mut slopes = vector(x.len());
                activation.backward(&normed, width, &mut grad, &mut slopes);
                grad = slopes;
            }
            kernel.backward(x, &stats, &mut grad)
        });
        let d = gamma.len();
        back.give(0, || tensor(grad, shape(&x)));
        back.give(1, || tensor(gamma, [d]));
        back.give(2, || tensor(beta, [d]));
    }
}
