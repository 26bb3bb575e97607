//! The decoder's loss; the gradients are made on the way there, while the logits are at hand.

use std::sync::Arc;

use burn::backend::Flex;
use burn::backend::autodiff::checkpoint::base::Checkpointer;
use burn::backend::autodiff::grads::Gradients;
use burn::backend::autodiff::ops::{Backward, Ops};
use burn::tensor::{Shape, Tensor};
use burn_flex::FlexTensor;
use mm1_kernels::embedding::{Blocks, gather};
use mm1_kernels::loss::{self, CrossEntropy, LossGrads};
use mm1_kernels::rows::scale;

use super::memory::{owned, vector, zeros};
use super::{Back, Operand, floats, record, shape, tensor};
use crate::ops::{Weight, precision};

/// See [`crate::ops::linear_cross_entropy`].
pub(in crate::ops) fn linear_cross_entropy(
    x: Tensor<3>,
    head: Weight,
    targets: &[u32],
    weights: &[f32],
) -> Tensor<1> {
    let (x_shape, [_, _, d]) = (x.shape(), x.dims());
    let tied = matches!(head, Weight::Table(_));
    let (x, w) = (Operand::new(x), Operand::new(head.trained()));
    let learned: Vec<usize> = (0..targets.len()).filter(|&i| weights[i] > 0.0).collect();
    let rows: Vec<u32> = learned.iter().map(|&i| i as u32).collect();
    let targets: Vec<u32> = learned.iter().map(|&i| targets[i]).collect();
    let weights: Vec<f32> = learned.iter().map(|&i| weights[i]).collect();
    let mut values = vector(rows.len() * d);
    gather(x.values(), d, &rows, &mut values);

    let head = loss::Head { weight: w.values(), dim: d, vocab: w.values().len() / d, tied };
    let loss = CrossEntropy { head, targets: &targets, weights: &weights, precision: precision() };
    let mut dx = x.tracked.then(|| vector(values.len()));
    let mut dw = w.tracked.then(|| vector(w.values().len()));
    let sum = loss.loss(&values, LossGrads { x: dx.as_deref_mut(), head: dw.as_deref_mut() });
    let w_shape = shape(&w.value);
    record(LinearCrossEntropy, [x.node, w.node], tensor(vec![sum as f32], [1]), || State {
        learned: Arc::new(learned),
        x_shape,
        dx: dx.map(|dx| tensor(dx, [rows.len(), d])),
        dw: dw.map(|dw| tensor(dw, w_shape)),
    })
}

#[derive(Debug)]
struct LinearCrossEntropy;

#[derive(Clone, Debug)]
struct State {
    /// The positions whose weight is above 0.
    learned: Arc<Vec<usize>>,
    x_shape: Shape,
    /// Gradients for an upstream gradient of 1: of the learned rows, and of the head.
    dx: Option<FlexTensor>,
    dw: Option<FlexTensor>,
}

impl Backward<Flex, 2> for LinearCrossEntropy {
    type State = State;

    fn backward(self, ops: Ops<State, 2>, grads: &mut Gradients, _: &mut Checkpointer) {
        let (upstream, State { learned, x_shape, dx, dw }, mut back) = Back::start(ops, grads);
        let upstream = floats(&upstream)[0];
        let scaled = |grad: FlexTensor| {
            let mut grad = owned(grad);
            scale(&mut grad, upstream);
            grad
        };
        if let Some(dx) = dx {
            let [_, dim] = shape(&dx).dims();
            let mut all = zeros(x_shape.num_elements());
            let dx = scaled(dx);
            Blocks { starts: &learned, rows: 1, dim }.place(&dx, &mut all);
            back.give(0, || tensor(all, x_shape));
        }
        if let Some(dw) = dw {
            let shape = shape(&dw);
            back.give(1, || tensor(scaled(dw), shape));
        }
    }
}
