//! Convolutions and pooling over pictures.

use burn::tensor::Tensor;
use burn_flex::FlexTensor;
use mm1_kernels::conv::{Conv, Grid, Windows};
use mm1_kernels::depthwise;
use mm1_kernels::gemm::Precision;
use mm1_kernels::pool::AdaptivePool;
use mm1_kernels::rows::{column_sums, fill_rows};

use super::memory::{Number as _, precision_of, with_number};
use super::record::{BackwardPass, Operation, record};
use super::{Fused, Operand, floats, node, shape, tensor};

/// See [`crate::ops::Operations::conv3x3`].
pub(super) fn conv3x3(
    fused: &Fused,
    x: Tensor<4>,
    weight: &Tensor<2>,
    bias: Option<&Tensor<1>>,
    stride: usize,
) -> Tensor<4> {
    let ([n, height, width, channels], [_, o]) = (x.dims(), weight.dims());
    let (x, weight, bias) = (Operand::new(x), Operand::new(weight.clone()), bias.cloned().map(Operand::new));
    let windows = Windows { input: Grid { height, width, channels }, stride };
    let (precision, memory) = (fused.precision, &fused.memory);
    let y_shape = [n, windows.height(), windows.width(), o];
    let mut y = memory.floats(y_shape.iter().product());
    if let Some(bias) = &bias {
        fill_rows(&mut y, bias.values());
    }
    Conv { windows, weight: weight.values(), precision }.forward(x.values(), &mut y, bias.is_some());
    let parents = [x.node, weight.node, node(bias)];
    let state = || State { x: x.value, weight: weight.value, windows, precision };
    record(Conv3x3, memory, parents, tensor(y, y_shape), state)
}

#[derive(Debug)]
struct Conv3x3;

#[derive(Clone, Debug)]
struct State {
    x: FlexTensor,
    weight: FlexTensor,
    windows: Windows,
    precision: Precision,
}

impl Operation<3> for Conv3x3 {
    type State = State;

    fn backward(state: State, dy: FlexTensor, mut pass: BackwardPass<'_, 3>) {
        let (State { x, weight, windows, precision }, memory) = (state, pass.memory.clone());
        let dy = memory.in_f32(dy);
        let ([_, _, _, o], d_out) = (shape(&dy).dims(), floats(&dy));
        let conv = Conv { windows, weight: floats(&weight), precision };
        pass.give(2, || tensor(column_sums(d_out, o), [o]));
        pass.give(1, || tensor(conv.weight_grad(floats(&x), d_out), shape(&weight)));
        pass.give(0, || {
            let mut dx = memory.floats(floats(&x).len());
            conv.input_grad(d_out, &mut dx);
            tensor(dx, shape(&x))
        });
    }
}

/// See [`crate::ops::Operations::depthwise3x3`].
pub(super) fn depthwise3x3(fused: &Fused, x: Tensor<4>, weight: &Tensor<2>) -> Tensor<4> {
    let (x_shape, memory) = (x.dims(), &fused.memory);
    let (x, weight) = (Operand::new(x), Operand::new(weight.clone()));
    let mut y = memory.floats(x_shape.iter().product());
    depthwise::forward(grid(x_shape), x.values(), weight.values(), &mut y);
    record(Depthwise, memory, [x.node, weight.node], tensor(y, x_shape), || {
        (memory.in_precision(x.value, fused.precision), weight.value)
    })
}

/// The size of the pictures `[n, h, w, c]`.
fn grid([_, height, width, channels]: [usize; 4]) -> Grid {
    Grid { height, width, channels }
}

#[derive(Debug)]
struct Depthwise;

impl Operation<2> for Depthwise {
    /// The input in the precision of products, and the weight.
    type State = (FlexTensor, FlexTensor);

    fn backward((x, weight): Self::State, dy: FlexTensor, mut pass: BackwardPass<'_, 2>) {
        let memory = pass.memory.clone();
        let dy = memory.in_f32(dy);
        let (d_out, grid) = (floats(&dy), grid(shape(&x).dims()));
        pass.give(1, || {
            let dw = with_number!(precision_of(&x), T => depthwise::weight_grad(grid, T::of(&x), d_out));
            tensor(dw, shape(&weight))
        });
        pass.give(0, || {
            let mut dx = memory.floats(d_out.len());
            depthwise::input_grad(grid, d_out, floats(&weight), &mut dx);
            tensor(dx, shape(&x))
        });
    }
}

/// See [`crate::ops::Operations::adaptive_avg_pool`].
pub(super) fn adaptive_avg_pool(fused: &Fused, x: Tensor<4>, out: usize) -> Tensor<4> {
    let ([n, height, width, channels], memory) = (x.dims(), &fused.memory);
    let pool = AdaptivePool { input: Grid { height, width, channels }, height: out, width: out };
    let x = Operand::new(x);
    let mut y = memory.floats(n * out * out * channels);
    pool.forward(x.values(), &mut y);
    record(Pool, memory, [x.node], tensor(y, [n, out, out, channels]), || (pool, n))
}

#[derive(Debug)]
struct Pool;

impl Operation<1> for Pool {
    /// With the number of pictures.
    type State = (AdaptivePool, usize);

    fn backward((pool, n): Self::State, dy: FlexTensor, mut pass: BackwardPass<'_, 1>) {
        let memory = pass.memory.clone();
        let dy = memory.in_f32(dy);
        pass.give(0, || {
            let Grid { height, width, channels } = pool.input;
            let mut dx = memory.floats(n * pool.input.values());
            pool.backward(floats(&dy), &mut dx);
            tensor(dx, [n, height, width, channels])
        });
    }
}
