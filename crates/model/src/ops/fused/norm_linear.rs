//! `norm(x) w + bias`; the backward pass recomputes the normalised rows.

use std::sync::Arc;

use burn::tensor::Tensor;
use burn_flex::FlexTensor;
use mm1_kernels::gemm::Precision;
use mm1_kernels::norm::{NormGrad, RowStats};
use mm1_kernels::rows::fill_rows;

use super::linear::{Linear, bias_grad};
use super::memory::{Number as _, elements, with_number};
use super::norm::{NormParams, operands};
use super::record::{BackwardPass, Operation, record};
use super::{Fused, Operand, node, shape, tensor};
use crate::ops::{Affine, Norm};

/// See [`crate::ops::Operations::norm_linear`]; the result is in the precision `output`.
pub(super) fn norm_linear(
    fused: &Fused,
    x: Tensor<3>,
    by: &Norm,
    map: Affine,
    output: Precision,
) -> Tensor<3> {
    let ([b, t, _], memory) = (x.dims(), &fused.memory);
    let (x, (norm, [gamma, beta])) = (Operand::new(x), operands(by));
    let ((w, w_node), bias) = (Linear::new(fused, map.weight), map.bias.map(Operand::new));
    let [_, o] = w.dims();
    let (normed, mut stats) = with_number!(w.precision(), T => {
        let mut normed = memory.uninitialised::<T>(x.values().len());
        let stats = norm.kernel().forward(x.values(), &mut normed);
        (tensor(normed, shape(&x.value)), stats)
    });
    let y = with_number!(output, T => {
        let mut y = memory.uninitialised::<T>(b * t * o);
        if let Some(bias) = &bias {
            fill_rows(&mut y, bias.values());
        }
        w.multiply(elements(&normed), &mut y, bias.is_some());
        tensor(y, [b, t, o])
    });
    drop(normed);
    record(NormLinear, memory, [x.node, gamma, beta, w_node, node(bias)], y, || {
        let x = norm.saved(fused, x.value, &mut stats);
        State { x, norm, stats: Arc::new(stats), w }
    })
}

#[derive(Debug)]
struct NormLinear;

#[derive(Clone, Debug)]
struct State {
    /// See [`NormParams::saved`].
    x: FlexTensor,
    norm: NormParams,
    stats: Arc<Vec<RowStats>>,
    w: Linear,
}

impl Operation<5> for NormLinear {
    type State = State;

    fn backward(state: State, dy: FlexTensor, mut pass: BackwardPass<'_, 5>) {
        let (State { x, norm, stats, w }, memory) = (state, pass.memory.clone());
        let (d_out, kernel, [_, o]) = (elements(&dy), norm.kernel(), w.dims());
        pass.give(4, || bias_grad(d_out, o));
        let normed = pass.wants(3).then(|| {
            with_number!(w.precision(), T => {
                let mut normed = memory.uninitialised::<T>(T::of(&x).len());
                kernel.apply(T::of(&x), &stats, &mut normed);
                tensor(normed, shape(&x))
            })
        });
        let weight = normed.as_ref().map(|normed| (elements(normed), pass.sum(3)));
        let input = (0..3).any(|parent| pass.wants(parent));
        let (dx, dw) = w.grads::<f32>(&memory, d_out, input, weight);
        drop(normed);
        if let Some(dw) = dw {
            pass.give(3, || dw);
        }
        if let Some(mut dx) = dx {
            let NormGrad { gamma, beta } =
                with_number!(w.precision(), T => kernel.backward(T::of(&x), &stats, &mut dx));
            let d = gamma.len();
            pass.give(0, || tensor(dx, shape(&x)));
            pass.give(1, || tensor(gamma, [d]));
            pass.give(2, || tensor(beta, [d]));
        }
    }
}
