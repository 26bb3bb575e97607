//! Norms and activations.

use burn::backend::Cube;
use burn::tensor::Tensor;
use burn_cubecl::tensor::CubeTensor;
use mm1_gpu_kernels::activation::{self, Function};
use mm1_gpu_kernels::norm::{self, NormedRows};

use super::record::{BackwardPass, Operand, Operation, record};
use super::{dims, empty, value};
use crate::ops::{Activation, Norm};

/// See [`crate::ops::Operations::norm`].
pub(super) fn normed(x: Tensor<3>, by: &Norm) -> Tensor<3> {
    let [b, t, width] = x.dims();
    let (gamma, beta, eps) = match by {
        Norm::Rms { gamma, eps } => (gamma, None, *eps),
        Norm::Layer { gamma, beta, eps } => (gamma, Some(Operand::new(beta.clone())), *eps),
    };
    let (x, gamma) = (Operand::new(x), Operand::new(gamma.clone()));
    let rows = NormedRows { rows: b * t, width, centred: beta.is_some() };
    let (beta, beta_node) = beta.map(|beta| (beta.value, beta.node)).unzip();
    let (y, stats) = (empty(&x.value, [b, t, width]), empty(&x.value, [b * t, 2]));
    // Of RMSNorm it is not read.
    let beta = beta.unwrap_or_else(|| gamma.value.clone());
    let given = [&x.value, &gamma.value, &beta].map(|tensor| tensor.clone().into_buffer_arg());
    let written = [&y, &stats].map(|tensor| tensor.clone().into_buffer_arg());
    norm::forward(&y.client, rows, eps as f32, given, written);
    record(Normed, [x.node, gamma.node, beta_node.flatten()], y, || NormState {
        x: x.value,
        gamma: gamma.value,
        stats,
        rows,
    })
}

#[derive(Debug)]
struct Normed;

#[derive(Clone, Debug)]
struct NormState {
    x: CubeTensor,
    gamma: CubeTensor,
    stats: CubeTensor,
    rows: NormedRows,
}

impl Operation<3> for Normed {
    type State = NormState;

    fn backward(state: NormState, dy: CubeTensor, mut pass: BackwardPass<'_, 3>) {
        let NormState { x, gamma, stats, rows } = state;
        let arg = |tensor: &CubeTensor| tensor.clone().into_buffer_arg();
        if pass.wants(1) || pass.wants(2) {
            let kinds = if rows.centred { 2 } else { 1 };
            let parts = empty(&x, [kinds, rows.rows.div_ceil(norm::CHUNK), rows.width]);
            norm::backward_parameters(&x.client, rows, [arg(&x), arg(&stats), arg(&dy)], arg(&parts));
            let sums = Tensor::<3>::from_primitive::<Cube>(parts).sum_dim(1);
            for kind in 0..kinds {
                let sum = || value(sums.clone().narrow(0, kind, 1).reshape([rows.width]));
                pass.give(1 + kind, sum);
            }
        }
        pass.give(0, || {
            let dx = empty(&x, dims::<3>(&x));
            norm::backward(&x.client, rows, [&x, &gamma, &stats, &dy].map(arg), arg(&dx));
            dx
        });
    }
}

/// The kernel of an activation; none of the identity.
fn function(activation: Activation) -> Option<Function> {
    match activation {
        Activation::Swiglu => Some(Function::Swiglu),
        Activation::Gelu => Some(Function::Gelu),
        Activation::QuickGelu => Some(Function::QuickGelu),
        Activation::GeluTanh => Some(Function::GeluTanh),
        Activation::Silu => Some(Function::Silu),
        Activation::Identity => None,
    }
}

/// `activation(h)`: `[b, t, d] -> [b, t, d]` (Swiglu: `[b, t, d / 2]`).
pub(super) fn activate(h: Tensor<3>, by: Activation) -> Tensor<3> {
    let Some(function) = function(by) else { return h };
    let ([b, t, d], h) = (h.dims(), Operand::new(h));
    let width = by.width(d);
    let y = empty(&h.value, [b, t, width]);
    let [from, to] = [&h.value, &y].map(|tensor| tensor.clone().into_buffer_arg());
    activation::forward(&y.client, function, width, from, to, b * t * width);
    record(Activated, [h.node], y, || (h.value, function))
}

#[derive(Debug)]
struct Activated;

impl Operation<1> for Activated {
    /// The input.
    type State = (CubeTensor, Function);

    fn backward((h, function): Self::State, dy: CubeTensor, mut pass: BackwardPass<'_, 1>) {
        let [b, t, width] = dims(&dy);
        pass.give(0, || {
            let dh = empty(&h, dims::<3>(&h));
            let given = [&h, &dy].map(|tensor| tensor.clone().into_buffer_arg());
            let written = dh.clone().into_buffer_arg();
            activation::backward(&h.client, function, width, given, written, b * t * width);
            dh
        });
    }
}
