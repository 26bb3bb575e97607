//! Attention (Vaswani et al. 2017) over packed sequences, with grouped heads (Ainslie et al. 2023) and rotary
//! position embedding inside. No matrix of scores is saved: the backward pass recomputes them from the
//! logarithms of the softmax's sums (Dao et al. 2022).
//!
//! One task is one sequence and one head of keys. So results depend neither on the number of threads nor on
//! the other sequences. NaN at one position may reach all positions of its sequence, never another sequence.

#![expect(unsafe_code, reason = "heads of one row are written by different tasks")]

mod cached;
mod cross;
mod head;
mod rope;
mod softmax;

pub use cached::{CachedAttention, KvCache};
pub use cross::{Cross, CrossSaved};
pub use rope::RopeTable;

use crate::buffer::{RowsMut, Scratch, Shared};
use crate::cpu;
use crate::gemm::{Kernel, Matrix, Precision};
use crate::number::Stored;
use head::{BackwardPanels, ForwardPanels, HeadGradients, HeadOutput, Queries};
use rope::StridedRows;
use softmax::VisibleKeys;
use std::ops::Range;

/// Heads of queries, and of keys and values: query head `h` reads key head `h / (heads / kv_heads)`.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Heads {
    /// Heads of queries.
    pub heads: usize,
    /// Heads of keys and values; divides `heads`.
    pub kv_heads: usize,
    /// Width of a head: `c`.
    pub width: usize,
}

impl Heads {
    /// Values of a row of queries, and of the output: `h c`.
    pub fn out_width(&self) -> usize {
        self.heads * self.width
    }

    /// Values of a row of queries, keys and values: `(h + 2 g) c`.
    pub fn qkv_width(&self) -> usize {
        (self.heads + 2 * self.kv_heads) * self.width
    }

    /// Query heads of one key head.
    fn group(&self) -> usize {
        self.heads / self.kv_heads
    }

    /// Where the keys of a key head start in a row.
    fn key(&self, kv: usize) -> usize {
        (self.heads + kv) * self.width
    }

    /// Where its values start.
    fn value(&self, kv: usize) -> usize {
        (self.heads + self.kv_heads + kv) * self.width
    }

    /// What scores are multiplied with.
    fn scale(&self) -> f32 {
        1.0 / (self.width as f32).sqrt()
    }

    fn check(&self, rope: Option<&RopeTable>) {
        assert!(self.width > 0 && self.kv_heads > 0 && self.heads > 0, "{self:?}: no heads");
        assert!(self.heads.is_multiple_of(self.kv_heads), "{self:?}: key heads do not divide the heads");
        assert!(
            rope.is_none_or(|rope| rope.width() == self.width),
            "{self:?}: the rotation has another width"
        );
    }
}

/// One sequence in a row of packed ones. Its token `i` sees its tokens `0..max(i + 1, prefix)` (prefix
/// attention of AIM, El-Nouby et al. 2024, section 3.2).
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct AttentionSpan {
    /// Position of its first token.
    pub offset: usize,
    /// Number of its tokens.
    pub len: usize,
    /// Number of its first tokens that all of its tokens see: 0 is causal attention, `len` or more is full
    /// attention.
    pub prefix: usize,
}

impl AttentionSpan {
    /// `len` tokens, each of which sees itself and those before.
    pub fn causal(offset: usize, len: usize) -> Self {
        Self { offset, len, prefix: 0 }
    }

    /// `len` tokens that see each other.
    pub fn full(offset: usize, len: usize) -> Self {
        Self { offset, len, prefix: len }
    }

    /// How far its first token sees.
    fn visible(self) -> VisibleKeys {
        // The second token sees the first anyway, so a prefix of 1 is none.
        match self.prefix {
            0 | 1 => VisibleKeys::Causal(1),
            prefix if prefix < self.len => VisibleKeys::Prefix { first: 1, least: prefix },
            _ => VisibleKeys::All(self.len),
        }
    }
}

/// Attention within each of the spans. Positions outside of them get zeros.
#[derive(Clone, Copy, Debug)]
pub struct SequenceAttention<'a> {
    /// The heads.
    pub heads: Heads,
    /// The sequences, in the order of their offsets, without overlap.
    pub spans: &'a [AttentionSpan],
    /// Rotation of queries and keys; positions start at 0 in each span.
    pub rope: Option<&'a RopeTable>,
    /// Precision of the products' inputs; the softmax is always f32.
    pub precision: Precision,
}

/// What the backward pass needs of the forward pass.
#[derive(Clone, Copy, Debug)]
pub struct Saved<'a, T> {
    /// The input `[n, (h + 2 g) c]`.
    pub qkv: &'a [T],
    /// The output `[n, h c]`.
    pub out: &'a [T],
    /// What [`SequenceAttention::forward`] gave: `[h, n]`.
    pub lse: &'a [f32],
}

