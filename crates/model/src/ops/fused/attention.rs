//! Attention over packed examples, and of learned queries over patches.

use std::sync::Arc;

use burn::backend::Flex;
use burn::backend::autodiff::checkpoint::base::Checkpointer;
use burn::backend::autodiff::grads::Gradients;
use burn::backend::autodiff::ops::{Backward, Ops};
use burn::tensor::Tensor;
use burn_flex::FlexTensor;
use mm1_kernels::attention::{Attention as Kernel, Cross, CrossSaved, Saved, Span};
use mm1_kernels::gemm::Precision;

use super::memory::{Number as _, Values, kept, rounded, vector};
use super::{Back, Operand, floats, record, shape, tensor};
use crate::ops::{Heads, Layout, Rope, precision};

/// See [`crate::ops::attention`].
pub(in crate::ops) fn attention(
    qkv: Tensor<3>,
    heads: Heads,
    layout: &Layout,
    rope: Option<&Rope>,
) -> Tensor<3> {
    let [b, t, _] = qkv.dims();
    let Operand { value: qkv, node, .. } = Operand::new(qkv);
    let spans = layout.spans.iter().zip(layout.prefixes());
    let mut spans: Vec<Span> =
        spans.map(|(s, prefix)| Span { offset: s.row * t + s.start, len: s.len, prefix }).collect();
    spans.sort_unstable_by_key(|span| span.offset);
    let plan = Plan { heads, spans: Arc::new(spans), rope: rope.cloned(), precision: precision() };
    let width = heads.out_width();
    let qkv = kept(qkv, plan.precision);
    let (out, lse) = rounded!(plan.precision, T => {
        let mut out = Values::<T>::some(b * t * width);
        let lse = plan.kernel().forward(T::of(&qkv), &mut out);
        (tensor(out, [b, t, width]), lse)
    });
    record(Attention, [node], out.clone(), || State { qkv, out, lse: Arc::new(lse), plan })
}

/// Which attention it is, as kept for the way back.
#[derive(Clone, Debug)]
struct Plan {
    heads: Heads,
    spans: Arc<Vec<Span>>,
    rope: Option<Rope>,
    precision: Precision,
}

impl Plan {
    fn kernel(&self) -> Kernel<'_> {
        let Self { heads, spans, rope, precision } = self;
        Kernel { heads: *heads, spans, rope: rope.as_ref(), precision: *precision }
    }
}

#[derive(Debug)]
struct Attention;

#[derive(Clone, Debug)]
struct State {
    /// As kept for products.
    qkv: FlexTensor,
    out: FlexTensor,
    lse: Arc<Vec<f32>>,
    plan: Plan,
}

impl Backward<Flex, 1> for Attention {
    type State = State;

    fn backward(self, ops: Ops<State, 1>, grads: &mut Gradients, _: &mut Checkpointer) {
        let (dy, State { qkv, out, lse, plan }, mut back) = Back::start_rounded(ops, grads);
        let dy = kept(dy, plan.precision);
        back.give(0, || {
            rounded!(plan.precision, T => {
                let saved = Saved { qkv: T::of(&qkv), out: T::of(&out), lse: &lse };
                let mut grad = Values::some(saved.qkv.len());
                plan.kernel().backward(saved, T::of(&dy), &mut grad);
                tensor(grad, shape(&qkv))
            })
        });
    }
}

/// See [`crate::ops::cross_attention`].
pub(in crate::ops) fn cross_attention(q: Tensor<3>, kv: Tensor<3>, heads: usize) -> Tensor<3> {
    let ([n, queries, d], [_, keys, _]) = (q.dims(), kv.dims());
    let (q, kv) = (Operand::new(q), Operand::new(kv));
    let kernel = Cross { heads, width: d / heads, queries, keys, precision: precision() };
    let mut out = vector(n * queries * d);
    let lse = kernel.forward(q.values(), kv.values(), &mut out);
    let out = tensor(out, [n, queries, d]);
    let state = || CrossState { q: q.value, kv: kv.value, lse: Arc::new(lse), out: out.clone(), kernel };
    record(CrossAttention, [q.node, kv.node], out.clone(), state)
}

#[derive(Debug)]
struct CrossAttention;

#[derive(Clone, Debug)]
struct CrossState {
    q: FlexTensor,
    kv: FlexTensor,
    out: FlexTensor,
    lse: Arc<Vec<f32>>,
    kernel: Cross,
}

impl Backward<Flex, 2> for CrossAttention {
    type State = CrossState;

    fn backward(self, ops: Ops<CrossState, 2>, grads: &mut Gradients, _: &mut Checkpointer) {
        let (dy, CrossState { q, kv, out, lse, kernel }, mut back) = Back::start(ops, grads);
        let (mut d_q, mut d_kv) = (vector(floats(&q).len()), vector(floats(&kv).len()));
        let saved = CrossSaved { q: floats(&q), kv: floats(&kv), out: floats(&out), lse: &lse };
        kernel.backward(saved, floats(&dy), &mut d_q, &mut d_kv);
        back.give(0, || tensor(d_q, shape(&q)));
        back.give(1, || tensor(d_kv, shape(&kv)));
    }
}
