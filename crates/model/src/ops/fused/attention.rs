//! Attention over packed examples, and of learned queries over patches.

use std::sync::Arc;

use burn::backend::Flex;
use burn::tensor::Tensor;
use burn_flex::FlexTensor;
use mm1_kernels::attention::{AttentionSpan, CachedAttention, Cross, CrossSaved, Saved, SequenceAttention};
use mm1_kernels::gemm::Precision;

use super::memory::{Number as _, precision_of, with_number};
use super::record::{BackwardPass, Operation, record};
use super::{Fused, Operand, floats, shape, tensor};
use crate::ops::{CachedLayer, Heads, Layout, Rope};

/// See [`crate::ops::Operations::attention`].
pub(super) fn attention(
    fused: &Fused,
    qkv: Tensor<3>,
    heads: Heads,
    layout: &Layout,
    rope: Option<&Rope>,
) -> Tensor<3> {
    let ([b, t, _], memory, precision) = (qkv.dims(), &fused.memory, fused.precision);
    let Operand { value: qkv, node, .. } = Operand::new(qkv);
    let spans = layout.spans.iter().zip(layout.prefixes());
    let mut spans: Vec<AttentionSpan> =
        spans.map(|(s, prefix)| AttentionSpan { offset: s.row * t + s.start, len: s.len, prefix }).collect();
    spans.sort_unstable_by_key(|span| span.offset);
    let plan = AttentionPlan { heads, spans: Arc::new(spans), rope: rope.cloned(), precision };
    let width = heads.out_width();
    let qkv = memory.in_precision(qkv, precision);
    let (out, lse) = with_number!(precision, T => {
        let mut out = memory.uninitialised::<T>(b * t * width);
        let lse = plan.kernel().forward(T::of(&qkv), &mut out);
        (tensor(out, [b, t, width]), lse)
    });
    record(SelfAttention, memory, [node], out.clone(), || State { qkv, out, lse: Arc::new(lse), plan })
}

/// Which attention it is, as saved for backward.
#[derive(Clone, Debug)]
struct AttentionPlan {
    heads: Heads,
    spans: Arc<Vec<AttentionSpan>>,
    rope: Option<Rope>,
    precision: Precision,
}

impl AttentionPlan {
    fn kernel(&self) -> SequenceAttention<'_> {
        let Self { heads, spans, rope, precision } = self;
        SequenceAttention { heads: *heads, spans, rope: rope.as_ref(), precision: *precision }
    }
}

#[derive(Debug)]
struct SelfAttention;

#[derive(Clone, Debug)]
struct State {
    /// In the precision of products.
    qkv: FlexTensor,
    /// As well.
    out: FlexTensor,
    /// The logarithm of each softmax's sum.
    lse: Arc<Vec<f32>>,
    plan: AttentionPlan,
}

impl Operation<1> for SelfAttention {
    type State = State;

    fn backward(state: State, dy: FlexTensor, mut pass: BackwardPass<'_, 1>) {
        let (State { qkv, out, lse, plan }, memory) = (state, pass.memory.clone());
        let dy = memory.in_precision(dy, plan.precision);
        pass.give(0, || {
            with_number!(plan.precision, T => {
                let saved = Saved { qkv: T::of(&qkv), out: T::of(&out), lse: &lse };
                let mut grad = memory.uninitialised(saved.qkv.len());
                plan.kernel().backward(saved, T::of(&dy), &mut grad);
                tensor(grad, shape(&qkv))
            })
        });
    }
}

/// See [`crate::ops::Operations::attention_cached`].
pub(super) fn attention_cached(
    fused: &Fused,
    qkv: Tensor<3>,
    heads: Heads,
    layer: CachedLayer<'_>,
) -> Tensor<3> {
    let ([_, n, _], width) = (qkv.dims(), heads.out_width());
    let qkv = Operand::new(qkv).value;
    let attention = CachedAttention { heads, rope: Some(layer.rope), precision: fused.precision };
    Tensor::from_primitive::<Flex>(with_number!(precision_of(&qkv), T => {
        let mut out = fused.memory.uninitialised::<T>(n * width);
        attention.attend(T::of(&qkv), &mut layer.steps(), &mut out);
        tensor(out, [1, n, width])
    }))
}

/// See [`crate::ops::Operations::cross_attention`].
pub(super) fn cross_attention(fused: &Fused, q: Tensor<3>, kv: Tensor<3>, heads: usize) -> Tensor<3> {
    let ([n, queries, d], [_, keys, _]) = (q.dims(), kv.dims());
    let (q, kv, memory) = (Operand::new(q), Operand::new(kv), &fused.memory);
    let kernel = Cross { heads, width: d / heads, queries, keys, precision: fused.precision };
    let mut out = memory.floats(n * queries * d);
    let lse = kernel.forward(q.values(), kv.values(), &mut out);
    let out = tensor(out, [n, queries, d]);
    let state = || CrossState { q: q.value, kv: kv.value, lse: Arc::new(lse), out: out.clone(), kernel };
    record(CrossAttention, memory, [q.node, kv.node], out.clone(), state)
}

#[derive(Debug)]
struct CrossAttention;

#[derive(Clone, Debug)]
struct CrossState {
    q: FlexTensor,
    kv: FlexTensor,
    out: FlexTensor,
    /// The logarithm of each softmax's sum.
    lse: Arc<Vec<f32>>,
    kernel: Cross,
}

impl Operation<2> for CrossAttention {
    type State = CrossState;

    fn backward(state: CrossState, dy: FlexTensor, mut pass: BackwardPass<'_, 2>) {
        let (CrossState { q, kv, out, lse, kernel }, memory) = (state, pass.memory.clone());
        let dy = memory.in_f32(dy);
        let (mut d_q, mut d_kv) = (memory.floats(floats(&q).len()), memory.floats(floats(&kv).len()));
        let saved = CrossSaved { q: floats(&q), kv: floats(&kv), out: floats(&out), lse: &lse };
        kernel.backward(saved, floats(&dy), &mut d_q, &mut d_kv);
        pass.give(0, || tensor(d_q, shape(&q)));
        pass.give(1, || tensor(d_kv, shape(&kv)));
    }
}
