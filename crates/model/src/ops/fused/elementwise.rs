//! Gated channels, and activations of sums.

use burn::backend::Flex;
use burn::backend::autodiff::checkpoint::base::Checkpointer;
use burn::backend::autodiff::grads::Gradients;
use burn::backend::autodiff::ops::{Backward, Ops};
use burn::tensor::Tensor;
use burn_flex::FlexTensor;
use mm1_kernels::{gate as kernel, rows};

use super::memory::{Number as _, kept, lies_in, owned, rounded, vector};
use super::{Back, Operand, floats, record, shape, tensor};
use crate::ops::{Activation, precision};

/// See [`crate::ops::gate`].
pub(in crate::ops) fn gate(x: Tensor<3>, gates: Tensor<3>) -> Tensor<3> {
    let ([_, _, c], x_shape) = (x.dims(), x.shape());
    let (x, gates) = (Operand::new(x), Operand::new(gates));
    let mut y = vector(x.values().len());
    kernel::forward(x.values(), gates.values(), c, &mut y);
    record(Gate, [x.node, gates.node], tensor(y, x_shape), || (kept(x.value, precision()), gates.value))
}

#[derive(Debug)]
struct Gate;

impl Backward<Flex, 2> for Gate {
    type State = (FlexTensor, FlexTensor);

    fn backward(self, ops: Ops<Self::State, 2>, grads: &mut Gradients, _: &mut Checkpointer) {
        let (dy, (x, gates), mut back) = Back::start(ops, grads);
        let ([_, _, c], mut grad) = (shape(&x).dims(), owned(dy));
        let dgates = rounded!(lies_in(&x), T => kernel::backward(T::of(&x), floats(&gates), c, &mut grad));
        back.give(0, || tensor(grad, shape(&x)));
        back.give(1, || tensor(dgates, shape(&gates)));
    }
}

/// See [`crate::ops::add_activation`].
pub(in crate::ops) fn add_activation(x: Tensor<3>, y: Tensor<3>, activation: Activation) -> Tensor<3> {
    let [b, t, d] = x.dims();
    let width = activation.width(d);
    let (x, y) = (Operand::new(x), Operand::new(y));
    let mut sum = owned(x.value);
    rows::add(&mut sum, y.values());
    let sum = tensor(sum, [b, t, d]);
    let out = match activation.kernel() {
        None => sum.clone(),
        Some(activation) => {
            let mut out = vector(b * t * width);
            activation.forward(floats(&sum), width, &mut out);
            tensor(out, [b, t, width])
        }
    };
    let state = || activation.kernel().map(|activation| (kept(sum, precision()), activation));
    record(AddActivation, [x.node, y.node], out, state)
}

#[derive(Debug)]
struct AddActivation;

impl Backward<Flex, 2> for AddActivation {
    /// The sum and its activation, where there is one.
    type State = Option<(FlexTensor, mm1_kernels::activation::Activation)>;

    fn backward(self, ops: Ops<Self::State, 2>, grads: &mut Gradients, _: &mut Checkpointer) {
        let (mut dy, activated, mut back) = Back::start(ops, grads);
        if let Some((sum, activation)) = activated {
            let [_, _, width] = shape(&dy).dims();
            rounded!(lies_in(&sum), T => {
                let (mut grad, mut slopes) = (owned(dy), vector(T::of(&sum).len()));
                activation.backward(T::of(&sum), width, &mut grad, &mut slopes);
                dy = tensor(slopes, shape(&sum));
            });
        }
        back.give(0, || dy.clone());
        back.give(1, || dy);
    }
}
