//! Gated channels, and activations of sums.

use burn::tensor::Tensor;
use burn_flex::FlexTensor;
use mm1_kernels::{gate as kernel, rows};

use super::memory::{Number as _, precision_of, with_number};
use super::record::{BackwardPass, Operation, record};
use super::{Fused, Operand, floats, shape, tensor};
use crate::ops::Activation;

/// See [`crate::ops::Operations::gate`].
pub(super) fn gate(fused: &Fused, x: Tensor<3>, gates: Tensor<3>) -> Tensor<3> {
    let ([_, _, c], x_shape, memory) = (x.dims(), x.shape(), &fused.memory);
    let (x, gates) = (Operand::new(x), Operand::new(gates));
    let mut y = memory.floats(x.values().len());
    kernel::forward(x.values(), gates.values(), c, &mut y);
    record(Gate, memory, [x.node, gates.node], tensor(y, x_shape), || {
        (memory.in_precision(x.value, fused.precision), gates.value)
    })
}

#[derive(Debug)]
struct Gate;

impl Operation<2> for Gate {
    /// The input in the precision of products, and the gates.
    type State = (FlexTensor, FlexTensor);

    fn backward((x, gates): Self::State, dy: FlexTensor, mut pass: BackwardPass<'_, 2>) {
        let [_, _, c] = shape(&x).dims();
        let mut grad = pass.memory.to_change(pass.memory.in_f32(dy));
        let d_gates =
            with_number!(precision_of(&x), T => kernel::backward(T::of(&x), floats(&gates), c, &mut grad));
        pass.give(0, || tensor(grad, shape(&x)));
        pass.give(1, || tensor(d_gates, shape(&gates)));
    }
}

/// See [`crate::ops::Operations::add_activation`].
pub(super) fn add_activation(fused: &Fused, x: Tensor<3>, y: Tensor<3>, activation: Activation) -> Tensor<3> {
    let ([b, t, d], memory) = (x.dims(), &fused.memory);
    let width = activation.width(d);
    let (x, y) = (Operand::new(x), Operand::new(y));
    let mut sum = memory.to_change(x.value);
    rows::add(&mut sum, y.values());
    let sum = tensor(sum, [b, t, d]);
    let out = match activation {
        Activation::Identity => sum.clone(),
        activation => {
            let mut out = memory.floats(b * t * width);
            activation.forward(floats(&sum), width, &mut out);
            tensor(out, [b, t, width])
        }
    };
    let has_activation = activation != Activation::Identity;
    let state = || has_activation.then(|| (memory.in_precision(sum, fused.precision), activation));
    record(AddActivation, memory, [x.node, y.node], out, state)
}

#[derive(Debug)]
struct AddActivation;

impl Operation<2> for AddActivation {
    /// The sum in the precision of products and its activation, where there is one.
    type State = Option<(FlexTensor, Activation)>;

    fn backward(activated: Self::State, dy: FlexTensor, mut pass: BackwardPass<'_, 2>) {
        let memory = pass.memory.clone();
        let mut dy = memory.in_f32(dy);
        if let Some((sum, activation)) = activated {
            let [_, _, width] = shape(&dy).dims();
            with_number!(precision_of(&sum), T => {
                let mut d_sum = memory.floats(T::of(&sum).len());
                activation.backward(T::of(&sum), width, &mut memory.to_change(dy), &mut d_sum);
                dy = tensor(d_sum, shape(&sum));
            });
        }
        pass.give(0, || dy.clone());
        pass.give(1, || dy);
    }
}

/// See [`crate::ops::Operations::rounded`].
pub(super) fn rounded(fused: &Fused, x: Tensor<3>) -> Tensor<3> {
    let x = Operand::new(x);
    let y = fused.memory.in_precision(x.value, fused.precision);
    record(Rounded, &fused.memory, [x.node], y, || ())
}

#[derive(Debug)]
struct Rounded;

impl Operation<1> for Rounded {
    type State = ();

    fn backward((): (), dy: FlexTensor, mut pass: BackwardPass<'_, 1>) {
        let memory = pass.memory.clone();
        pass.give(0, || memory.in_f32(dy));
    }
}
