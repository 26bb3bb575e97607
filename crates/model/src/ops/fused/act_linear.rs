//! `activation(h) w + bias + residual`, of which a linear map is a case.

use burn::tensor::Tensor;
use burn_flex::FlexTensor;
use mm1_kernels::Stored;
use mm1_kernels::gemm::Precision;
use mm1_kernels::rows::{add_bias, fill_rows};

use super::linear::{Linear, bias_grad};
use super::memory::{Number as _, elements, precision_of, with_number};
use super::record::{BackwardPass, Operation, record};
use super::{Fused, Operand, node, shape, tensor};
use crate::ops::{Activation, Affine};

/// See [`crate::ops::Operations::act_linear_residual`].
pub(super) fn act_linear_residual(
    fused: &Fused,
    h: Tensor<3>,
    activation: Activation,
    map: Affine,
    residual: Option<Tensor<3>>,
) -> Tensor<3> {
    let ([b, t, width], memory) = (h.dims(), &fused.memory);
    let (Operand { value: h, node: h_node, .. }, (w, w_node)) =
        (Operand::new(h), Linear::new(fused, map.weight));
    let (bias, residual) = (map.bias.map(Operand::new), residual.map(Operand::new));
    let ([_, o], f) = (w.dims(), activation.width(width));
    let (has_residual, add) = (residual.is_some(), bias.is_some() || residual.is_some());
    let (residual, residual_node) = residual.map(|r| (r.value, r.node)).unzip();
    let mut y = residual.map_or_else(|| memory.floats(b * t * o), |residual| memory.to_change(residual));
    match &bias {
        Some(bias) if has_residual => add_bias(&mut y, bias.values()),
        Some(bias) => fill_rows(&mut y, bias.values()),
        None => {}
    }
    let grad_precision = precision_of(&h);
    let h = match activation {
        Activation::Identity => {
            w.multiply(elements(&h), &mut y, add);
            h
        }
        activation => with_number!(w.precision(), T => {
            let h = memory.in_precision(h, w.precision());
            let mut a = memory.uninitialised::<T>(b * t * f);
            activation.forward(T::of(&h), f, &mut a);
            w.multiply(T::elements(&a), &mut y, add);
            h
        }),
    };
    let parents = [h_node, w_node, node(bias), residual_node.flatten()];
    record(ActLinear, memory, parents, tensor(y, [b, t, o]), || State {
        h: memory.in_precision(h, w.precision()),
        grad_precision,
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
    /// That of the gradient of `h`: the one in which `h` came.
    grad_precision: Precision,
    activation: Activation,
    w: Linear,
}

impl Operation<4> for ActLinear {
    type State = State;

    fn backward(state: State, dy: FlexTensor, mut pass: BackwardPass<'_, 4>) {
        let State { h, grad_precision, activation, w } = state;
        let ([f, o], memory) = (w.dims(), pass.memory.clone());
        pass.give(3, || memory.in_f32(dy.clone()));
        let d_out = elements(&dy);
        pass.give(2, || bias_grad(d_out, o));
        let sum = pass.sum(1);
        match activation {
            Activation::Identity => with_number!(grad_precision, T => {
                let weight = pass.wants(1).then_some((elements(&h), sum));
                let (dh, dw) = w.grads::<T>(&memory, d_out, pass.wants(0), weight);
                if let Some(dh) = dh {
                    pass.give(0, || tensor(dh, shape(&h)));
                }
                if let Some(dw) = dw {
                    pass.give(1, || dw);
                }
            }),
            activation => with_number!(grad_precision, T => {
                let mut a;
                if pass.wants(0) {
                    a = w.input_grad::<T>(&memory, d_out);
                    pass.give(0, || {
                        let mut dh = memory.uninitialised::<T>(elements(&h).len());
                        with_number!(precision_of(&h), H => {
                            activation.backward(H::of(&h), f, &mut a, &mut dh);
                        });
                        tensor(dh, shape(&h))
                    });
                } else {
                    a = memory.uninitialised::<T>(d_out.len() / o * f);
                    with_number!(precision_of(&h), H => activation.forward(H::of(&h), f, &mut a));
                }
                pass.give(1, || w.weight_grad(&memory, T::elements(&a), d_out, sum));
            }),
        }
    }
}
