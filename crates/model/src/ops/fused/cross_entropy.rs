//! The decoder's loss; the gradients are made in the forward pass, while the logits are at hand.

use burn::tensor::Tensor;
use burn_flex::FlexTensor;
use mm1_kernels::loss::{self, CrossEntropy, LossGrads};
use mm1_kernels::rows::scale;

use super::record::{BackwardPass, Operation, record};
use super::{Fused, Operand, floats, shape, tensor};
use crate::ops::Weight;

/// See [`crate::ops::Operations::linear_cross_entropy`].
pub(super) fn linear_cross_entropy(
    fused: &Fused,
    x: Tensor<3>,
    head: Weight,
    targets: &[u32],
    weights: &[f32],
) -> Tensor<1> {
    let ([_, _, d], memory) = (x.dims(), &fused.memory);
    let tied = matches!(head, Weight::Table(_));
    let (x, w) = (Operand::new(x), Operand::new(head.unpacked()));
    let head = loss::OutputHead { weight: w.values(), dim: d, vocab: w.values().len() / d, tied };
    let loss = CrossEntropy { head, targets, weights, precision: fused.precision };
    let mut dx = x.tracked.then(|| memory.floats(x.values().len()));
    let mut dw = w.tracked.then(|| memory.floats(w.values().len()));
    let sum = loss.loss(x.values(), LossGrads { x: dx.as_deref_mut(), head: dw.as_deref_mut() });
    let (x_shape, w_shape) = (shape(&x.value), shape(&w.value));
    record(LinearCrossEntropy, memory, [x.node, w.node], tensor(vec![sum as f32], [1]), || State {
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

impl Operation<2> for LinearCrossEntropy {
    type State = State;

    fn backward(State { dx, dw }: State, dy: FlexTensor, mut pass: BackwardPass<'_, 2>) {
        let upstream = floats(&pass.memory.in_f32(dy))[0];
        for (parent, grad) in [dx, dw].into_iter().enumerate() {
            if let Some(grad) = grad {
                let shape = shape(&grad);
                let mut grad = pass.memory.to_change(grad);
                scale(&mut grad, upstream);
                pass.give(parent, || tensor(grad, shape));
            }
        }
    }
}
