//! Norms and activations.

use burn::backend::Cube;
use burn::tensor::Tensor;
use burn_cubecl::tensor::CubeTensor;
use mm1_gpu_kernels::activation::{self, Activated, Function};
use mm1_gpu_kernels::norm::{self, NormedRows};

use super::record::{BackwardPass, Operand, Operation, record};
use super::{Products, arg, dims, empty, empty_of, reshaped, value};
use crate::ops::{Activation, Norm};

/// See [`crate::ops::Operations::norm`]: for `products`, in what they read.
pub(super) fn normed(x: Tensor<3>, by: &Norm, products: Products) -> Tensor<3> {
    let [b, t, width] = x.dims();
    let (gamma, beta, eps) = match by {
        Norm::Rms { gamma, eps } => (gamma, None, *eps),
        Norm::Layer { gamma, beta, eps } => (gamma, Some(Operand::new(beta.clone())), *eps),
    };
    let (x, gamma) = (Operand::new(x), Operand::new(gamma.clone()));
    let rows = NormedRows { rows: b * t, width, centred: beta.is_some(), eps: eps as f32 };
    let (beta, beta_node) = beta.map(|beta| (beta.value, beta.node)).unzip();
    let number = products.on(&x.value.client);
    let (y, stats) = (empty_of(&x.value, [b, t, width], number), empty(&x.value, [b * t, 2]));
    // Of RMSNorm it is not read.
    let beta = beta.unwrap_or_else(|| gamma.value.clone());
    let given = [&x.value, &gamma.value, &beta].map(arg);
    let written = [&y, &stats].map(arg);
    norm::forward(&y.client, rows, given, written, number);
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
        let [dx, dgamma] = [empty(&x, dims::<3>(&x)), empty(&x, [rows.width])];
        // RMSNorm has none, and writes none.
        let dbeta = if rows.centred { empty(&x, [rows.width]) } else { empty(&x, [1]) };
        let given = [&x, &gamma, &stats, &dy].map(arg);
        norm::backward(&x.client, rows, given, [&dx, &dgamma, &dbeta].map(arg));
        pass.give(0, || dx);
        pass.give(1, || dgamma);
        pass.give(2, || dbeta);
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

/// `activation(h + bias)`: `[b, t, d] -> [b, t, d]` (Swiglu: `[b, t, d / 2]`); for `products`, in what they
/// read. The identity without a bias is `h` as it is.
pub(super) fn activate(
    h: Tensor<3>,
    by: Activation,
    bias: Option<Tensor<1>>,
    products: Products,
) -> Tensor<3> {
    let Some(function) = function(by) else {
        return match bias {
            None => h,
            Some(bias) => h + bias.unsqueeze(),
        };
    };
    let ([b, t, d], h) = (h.dims(), Operand::new(h));
    let (width, bias) = (by.width(d), bias.map(Operand::new));
    let (number, biased) = (products.on(&h.value.client), bias.is_some());
    let (bias, bias_node) = bias.map(|bias| (bias.value, bias.node)).unzip();
    let of = Activated { function, width, count: b * t * width, biased };
    let y = empty_of(&h.value, [b, t, width], number);
    // Where there is no bias it is not read.
    let bias = bias.unwrap_or_else(|| h.value.clone());
    activation::forward(&y.client, of, [&h.value, &bias].map(arg), arg(&y), number);
    record(Activate, [h.node, bias_node.flatten()], y, || (h.value, bias, of))
}

#[derive(Debug)]
struct Activate;

impl Operation<2> for Activate {
    /// The input, its bias, and what happened to them.
    type State = (CubeTensor, CubeTensor, Activated);

    fn backward((h, bias, of): Self::State, dy: CubeTensor, mut pass: BackwardPass<'_, 2>) {
        let [b, t, d] = dims(&h);
        let dh = empty(&h, [b, t, d]);
        activation::backward(&h.client, of, [&h, &bias, &dy].map(arg), arg(&dh));
        pass.give(1, || {
            let rows = Tensor::<2>::from_primitive::<Cube>(reshaped(&dh, [b * t, d]));
            value(rows.sum_dim(0).reshape([d]))
        });
        pass.give(0, || dh);
    }
}
