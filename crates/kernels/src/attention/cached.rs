//! Attention of new tokens to all before them, whose keys and values are cached.

use super::head::{self, ForwardPanels, HeadOutput};
use super::rope::StridedRows;
use super::softmax::{self, LANES, VisibleKeys};
use super::{Heads, RopeTable, rope};
use crate::buffer::{RowsMut, Scratch, Shared};
use crate::cpu::{self, tiered};
use crate::gemm::{Kernel, Matrix, Precision};

/// Keys and values of one layer and one sequence; they grow in place.
#[derive(Clone, Debug)]
pub struct KvCache {
    /// For each key head `[len, c]`, turned by their positions.
    keys: Vec<Vec<f32>>,
    /// For each key head `[len, c]`: as many as keys.
    values: Vec<Vec<f32>>,
    /// Of a head: `c`.
    width: usize,
}

impl KvCache {
    /// An empty one.
    pub fn new(heads: Heads) -> Self {
        let none = vec![Vec::new(); heads.kv_heads];
        Self { keys: none.clone(), values: none, width: heads.width }
    }

    /// Number of tokens.
    pub fn len(&self) -> usize {
        self.keys.first().map_or(0, |keys| keys.len() / self.width)
    }

    /// Whether there are none.
    pub fn is_empty(&self) -> bool {
        self.len() == 0
    }

    /// Forgets all tokens from `len` on.
    pub fn truncate(&mut self, len: usize) {
        for side in self.keys.iter_mut().chain(&mut self.values) {
            side.truncate(len * self.width);
        }
    }

    /// Appends rows `[new, (h + 2 g) c]`.
    fn append(&mut self, heads: Heads, rope: Option<&RopeTable>, qkv: &[f32]) {
        let (c, stride, before) = (heads.width, heads.qkv_width(), self.len());
        if qkv.is_empty() {
            return;
        }
        let table = rope.map_or(&[][..], |rope| rope.from(before));
        let end = (before + qkv.len() / stride) * c;
        for (kv, (keys, values)) in self.keys.iter_mut().zip(&mut self.values).enumerate() {
            for (side, start, table) in [(keys, heads.key(kv), table), (values, heads.value(kv), &[][..])] {
                side.resize(end, 0.0);
                let rows = StridedRows { values: &qkv[start..], stride };
                rope::rotate(rows, &mut side[before * c..], c, table, 1.0);
            }
        }
    }
}

/// Causal attention of new tokens of several sequences, each to its cache.
#[derive(Clone, Copy, Debug)]
pub struct CachedAttention<'a> {
    /// The heads.
    pub heads: Heads,
    /// Rotation of queries and keys; a token's position is the number of tokens before it in its sequence.
    pub rope: Option<&'a RopeTable>,
    /// Precision of the products' inputs where many tokens come at once; a few are computed in f32.
    pub precision: Precision,
}

/// The new rows of one sequence.
#[derive(Clone, Copy)]
struct NewRows<'a> {
    /// `[new, (h + 2 g) c]`
    qkv: &'a [f32],
    /// The first one's row of the output.
    first: usize,
}

/// New tokens up to which keys are read where they are instead of being packed.
const FEW: usize = 8;