impl SequenceAttention<'_> {
    /// Reads queries, keys and values side by side, `qkv` `[n, (h + 2 g) c]`, and writes `out` `[n, h c]` in
    /// the same precision. Gives the logarithms of the softmax's sums `[h, n]`, which the backward pass
    /// needs.
    ///
    /// # Panics
    /// If lengths do not fit, spans overlap or leave the input, or a span is longer than the rotation's
    /// table.
    pub fn forward<T: Stored>(&self, qkv: &[T], out: &mut [T]) -> Vec<f32> {
        let n = self.check(qkv.len(), out.len());
        let mut lse = vec![0.0; self.heads.heads * n];
        self.clear_gaps(out, self.heads.out_width());
        let (out, logs) = (Shared::new(out), Shared::new(&mut lse));
        let kernel = Kernel::of(self.precision);
        self.tasks(|task| self.forward_task(kernel, task, qkv, SpanOutputs { out, lse: logs }));
        lse
    }

    /// Writes the gradient of `qkv` to `d_qkv` `[n, (h + 2 g) c]`, in the precision in which `qkv` was kept,
    /// from that of the output, `d_out` `[n, h c]`.
    ///
    /// # Panics
    /// As [`Self::forward`].
    pub fn backward<T: Stored>(&self, saved: Saved<'_, T>, d_out: &[T], d_qkv: &mut [T]) {
        let n = self.check(saved.qkv.len(), saved.out.len());
        assert_eq!(saved.lse.len(), self.heads.heads * n, "one logarithm for each head and token");
        assert_eq!(d_out.len(), saved.out.len(), "the output and its gradient differ in length");
        assert_eq!(d_qkv.len(), saved.qkv.len(), "the input and its gradient differ in length");
        self.clear_gaps(d_qkv, self.heads.qkv_width());
        let d_qkv = Shared::new(d_qkv);
        let kernel = Kernel::of(self.precision);
        self.tasks(|task| self.backward_task(kernel, task, saved, SpanGradients { d_out, d_qkv }));
    }

    /// The number of tokens, after a check of the lengths and spans.
    fn check(&self, qkv: usize, out: usize) -> usize {
        self.heads.check(self.rope);
        let n = qkv / self.heads.qkv_width();
        assert_eq!(qkv, n * self.heads.qkv_width(), "{:?}: the input is not whole rows", self.heads);
        assert_eq!(out, n * self.heads.out_width(), "{:?}: input and output differ in rows", self.heads);
        let mut end = 0;
        for span in self.spans {
            assert!(span.offset >= end, "{span:?} begins before the end of the one before, {end}");
            end = span.offset.saturating_add(span.len);
            assert!(end <= n, "{span:?} ends after token {n}");
            let most = self.rope.map_or(usize::MAX, RopeTable::positions);
            assert!(span.len <= most, "{span:?} is longer than the rotation's {most} positions");
        }
        n
    }

    /// Writes zeros to the rows outside of the spans.
    fn clear_gaps<T: Stored>(&self, rows: &mut [T], width: usize) {
        let starts = std::iter::once(0).chain(self.spans.iter().map(|span| span.offset + span.len));
        let ends = self.spans.iter().map(|span| span.offset).chain([rows.len() / width]);
        for (start, end) in starts.zip(ends) {
            rows[start * width..end * width].fill(T::stored(0.0));
        }
    }

    /// Runs `f` for each span and key head; short ones share a task.
    fn tasks(&self, f: impl Fn(SpanTask) + Sync + Send) {
        let mut groups: Vec<Range<usize>> = Vec::new();
        let mut cost = usize::MAX;
        for (i, span) in self.spans.iter().enumerate() {
            if cost > COST {
                groups.push(i..i);
                cost = 0;
            }
            if let Some(group) = groups.last_mut() {
                group.end = i + 1;
            }
            // Scores grow with the square of a span, rotation and packing with its length.
            cost += span.len * (span.len + 64) * self.heads.width * self.heads.group();
        }
        let kv_heads = self.heads.kv_heads;
        cpu::rows(groups.len() * kv_heads, 1, |task| {
            for span in &self.spans[groups[task.start / kv_heads].clone()] {
                f(SpanTask { span: *span, kv: task.start % kv_heads });
            }
        });
    }

    /// Rows of a span from column `start` on.
    fn rows<'b, T>(&self, qkv: &'b [T], span: AttentionSpan, start: usize) -> StridedRows<'b, T> {
        let stride = self.heads.qkv_width();
        let values = &qkv[span.offset * stride + start..(span.offset + span.len) * stride];
        StridedRows { values, stride }
    }

    /// A span's values of a key head, `[t, c]`.
    fn values<'b, T: Stored>(&self, qkv: &'b [T], span: AttentionSpan, kv: usize) -> Matrix<'b> {
        let start = self.heads.value(kv);
        columns(qkv, self.heads.qkv_width(), span, start..start + self.heads.width)
    }

    /// The rotation's table, or nothing.
    fn table(&self) -> &[f32] {
        self.rope.map_or(&[], |rope| rope.from(0))
    }

    fn forward_task<T: Stored>(
        &self,
        kernel: &'static Kernel,
        SpanTask { span, kv }: SpanTask,
        qkv: &[T],
        SpanOutputs { out, lse }: SpanOutputs<'_, T>,
    ) {
        let (t, c, table) = (span.len, self.heads.width, self.table());
        if t == 0 {
            return;
        }
        let n = lse.len() / self.heads.heads;
        let mut rotated = Scratch::new(t * c);
        let rotated = rotated.floats();
        rope::rotate(self.rows(qkv, span, self.heads.key(kv)), rotated, c, table, 1.0);
        let panels = ForwardPanels::new(kernel, Matrix::new(rotated, t, c), self.values(qkv, span, kv));
        for head in kv * self.heads.group()..(kv + 1) * self.heads.group() {
            rope::rotate(self.rows(qkv, span, head * c), rotated, c, table, self.heads.scale());
            let width = self.heads.out_width();
            // SAFETY: spans do not overlap (checked) and each head has one task, so these rows are this one's
            // alone.
            let (mut out, lse) = unsafe {
                let start = head * n + span.offset;
                (RowsMut::new(out, span.offset * width + head * c, width, c), lse.part(start..start + t))
            };
            let output = HeadOutput { out: &mut out, lse };
            head::attend(kernel, Matrix::new(rotated, t, c), &panels, span.visible(), output);
        }
    }

    fn backward_task<T: Stored>(
        &self,
        kernel: &'static Kernel,
        SpanTask { span, kv }: SpanTask,
        saved: Saved<'_, T>,
        SpanGradients { d_out, d_qkv }: SpanGradients<'_, T>,
    ) {
        let (t, c, table) = (span.len, self.heads.width, self.table());
        if t == 0 {
            return;
        }
        let (n, width, qkv_width) =
            (saved.lse.len() / self.heads.heads, self.heads.out_width(), self.heads.qkv_width());
        // SAFETY: spans do not overlap (checked) and each head has one task, so these rows are this one's
        // alone.
        let target = |start| unsafe { RowsMut::new(d_qkv, span.offset * qkv_width + start, qkv_width, c) };
        let mut scratch: [Scratch; 5] = std::array::from_fn(|_| Scratch::new(t * c));
        let [rotated, q, k, v, delta] = scratch.each_mut().map(|scratch| scratch.floats());
        rope::rotate(self.rows(saved.qkv, span, self.heads.key(kv)), rotated, c, table, 1.0);
        let panels =
            BackwardPanels::new(kernel, Matrix::new(rotated, t, c), self.values(saved.qkv, span, kv));
        let mut gradients = HeadGradients { q, k, v };
        gradients.k.fill(0.0);
        gradients.v.fill(0.0);
        for head in kv * self.heads.group()..(kv + 1) * self.heads.group() {
            rope::rotate(self.rows(saved.qkv, span, head * c), rotated, c, table, self.heads.scale());
            let rows = span.offset * width + head * c..(span.offset + t) * width;
            softmax::row_products(
                (&d_out[rows.clone()], &saved.out[rows.clone()]),
                width,
                c,
                &mut delta[..t],
            );
            let queries = Queries {
                q: Matrix::new(rotated, t, c),
                d_out: columns(d_out, width, span, head * c..(head + 1) * c),
                lse: &saved.lse[head * n + span.offset..][..t],
                delta: &delta[..t],
            };
            head::differentiate(kernel, &queries, &panels, span.visible(), &mut gradients);
            rope::rotate_back(gradients.q, &mut target(head * c), c, table, self.heads.scale());
        }
        rope::rotate_back(gradients.k, &mut target(self.heads.key(kv)), c, table, 1.0);
        rope::rotate_back(gradients.v, &mut target(self.heads.value(kv)), c, &[], 1.0);
    }
}

/// What one task computes: a sequence's heads of queries that share a head of keys and values.
#[derive(Clone, Copy)]
struct SpanTask {
    span: AttentionSpan,
    /// The head of keys and values.
    kv: usize,
}

/// Where the forward pass writes.
#[derive(Clone, Copy)]
struct SpanOutputs<'a, T> {
    /// `[n, h c]`
    out: Shared<'a, T>,
    /// `[h, n]`
    lse: Shared<'a, f32>,
}

/// What the backward pass reads and where it writes.
#[derive(Clone, Copy)]
struct SpanGradients<'a, T> {
    /// Of the output `[n, h c]`.
    d_out: &'a [T],
    /// Of the input `[n, (h + 2 g) c]`.
    d_qkv: Shared<'a, T>,
}

/// Some columns of a span's rows, which are `width` wide.
fn columns<T: Stored>(rows: &[T], width: usize, span: AttentionSpan, columns: Range<usize>) -> Matrix<'_> {
    Matrix::of(T::elements(rows), rows.len() / width, width)
        .row_range(span.offset..span.offset + span.len)
        .col_range(columns)
}

/// Products that make a task worth its while.
const COST: usize = 1 << 18;
