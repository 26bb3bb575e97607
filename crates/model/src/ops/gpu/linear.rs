//! Linear maps: `x w + bias + residual`, and the products below all operations.

use burn::backend::Cube;
use burn::tensor::{DType, Tensor};
use burn_cubecl::kernel::cast;
use burn_cubecl::kernel::matmul::{MatmulStrategy, matmul};
use burn_cubecl::tensor::CubeTensor;
use mm1_gpu_kernels::Number;
use mm1_gpu_kernels::linear::{self, Added};

use super::record::{BackwardPass, Operand, Operation, record};
use super::{Products, arg, dims, dtype, reshaped, value};
use crate::ops::{Affine, Weight};

/// `x w + bias + residual`; `x` may be in the numbers of products already.
pub(super) fn linear(x: Tensor<3>, map: Affine, residual: Option<Tensor<3>>, by: Products) -> Tensor<3> {
    let [b, t, i] = x.dims();
    let transposed = matches!(map.weight, Weight::Table(_));
    let (x, w) = (Operand::new(x), Operand::new(map.weight.unpacked()));
    let (bias, residual) = (map.bias.map(Operand::new), residual.map(Operand::new));
    let number = by.on(&x.value.client);
    let x_value = cast(reshaped(&x.value, [b * t, i]), dtype(number));
    let w_value = cast(w.value, dtype(number));
    let y = product(matrix(&x_value, false), matrix(&w_value, transposed), None);
    let [n, o] = dims(&y);
    let added = match (&bias, &residual) {
        (Some(bias), Some(residual)) => Some((Added::BiasAndRows, bias, residual)),
        (Some(bias), None) => Some((Added::Bias, bias, bias)),
        (None, Some(residual)) => Some((Added::Rows, residual, residual)),
        (None, None) => None,
    };
    if let Some((added, bias, residual)) = added {
        linear::add(&y.client, added, o, (arg(&y), n * o), [bias, residual].map(|by| arg(&by.value)));
    }
    let node = |operand: Option<Operand>| operand.and_then(|operand| operand.node);
    let parents = [x.node, w.node, node(bias), node(residual)];
    record(Linear, parents, reshaped(&y, [b, t, o]), || State {
        x: x_value,
        w: w_value,
        transposed,
        input: [b, t, i],
    })
}

#[derive(Debug)]
struct Linear;

#[derive(Clone, Debug)]
struct State {
    /// `[n, i]`, in the numbers of products.
    x: CubeTensor,
    /// `[i, o]`, in the numbers of products.
    w: CubeTensor,
    /// Whether `w` is `[o, i]`, being an embedding table.
    transposed: bool,
    /// The shape of `x` as it came.
    input: [usize; 3],
}

impl Operation<4> for Linear {
    type State = State;

    fn backward(state: State, dy: CubeTensor, mut pass: BackwardPass<'_, 4>) {
        let State { x, w, transposed, input } = state;
        let [b, t, o] = dims(&dy);
        let rows = reshaped(&dy, [b * t, o]);
        pass.give(3, || dy);
        pass.give(2, || value(matrix(&rows, false).sum_dim(0).reshape([o])));
        if !pass.wants(0) && !pass.wants(1) {
            return;
        }
        let rows = cast(rows, x.dtype);
        pass.give(0, || {
            let dx = product(matrix(&rows, false), matrix(&w, !transposed), None);
            reshaped(&dx, input)
        });
        pass.give(1, || match transposed {
            true => product(matrix(&rows, true), matrix(&x, false), None),
            false => product(matrix(&x, true), matrix(&rows, false), None),
        });
    }
}

/// The product of two tensors of the same numbers, in f32: its sums are f32. It is written `to` one where
/// that is given, in whatever order its values lie.
pub(super) fn product<const D: usize>(a: Tensor<D>, b: Tensor<D>, to: Option<Tensor<D>>) -> CubeTensor {
    let there =
        |tensor: Tensor<D>| tensor.try_into_primitive::<Cube>().expect("it is on the GPU, without gradients");
    matmul(there(a), there(b), to.map(there), MatmulStrategy::default(), DType::F32)
        .expect("the device has these numbers, and the shapes fit")
}

/// `[n, i]` as it is or transposed.
fn matrix(tensor: &CubeTensor, transposed: bool) -> Tensor<2> {
    let tensor = Tensor::<2>::from_primitive::<Cube>(tensor.clone());
    if transposed { tensor.transpose() } else { tensor }
}

/// The numbers of a tensor, as products name them.
pub(super) fn number_of(tensor: &CubeTensor) -> Number {
    match tensor.dtype {
        DType::BF16 => Number::Bf16,
        DType::F16 => Number::F16,
        _ => Number::F32,
    }
}
