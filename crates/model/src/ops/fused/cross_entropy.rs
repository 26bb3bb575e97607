//! The decoder's loss; the gradients are made on the way there, while the logits are at hand.

use burn::backend::Flex;
use burn::backend::autodiff::checkpoint::base::Checkpointer;
use burn::backend::autodiff::grads::Gradients;
use burn::backend::autodiff::ops::{Backward, Ops};
use burn::tensor::Tensor;
use burn_flex::FlexTensor;
use mm1_kernels::loss::{self, CrossEntropy, LossGrads};
use mm1_kernels::rows::scale;

use super::memory::{owned, vector};
use super::{Back, Operand, floats, record, shape, tensor};
use crate::ops::{Weight, precision};

/// See [`crate::ops::linear_cross_entropy`].
pub(in crate::ops) fn linear_cross_entropy(
    x: Tensor<3>,
    head: Weight,
    targets: &[u32],
    weights: &[f32],
) -> Tensor<1> {
    let [_, _, d] = x.dims();
    let tied = matches!(head, Weight::Table(_));
    let (x, w) = (Operand::new(x), Operand::new(head.unpacked()));
    let head = loss::OutputHead { weight: w.values(), dim: d, vocab: w.values().len() / d, tied };
    let loss = CrossEntropy { head, targets, weights, precision: precision() };
    let mut dx = x.tracked.then(|| vector(x.values().len()));
    let mut dw = w.tracked.then(|| vector(w.values().len()));
    let sum = loss.loss(x.values(), LossGrads { x: dx.as_deref_mut(), head: dw.as_deref_mut() });
    let (x_shape, w_shape) = (shape(&x.value), shape(&w.value));
    record(LinearCrossEntropy, [x.node, w.node], tensor(vec![sum as f32], [1]), || State {
        dx: dx.map(|dx| tensor(dx, x_shape)),
        dw: dw.map(|dw| tensor(dw, w_shape)),
    })
}

#[derive(Debug)]
struct LinearCrossEntropy;

#[derive(Clone, Debug)]
struct State {
    /// Gradients for an upstream gradient of 1: of the rows, and of the head.
    dx: Option<FlexTensor>,
    dw: Option<FlexTensor>,
}

impl Backward<Flex, 2> for LinearCrossEntropy {
    type State = State;

    fn backward(self, ops: Ops<State, 2>, grads: &mut Gradients, _: &mut Checkpointer) {
        let (upstream, State { dx, dw }, mut back) = Back::start(ops, grads);
        let upstream = floats(&upstream)[0];
        for (parent, grad) in [dx, dw].into_iter().enumerate() {
            if let Some(grad) = grad {
                let shape = shape(&grad);
                let mut grad = owned(grad);
                scale(&mut grad, upstream);
                back.give(parent, || tensor(grad, shape));
            }
        }
    }
}
