//! `activation(h) w + bias + residual`, of which a linear map is a case.

use burn::backend::Flex;
use burn::backend::autodiff::checkpoint::base::Checkpointer;
use burn::backend::autodiff::grads::Gradients;
use burn::backend::autodiff::ops::{Backward, Ops};
use burn::tensor::Tensor;
use burn_flex::FlexTensor;
use mm1_kernels::Stored;
use mm1_kernels::gemm::{Elements, Precision};
use mm1_kernels::rows::{add_bias, copy, fill_rows};

use super::linear::{Linear, bias_grad};
use super::memory::{Number as _, Values, elements, kept, rounded, vector, wide};
use super::{Back, Operand, floats, node, record, shape, tensor};
use crate::ops::{Activation, Weight};

/// See [`crate::ops::linear`].
pub(in crate::ops) fn linear(x: Tensor<3>, w: Weight, bias: Option<&Tensor<1>>) -> Tensor<3> {
    act_linear_residual(x, Activation::None, w, bias, None)
}

/// See [`crate::ops::act_linear_residual`].
pub(in crate::ops) fn act_linear_residual(
    h: Tensor<3>,
    activation: Activation,
    w: Weight,
    bias: Option<&Tensor<1>>,
    residual: Option<Tensor<3>>,
) -> Tensor<3> {
    let [b, t, width] = h.dims();
    let (h, (w, w_node)) = (Operand::new(h), Linear::of(w));
    let (bias, residual) = (bias.cloned().map(Operand::new), residual.map(Operand::new));
    let ([_, o], f) = (w.dims(), activation.width(width));
    let mut y = vector(b * t * o);
    match (&residual, &bias) {
        (None, None) => {}
        (None, Some(bias)) => fill_rows(&mut y, bias.values()),
        (Some(residual), None) => copy(&mut y, residual.values()),
        (Some(residual), Some(bias)) => {
            copy(&mut y, residual.values());
            add_bias(&mut y, bias.values());
        }
    }
    let add = bias.is_some() || residual.is_some();
    match activation.kernel() {
        None => w.multiply(Elements::Floats(h.values()), &mut y, add),
        Some(activation) => rounded!(w.precision(), T => {
            let mut a = Values::some(b * t * f);
            activation.forward(h.values(), f, &mut a);
            w.multiply(T::elements(&a), &mut y, add);
        }),
    }
    let parents = [h.node, w_node, node(bias), node(residual)];
    record(ActLinear, parents, tensor(y, [b, t, o]), || {
        // An input that goes straight into the product is often kept by who made it as well.
        let precision = if activation == Activation::None { Precision::F32 } else { w.precision() };
        State { h: kept(h.value, precision), activation, w }
    })
}

#[derive(Debug)]
struct ActLinear;

#[derive(Clone, Debug)]
struct State {
    /// As kept for its activation.
    h: FlexTensor,
    activation: Activation,
    w: Linear,
}

impl Backward<Flex, 4> for ActLinear {
    type State = State;

    fn backward(self, ops: Ops<State, 4>, grads: &mut Gradients, _: &mut Checkpointer) {
        let (dy, State { h, activation, w }, mut back) = Back::start_rounded(ops, grads);
        let [f, o] = w.dims();
        back.give(3, || wide(dy.clone()));
        let slopes = elements(&dy);
        back.give(2, || bias_grad(slopes, o));
        let sum = back.sum(1);
        match activation.kernel() {
            None => {
                let weight = back.wants(1).then_some((elements(&h), sum));
                let (dh, dw) = w.grads(slopes, back.wants(0), weight);
                if let Some(dh) = dh {
                    back.give(0, || tensor(dh, shape(&h)));
                }
                if let Some(dw) = dw {
                    back.give(1, || dw);
                }
            }
            Some(activation) => {
                let mut a;
                if back.wants(0) {
                    a = w.input_grad(slopes);
                    back.give(0, || {
                        rounded!(w.precision(), T => {
                            let mut dh = Values::some(T::of(&h).len());
                            activation.backward(T::of(&h), f, &mut a, &mut dh);
                            tensor(dh, shape(&h))
                        })
                    });
                } else {
                    a = vector(slopes.len() / o * f);
                    activation.forward(floats(&wide(h)), f, &mut a);
                }
                back.give(1, || w.weight_grad(Elements::Floats(&a), slopes, sum));
            }
        }
    }
}