impl CachedAttention<'_> {
    /// Appends the new tokens of each sequence to its cache and writes their outputs. A step is a cache and
    /// its number of new rows; `qkv` `[n, (h + 2 g) c]` and `out` `[n, h c]` hold the steps' rows one after
    /// another.
    ///
    /// A sequence's result does not depend on the others, bit by bit.
    ///
    /// # Panics
    /// If lengths do not fit, or a sequence becomes longer than the rotation's table.
    pub fn attend(&self, qkv: &[f32], steps: &mut [(&mut KvCache, usize)], out: &mut [f32]) {
        let (heads, stride) = (self.heads, self.heads.qkv_width());
        heads.check(self.rope);
        // All keys are appended before any head attends, so that the tasks below only read the caches.
        let n: usize = steps.iter().map(|step| step.1).sum();
        assert_eq!(qkv.len(), n * stride, "{heads:?}: the input is not the steps' {n} rows");
        assert_eq!(out.len(), n * heads.out_width(), "{heads:?}: the output is not the steps' {n} rows");
        let mut first = 0;
        let mut firsts = Vec::with_capacity(steps.len());
        for (cache, new) in steps.iter_mut() {
            assert!(
                cache.width == heads.width && cache.keys.len() == heads.kv_heads,
                "a cache of other heads"
            );
            let most = self.rope.map_or(usize::MAX, RopeTable::positions);
            assert!(cache.len() + *new <= most, "a sequence is longer than the rotation's {most} positions");
            cache.append(heads, self.rope, &qkv[first * stride..(first + *new) * stride]);
            firsts.push(first);
            first += *new;
        }
        let (steps, out) = (&*steps, Shared::new(out));
        cpu::rows(steps.len() * heads.kv_heads, 1, |task| {
            let (step, kv) = (task.start / heads.kv_heads, task.start % heads.kv_heads);
            let (cache, new) = (&*steps[step].0, steps[step].1);
            let rows = &qkv[firsts[step] * stride..(firsts[step] + new) * stride];
            self.task(cache, kv, NewRows { qkv: rows, first: firsts[step] }, out);
        });
    }

    /// New rows of one sequence, for one key head.
    fn task(&self, cache: &KvCache, kv: usize, new: NewRows<'_>, out: Shared<'_, f32>) {
        let NewRows { qkv, first } = new;
        let (heads, c, total) = (self.heads, self.heads.width, cache.len());
        let (new, width) = (qkv.len() / heads.qkv_width(), heads.out_width());
        if new == 0 {
            return;
        }
        let table = self.rope.map_or(&[][..], |rope| rope.from(total - new));
        let visible = VisibleKeys::Causal(total - new + 1);
        let (keys, values) = (&cache.keys[kv][..], &cache.values[kv][..]);
        let mut q = Scratch::new(new * c);
        let q = q.floats();
        let kernel = Kernel::of(self.precision);
        // Packing reads keys and values once and writes them once: it pays where enough queries read them
        // again.
        let panels = (new > FEW)
            .then(|| ForwardPanels::new(kernel, Matrix::new(keys, total, c), Matrix::new(values, total, c)));
        for head in kv * heads.group()..(kv + 1) * heads.group() {
            let rows = StridedRows { values: &qkv[head * c..], stride: heads.qkv_width() };
            rope::rotate(rows, q, c, table, heads.scale());
            // SAFETY: each sequence has its rows and each head its task, so these rows are this one's alone.
            let mut out = unsafe { RowsMut::new(out, first * width + head * c, width, c) };
            match &panels {
                Some(panels) => {
                    let mut lse = Scratch::new(new);
                    let output = HeadOutput { out: &mut out, lse: lse.floats() };
                    head::attend(kernel, Matrix::new(q, new, c), panels, visible, output);
                }
                None => few(q, (keys, values), visible, &mut out),
            }
        }
    }
}

/// Attention of a few queries, keys and values being read in their order.
fn few(q: &[f32], (keys, values): (&[f32], &[f32]), visible: VisibleKeys, out: &mut RowsMut<'_>) {
    let c = out.row(0).len();
    let mut scores = Scratch::new((keys.len() / c).next_multiple_of(LANES));
    for (i, q) in q.chunks_exact(c).enumerate() {
        let seen = visible.keys(i);
        let scores = &mut scores.floats()[..seen.next_multiple_of(LANES)];
        products(q, &keys[..seen * c], scores);
        let (mut inverse, mut lse) = ([0.0], [0.0]);
        softmax::exponentiate(scores, scores.len(), VisibleKeys::All(seen), (&mut inverse, &mut lse));
        blend(&scores[..seen], &values[..seen * c], inverse[0], out.row(i));
    }
}

tiered! {
    /// The product of `q` `[c]` with each row of `keys`.
    fn products(q: &[f32], keys: &[f32], out: &mut [f32]) {
        for (key, out) in keys.chunks_exact(q.len()).zip(out) {
            *out = softmax::dot(q, key);
        }
    }
}

tiered! {
    /// The rows of `values` `[weights, c]`, weighed, times `scale`.
    fn blend(weights: &[f32], values: &[f32], scale: f32, out: &mut [f32]) {
        out.fill(0.0);
        for (&weight, row) in weights.iter().zip(values.chunks_exact(out.len())) {
            for (out, &x) in out.iter_mut().zip(row) {
                *out += weight * x;
            }
        }
        for out in out {
            *out *= scale;
        }
    }
}
