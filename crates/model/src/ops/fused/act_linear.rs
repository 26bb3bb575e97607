//! `activation(h) w + bias + residual`, of which a linear map is a case.

use burn::backend::Flex;
use burn::backend::autodiff::checkpoint::base::Checkpointer;
use burn::backend::autodiff::grads::Gradients;
use burn::backend::autodiff::ops::{Backward, Ops};
use burn::tensor::Tensor;
use burn_flex::FlexTensor;
use mm1_kernels::Stored;
use mm1_kernels::gemm::Precision;
use mm1_kernels::rows::{add_bias, fill_rows};

use super::linear::{Linear, bias_grad};
use super::memory::{Number as _, Values, elements, kept, lies_in, owned, rounded, vector, wide};
use super::{Back, Operand, node, record, shape, tensor};
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
    let (Operand { value: h, node: h_node, .. }, (w, w_node)) = (Operand::new(h), Linear::of(w));
    let (bias, residual) = (bias.cloned().map(Operand::new), residual.map(Operand::new));
    let ([_, o], f) = (w.dims(), activation.width(width));
    let (sums, add) = (residual.is_some(), bias.is_some() || residual.is_some());
    let (residual, residual_node) = residual.map(|r| (r.value, r.node)).unzip();
    let mut y = residual.map_or_else(|| vector(b * t * o), owned);
    match &bias {
        Some(bias) if sums => add_bias(&mut y, bias.values()),
        Some(bias) => fill_rows(&mut y, bias.values()),
        None => {}
    }
    let grad = lies_in(&h);
    let h = match activation.kernel() {
        None => {
            w.multiply(elements(&h), &mut y, add);
            h
        }
        Some(activation) => rounded!(w.precision(), T => {
            let h = kept(h, w.precision());
            let mut a = Values::<T>::some(b * t * f);
            activation.forward(T::of(&h), f, &mut a);
            w.multiply(T::elements(&a), &mut y, add);
            h
        }),
    };
    let parents = [h_node, w_node, node(bias), residual_node.flatten()];
    record(ActLinear, parents, tensor(y, [b, t, o]), || State {
        h: kept(h, w.precision()),
        grad,
        activation,
        w,
    })
}

#[derive(Debug)]
struct ActLinear;

#[derive(Clone, Debug)]
struct State {
    /// In the precision of products.
    h: FlexTensor,
    /// The precision of its gradient: that in which it came.
    grad: Precision,
    activation: Activation,
    w: Linear,
}

impl Backward<Flex, 4> for ActLinear {
    type State = State;

    fn backward(self, ops: Ops<State, 4>, grads: &mut Gradients, _: &mut Checkpointer) {
        let (dy, State { h, grad, activation, w }, mut back) = Back::start_rounded(ops, grads);
        let [f, o] = w.dims();
        back.give(3, || wide(dy.clone()));
        let slopes = elements(&dy);
        back.give(2, || bias_grad(slopes, o));
        let sum = back.sum(1);
        match activation.kernel() {
            None => rounded!(grad, T => {
                let weight = back.wants(1).then_some((elements(&h), sum));
                let (dh, dw) = w.grads::<T>(slopes, back.wants(0), weight);
                if let Some(dh) = dh {
                    back.give(0, || tensor(dh, shape(&h)));
                }
                if let Some(dw) = dw {
                    back.give(1, || dw);
                }
            }),
            Some(activation) => rounded!(grad, T => {
                let mut a;
                if back.wants(0) {
                    a = w.input_grad::<T>(slopes);
                    back.give(0, || {
                        let mut dh = Values::<T>::some(elements(&h).len());
                        rounded!(lies_in(&h), H => activation.backward(H::of(&h), f, &mut a, &mut dh));
                        tensor(dh, shape(&h))
                    });
                } else {
                    a = Values::<T>::some(slopes.len() / o * f);
                    rounded!(lies_in(&h), H => activation.forward(H::of(&h), f, &mut a));
                }
                back.give(1, || w.weight_grad(T::elements(&a), slopes, sum));
            }),
        }
    }
}
