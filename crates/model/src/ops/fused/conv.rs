//! Convolutions and pooling over pictures.

use burn::backend::Flex;
use burn::backend::autodiff::checkpoint::base::Checkpointer;
use burn::backend::autodiff::grads::Gradients;
use burn::backend::autodiff::ops::{Backward, Ops};
use burn::tensor::Tensor;
use burn_flex::FlexTensor;
use mm1_kernels::conv::{Conv, Grid, Windows};
use mm1_kernels::depthwise;
use mm1_kernels::gemm::Precision;
use mm1_kernels::pool::AdaptivePool;
use mm1_kernels::rows::{column_sums, fill_rows};

use super::memory::{Number as _, kept, lies_in, rounded, vector};
use super::{Back, Operand, floats, node, record, shape, tensor};
use crate::ops::precision;

/// See [`crate::ops::conv3x3`].
pub(in crate::ops) fn conv3x3(
    x: Tensor<4>,
    weight: &Tensor<2>,
    bias: Option<&Tensor<1>>,
    stride: usize,
) -> Tensor<4> {
    let ([n, height, width, channels], [_, o]) = (x.dims(), weight.dims());
    let (x, weight, bias) = (Operand::new(x), Operand::new(weight.clone()), bias.cloned().map(Operand::new));
    let (windows, precision) = (Windows { input: Grid { height, width, channels }, stride }, precision());
    let y_shape = [n, windows.height(), windows.width(), o];
    let mut y = vector(y_shape.iter().product());
    if let Some(bias) = &bias {
        fill_rows(&mut y, bias.values());
    }
    Conv { windows, weight: weight.values(), precision }.forward(x.values(), &mut y, bias.is_some());
    let parents = [x.node, weight.node, node(bias)];
    let state = || State { x: x.value, weight: weight.value, windows, precision };
    record(Conv3x3, parents, tensor(y, y_shape), state)
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

impl Backward<Flex, 3> for Conv3x3 {
    type State = State;

    fn backward(self, ops: Ops<State, 3>, grads: &mut Gradients, _: &mut Checkpointer) {
        let (dy, State { x, weight, windows, precision }, mut back) = Back::start(ops, grads);
        let ([_, _, _, o], slopes) = (shape(&dy).dims(), floats(&dy));
        let conv = Conv { windows, weight: floats(&weight), precision };
        back.give(2, || tensor(column_sums(slopes, o), [o]));
        back.give(1, || tensor(conv.weight_grad(floats(&x), slopes), shape(&weight)));
        back.give(0, || {
            let mut dx = vector(floats(&x).len());
            conv.input_grad(slopes, &mut dx);
            tensor(dx, shape(&x))
        });
    }
}

/// See [`crate::ops::depthwise3x3`].
pub(in crate::ops) fn depthwise3x3(x: Tensor<4>, weight: &Tensor<2>) -> Tensor<4> {
    let x_shape = x.dims();
    let (x, weight) = (Operand::new(x), Operand::new(weight.clone()));
    let mut y = vector(x_shape.iter().product());
    depthwise::forward(grid(x_shape), x.values(), weight.values(), &mut y);
    record(Depthwise, [x.node, weight.node], tensor(y, x_shape), || {
        (kept(x.value, precision()), weight.value)
    })
}

/// The size of the pictures `[n, h, w, c]`.
fn grid([_, height, width, channels]: [usize; 4]) -> Grid {
    Grid { height, width, channels }
}

#[derive(Debug)]
struct Depthwise;

impl Backward<Flex, 2> for Depthwise {
    type State = (FlexTensor, FlexTensor);

    fn backward(self, ops: Ops<Self::State, 2>, grads: &mut Gradients, _: &mut Checkpointer) {
        let (dy, (x, weight), mut back) = Back::start(ops, grads);
        let (slopes, grid) = (floats(&dy), grid(shape(&x).dims()));
        back.give(1, || {
            let dw = rounded!(lies_in(&x), T => depthwise::weight_grad(grid, T::of(&x), slopes));
            tensor(dw, shape(&weight))
        });
        back.give(0, || {
            let mut dx = vector(slopes.len());
            depthwise::input_grad(grid, slopes, floats(&weight), &mut dx);
            tensor(dx, shape(&x))
        });
    }
}

/// See [`crate::ops::adaptive_avg_pool`].
pub(in crate::ops) fn adaptive_avg_pool(x: Tensor<4>, out: usize) -> Tensor<4> {
    let [n, height, width, channels] = x.dims();
    let pool = AdaptivePool { input: Grid { height, width, channels }, height: out, width: out };
    let x = Operand::new(x);
    let mut y = vector(n * out * out * channels);
    pool.forward(x.values(), &mut y);
    record(Pool, [x.node], tensor(y, [n, out, out, channels]), || (pool, n))
}

#[derive(Debug)]
struct Pool;

impl Backward<Flex, 1> for Pool {
    type State = (AdaptivePool, usize);

    fn backward(self, ops: Ops<Self::State, 1>, grads: &mut Gradients, _: &mut Checkpointer) {
        let (dy, (pool, n), mut back) = Back::start(ops, grads);
        back.give(0, || {
            let Grid { height, width, channels } = pool.input;
            let mut dx = vector(n * pool.input.values());
            pool.backward(floats(&dy), &mut dx);
            tensor(dx, [n, height, width, channels])
        });
    }
}
