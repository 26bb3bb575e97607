//! RMSNorm of each query and key head.

use burn::tensor::Tensor;
use burn_flex::FlexTensor;
use mm1_kernels::head_norm::{HeadNorm, HeadNormGrad};

use super::memory::{Number as _, precision_of, with_number};
use super::record::{BackwardPass, Operation, record};
use super::{Fused, Operand, floats, shape, tensor};
use crate::ops::{Heads, QkNorm};

/// See [`crate::ops::Operations::qk_norm`].
pub(super) fn qk_norm(fused: &Fused, qkv: Tensor<3>, heads: Heads, by: &QkNorm) -> Tensor<3> {
    let memory = &fused.memory;
    let [qkv, q, k] = [Operand::new(qkv), Operand::new(by.q.clone()), Operand::new(by.k.clone())];
    let state = State { qkv: qkv.value, q: q.value, k: k.value, heads, eps: by.eps as f32 };
    let y = with_number!(precision_of(&state.qkv), T => {
        let x = T::of(&state.qkv);
        let mut y = memory.uninitialised::<T>(x.len());
        state.kernel().forward(x, &mut y);
        tensor(y, shape(&state.qkv))
    });
    record(HeadsNormed, memory, [qkv.node, q.node, k.node], y, || state)
}

#[derive(Debug)]
struct HeadsNormed;

#[derive(Clone, Debug)]
struct State {
    /// As it came, in the precision of products or not.
    qkv: FlexTensor,
    q: FlexTensor,
    k: FlexTensor,
    heads: Heads,
    eps: f32,
}

impl State {
    fn kernel(&self) -> HeadNorm<'_> {
        HeadNorm { q: floats(&self.q), k: floats(&self.k), heads: self.heads, eps: self.eps }
    }
}

impl Operation<3> for HeadsNormed {
    type State = State;

    fn backward(state: State, dy: FlexTensor, mut pass: BackwardPass<'_, 3>) {
        let (memory, precision, width) = (pass.memory.clone(), precision_of(&state.qkv), state.heads.width);
        let dy = memory.in_precision(dy, precision);
        let (dx, HeadNormGrad { q, k }) = with_number!(precision, T => {
            let x = T::of(&state.qkv);
            let mut dx = memory.uninitialised::<T>(x.len());
            let grad = state.kernel().backward(x, T::of(&dy), &mut dx);
            (tensor(dx, shape(&state.qkv)), grad)
        });
        pass.give(0, || dx);
        pass.give(1, || tensor(q, [width]));
        pass.give(2, || tensor(k, [width]));
    }
}
