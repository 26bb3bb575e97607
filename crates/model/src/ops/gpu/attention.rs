//! Attention over packed rows: heads apart, scores, their softmax over what each position sees, and what is
//! mixed by it. The products are the engine's.

use burn::backend::Cube;
use burn::tensor::{DType, Device, Int, Tensor, TensorData};
use burn_cubecl::kernel::cast;
use burn_cubecl::tensor::CubeTensor;
use mm1_gpu_kernels::heads::{self, PackedHeads, Scores};

use super::linear::{number_of, product};
use super::record::{BackwardPass, Operand, Operation, record};
use super::{Products, arg, dims, dtype, empty, empty_of, reshaped, value};
use crate::ops::{Heads, Layout, Rope};

/// What attention needs to know of positions, on the device.
#[derive(Clone, Debug)]
pub(super) struct Positions {
    of: PositionsOf,
    /// Cosines and sines `[b, t, c / 2]`; without rotations they are `seen`, and not read.
    turns: [CubeTensor; 2],
    /// The first key that a position sees, and the one behind the last: `[b, t, 2]`.
    seen: CubeTensor,
}

/// Of which positions [`Positions`] are, and where.
#[derive(Clone, Debug, PartialEq)]
struct PositionsOf {
    layout: Layout,
    shape: [usize; 2],
    rope: Option<Rope>,
    device: Device,
}

/// The positions of `layout` in rows of the shape `[b, t]`: the `last` ones, if they are the same.
pub(super) fn positions(
    last: &mut Option<Positions>,
    layout: &Layout,
    shape: [usize; 2],
    rope: Option<&Rope>,
    device: &Device,
) -> Positions {
    let device = device.clone().without_autodiff();
    let of = PositionsOf { layout: layout.clone(), shape, rope: rope.cloned(), device: device.clone() };
    if let Some(last) = last.as_ref().filter(|last| last.of == of) {
        return last.clone();
    }
    let seen = seen(layout, shape, &device);
    let turns = match rope {
        Some(rope) => turns(rope, layout, shape, &device),
        None => [seen.clone(), seen.clone()],
    };
    last.insert(Positions { of, turns, seen }).clone()
}

/// [`Layout::turns`] on the device.
fn turns(rope: &Rope, layout: &Layout, [b, t]: [usize; 2], device: &Device) -> [CubeTensor; 2] {
    let shape = [b, t, rope.width() / 2];
    layout
        .turns(rope, [b, t])
        .map(|turns| value(Tensor::<3>::from_data(TensorData::new(turns, shape), device)))
}

/// Nothing, outside of spans.
fn seen(layout: &Layout, [b, t]: [usize; 2], device: &Device) -> CubeTensor {
    let mut seen = vec![0i32; b * t * 2];
    for (span, prefix) in layout.spans.iter().zip(layout.prefixes()) {
        for i in 0..span.len {
            let at = (span.row * t + span.start + i) * 2;
            seen[at] = span.start as i32;
            seen[at + 1] = (span.start + (i + 1).max(prefix).min(span.len)) as i32;
        }
    }
    let seen = TensorData::new(seen, [b, t, 2]);
    let seen = Tensor::<3, Int>::from_data(seen, (device, DType::I32));
    seen.try_into_primitive::<Cube>().expect("it was sent to a GPU")
}

/// See [`crate::ops::Operations::attention`]; the result is in f32.
pub(super) fn attention(
    qkv: Tensor<3>,
    by: Heads,
    positions: &Positions,
    rope: Option<&Rope>,
    products: Products,
) -> Tensor<3> {
    let ([b, t, _], Heads { heads: h, kv_heads: g, width: c }) = (qkv.dims(), by);
    let packed = PackedHeads { rows: b, length: t, heads: h, kv_heads: g, width: c, turned: rope.is_some() };
    let qkv = Operand::new(qkv);
    let client = qkv.value.client.clone();
    let number = products.on(&client);
    let [q, k, v] = [(); 3].map(|()| empty_of(&qkv.value, [b, h, t, c], number));
    let [cos, sin] = &positions.turns;
    heads::split(&client, packed, [&qkv.value, cos, sin].map(arg), [&q, &k, &v].map(arg), number);
    let scores = product(tensor(&q), tensor(&k).transpose(), None);
    let p = empty_of(&scores, [b, h, t, t], number);
    let of = Scores { rows: b, heads: h, length: t };
    heads::softmax(&client, of, [&scores, &positions.seen].map(arg), arg(&p), number);
    // Heads beside each other: the product writes each where it belongs.
    let mixed = empty(&qkv.value, [b, t, h, c]);
    product(tensor(&p), tensor(&v), Some(tensor(&mixed).swap_dims(1, 2)));
    let turns = positions.turns.clone();
    let mixed = reshaped(&mixed, [b, t, h * c]);
    record(Attention, [qkv.node], mixed, || State { packed, heads: [q, k, v], p, turns })
}

#[derive(Debug)]
struct Attention;

#[derive(Clone, Debug)]
struct State {
    packed: PackedHeads,
    /// Queries, keys and values `[b, h, t, c]`, in the numbers of products.
    heads: [CubeTensor; 3],
    /// The softmax `[b, h, t, t]`, in the same.
    p: CubeTensor,
    turns: [CubeTensor; 2],
}

impl Operation<1> for Attention {
    type State = State;

    fn backward(state: State, dy: CubeTensor, mut pass: BackwardPass<'_, 1>) {
        let State { packed, heads: [q, k, v], p, turns: [cos, sin] } = state;
        let PackedHeads { rows: b, length: t, heads: h, width: c, .. } = packed;
        pass.give(0, || {
            let width = dims::<3>(&dy)[2] / h * (h + 2 * packed.kv_heads);
            let (client, number) = (dy.client.clone(), number_of(&p));
            // Copied once, since products copy what lies in this order.
            let dmixed = value(tensor(&reshaped(&dy, [b, t, h, c])).swap_dims(1, 2));
            let dmixed = tensor(&cast(dmixed, dtype(number)));
            let dv = product(tensor(&p).transpose(), dmixed.clone(), None);
            let dp = product(dmixed, tensor(&v).transpose(), None);
            let dscores = empty_of(&p, [b, h, t, t], number);
            let of = Scores { rows: b, heads: h, length: t };
            heads::softmax_backward(&client, of, [&p, &dp].map(arg), arg(&dscores), number);
            let dq = product(tensor(&dscores), tensor(&k), None);
            let dk = product(tensor(&dscores).transpose(), tensor(&q), None);
            let dqkv = empty(&q, [b, t, width]);
            heads::split_backward(&client, packed, [&dq, &dk, &dv, &cos, &sin].map(arg), arg(&dqkv));
            dqkv
        });
    }
}

/// `[b, h, t, …]` without gradients.
fn tensor(value: &CubeTensor) -> Tensor<4> {
    Tensor::from_primitive::<Cube>(value.clone())
}
