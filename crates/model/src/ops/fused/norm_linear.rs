//! `norm(x) w + bias`; the normalised rows are computed again on the way back.

use std::sync::Arc;

use burn::backend::Flex;
use burn::backend::autodiff::checkpoint::base::Checkpointer;
use burn::backend::autodiff::grads::Gradients;
use burn::backend::autodiff::ops::{Backward, Ops};
use burn::tensor::Tensor;
use burn_flex::FlexTensor;
use mm1_kernels::gemm::Precision;
use mm1_kernels::norm::{NormGrad, RowStats};
use mm1_kernels::rows::fill_rows;

use super::linear::{Linear, bias_grad};
use super::memory::{Number as _, Values, elements, rounded};
use super::norm::{NormParams, operands};
use super::{Back, Operand, node, record, shape, tensor};
use crate::ops::{Norm, Weight};

/// See [`crate::ops::norm_linear`]; the result is in the precision `made`.
pub(in crate::ops) fn norm_linear(
    x: Tensor<3>,
    by: &Norm,
    w: Weight,
    bias: Option<&Tensor<1>>,
    made: Precision,
) -> Tensor<3> {
    let [b, t, _] = x.dims();
    let (x, (norm, [gamma, beta])) = (Operand::new(x), operands(by));
    let ((w, w_node), bias) = (Linear::of(w), bias.cloned().map(Operand::new));
    let [_, o] = w.dims();
    let (normed, mut stats) = rounded!(w.precision(), T => {
        let mut normed = Values::<T>::some(x.values().len());
        let stats = norm.kernel().forward(x.values(), &mut normed);
        (tensor(normed, shape(&x.value)), stats)
    });
    let y = rounded!(made, T => {
        let mut y = Values::<T>::some(b * t * o);
        if let Some(bias) = &bias {
            fill_rows(&mut y, bias.values());
        }
        w.multiply(elements(&normed), &mut y, bias.is_some());
        tensor(y, [b, t, o])
    });
    drop(normed);
    record(NormLinear, [x.node, gamma, beta, w_node, node(bias)], y, || {
        let x = norm.kept(x.value, &mut stats, w.precision());
        State { x, norm, stats: Arc::new(stats), w }
    })
}

#[derive(Debug)]
struct NormLinear;

#[derive(Clone, Debug)]
struct State {
    /// As kept for the norm.
    x: FlexTensor,
    norm: NormParams,
    stats: Arc<Vec<RowStats>>,
    w: Linear,
}

impl Backward<Flex, 5> for NormLinear {
    type State = State;

    fn backward(self, ops: Ops<State, 5>, grads: &mut Gradients, _: &mut Checkpointer) {
        let (dy, State { x, norm, stats, w }, mut back) = Back::start_rounded(ops, grads);
        let (slopes, kernel, [_, o]) = (elements(&dy), norm.kernel(), w.dims());
        back.give(4, || bias_grad(slopes, o));
        let normed = back.wants(3).then(|| {
            rounded!(w.precision(), T => {
                let mut normed = Values::<T>::some(T::of(&x).len());
                kernel.apply(T::of(&x), &stats, &mut normed);
                tensor(normed, shape(&x))
            })
        });
        let weight = normed.as_ref().map(|normed| (elements(normed), back.sum(3)));
        let (dx, dw) = w.grads::<f32>(slopes, (0..3).any(|parent| back.wants(parent)), weight);
        drop(normed);
        if let Some(dw) = dw {
            back.give(3, || dw);
        }
        if let Some(mut dx) = dx {
            let NormGrad { gamma, beta } =
                rounded!(w.precision(), T => kernel.backward(T::of(&x), &stats, &mut dx));
            let d = gamma.len();
            back.give(0, || tensor(dx, shape(&x)));
            back.give(1, || tensor(gamma, [d]));
            back.give(2, || tensor(beta, [d]));
        }
    }
}
