//! Attention of new tokens to all before them, whose keys and values are cached.

use std::sync::Arc;

use super::head::{self, ForwardPanels, HeadOutput};
use super::rope::StridedRows;
use super::softmax::{self, LANES, VisibleKeys};
use super::{Heads, RopeTable, rope};
use crate::buffer::{RowsMut, Scratch, Shared};
use crate::cpu::{self, tiered};
use crate::gemm::{Kernel, Matrix, Precision};
use crate::number::Stored;

/// Keys and values of one layer and one sequence. They grow by blocks, which never move: copying them to a
/// longer vector took as long as three tokens. A clone shares all blocks, and a block is copied when one of
/// those that share it writes to it: sequences that begin alike hold their beginning once.
#[derive(Clone, Debug)]
pub struct KvCache {
    /// Of each key head.
    blocks: Vec<Vec<Arc<TokenBlock>>>,
    len: usize,
    /// Of a head: `c`.
    width: usize,
    /// Where it is watched, of each key head: how much its queries of the last token look at each token,
    /// added.
    watched: Option<Vec<Vec<f32>>>,
}

/// Tokens of a block: keys of 16 KB stay in the first cache while all heads read them.
const TOKENS: usize = 64;

/// Keys and values of some tokens of a head; behind the last one are any values.
#[derive(Clone, Debug)]
struct TokenBlock {
    /// `[c, TOKENS]`, turned by their positions: keys lie side by side, so that a query meets many of them in
    /// one vector, and no sum is taken across a vector.
    keys: Box<[f32]>,
    /// `[TOKENS, c]`
    values: Box<[f32]>,
}

impl TokenBlock {
    fn new(width: usize) -> Self {
        let zeros = || vec![0.0; TOKENS * width].into_boxed_slice();
        Self { keys: zeros(), values: zeros() }
    }

    /// Sets keys from token `first` on, of rows `[n, c]`.
    fn set_keys(&mut self, first: usize, rows: &[f32], width: usize) {
        for (j, keys) in self.keys.chunks_exact_mut(TOKENS).enumerate() {
            for (key, row) in keys[first..].iter_mut().zip(rows.chunks_exact(width)) {
                *key = row[j];
            }
        }
    }

    /// The first keys as rows `[n, c]`.
    fn read_keys(&self, rows: &mut [f32], width: usize) {
        for (token, row) in rows.chunks_exact_mut(width).enumerate() {
            for (x, keys) in row.iter_mut().zip(self.keys.chunks_exact(TOKENS)) {
                *x = keys[token];
            }
        }
    }
}

impl KvCache {
    /// An empty one.
    pub fn new(heads: Heads) -> Self {
        Self { blocks: vec![Vec::new(); heads.kv_heads], len: 0, width: heads.width, watched: None }
    }

    /// Number of tokens.
    pub fn len(&self) -> usize {
        self.len
    }

    /// Whether there are none.
    pub fn is_empty(&self) -> bool {
        self.len == 0
    }

    /// Forgets all tokens from `len` on, and where they looked.
    pub fn truncate(&mut self, len: usize) {
        self.watched = None;
        self.len = self.len.min(len);
        self.blocks.iter_mut().for_each(|blocks| blocks.truncate(self.len.div_ceil(TOKENS)));
    }

    /// Tokens of a block.
    pub const fn block_tokens() -> usize {
        TOKENS
    }

    /// From now on it keeps where the last token looks. That changes no result.
    pub fn watch(&mut self) {
        self.watched = Some(vec![Vec::new(); self.blocks.len()]);
    }

    /// How much the last token looks at each token, added over the query heads: `[len]`. Empty where it is
    /// not watched, and before a token was read.
    pub fn watched(&self) -> Vec<f32> {
        let mut heads = self.watched.iter().flatten();
        let mut sum = heads.next().cloned().unwrap_or_default();
        heads.for_each(|head| sum.iter_mut().zip(head).for_each(|(sum, weight)| *sum += weight));
        sum
    }

    /// An address for each block of the first head: caches that share a block have the same one. The other
    /// heads have as many, shared alike.
    pub fn block_addresses(&self) -> impl Iterator<Item = usize> + '_ {
        self.blocks.iter().take(1).flatten().map(|block| Arc::as_ptr(block) as usize)
    }

    /// Memory of a block of all heads.
    /// Unit: bytes.
    pub fn block_bytes(heads: Heads) -> usize {
        2 * TOKENS * heads.width * heads.kv_heads * size_of::<f32>()
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

/// What one task does: the new tokens of one sequence, for one key head.
struct HeadTask<'a> {
    kv: usize,
    blocks: &'a mut Vec<Arc<TokenBlock>>,
    watched: Option<&'a mut Vec<f32>>,
    /// Cached tokens.
    before: usize,
    /// The first new one's row of input and output.
    first: usize,
    /// New tokens, at least one.
    new: usize,
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
    pub fn attend<T: Stored>(&self, qkv: &[T], steps: &mut [(&mut KvCache, usize)], out: &mut [T]) {
        let heads = self.heads;
        heads.check(self.rope);
        let n: usize = steps.iter().map(|step| step.1).sum();
        assert_eq!(qkv.len(), n * heads.qkv_width(), "{heads:?}: the input is not the steps' {n} rows");
        assert_eq!(out.len(), n * heads.out_width(), "{heads:?}: the output is not the steps' {n} rows");
        let (mut tasks, mut first) = (Vec::with_capacity(steps.len() * heads.kv_heads), 0);
        for (cache, new) in steps.iter_mut().map(|(cache, new)| (&mut **cache, *new)) {
            let fits = cache.width == heads.width && cache.blocks.len() == heads.kv_heads;
            assert!(fits, "a cache of other heads");
            let (before, most) = (cache.len, self.rope.map_or(usize::MAX, RopeTable::positions));
            cache.len += new;
            assert!(cache.len <= most, "a sequence is longer than the rotation's {most} positions");
            let KvCache { blocks, watched, .. } = cache;
            let mut watched = watched.iter_mut().flatten();
            let of_head = |(kv, blocks)| HeadTask { kv, blocks, watched: watched.next(), before, first, new };
            tasks.extend(blocks.iter_mut().enumerate().map(of_head).filter(|task| task.new > 0));
            first += new;
        }
        let out = Shared::new(out);
        cpu::chunks(&mut tasks, 1, |_, tasks| tasks.iter_mut().for_each(|task| self.task(qkv, task, out)));
    }

    fn task<T: Stored>(&self, qkv: &[T], task: &mut HeadTask<'_>, out: Shared<'_, T>) {
        let (heads, c, few) = (self.heads, self.heads.width, task.new <= FEW);
        let (width, total) = (heads.out_width(), task.before + task.new);
        // Many queries read keys as rows, also those that were there.
        let mut keys = Scratch::new(if few { task.new } else { total } * c);
        let keys = keys.floats();
        self.append(qkv, task, &mut keys[if few { 0 } else { task.before * c }..]);
        let of_group = task.kv * heads.group()..(task.kv + 1) * heads.group();
        let mut q = Scratch::new(heads.group() * task.new * c);
        let q = q.floats();
        for (head, q) in of_group.clone().zip(q.chunks_exact_mut(task.new * c)) {
            self.rotate(task.rows(qkv, heads, head * c), q, task.before, heads.scale());
        }
        if let Some(watched) = &mut task.watched {
            let last = q.chunks_exact(task.new * c).flat_map(|q| &q[(task.new - 1) * c..]);
            let last: Vec<f32> = last.copied().collect();
            **watched = QueryGroup { q: &last, new: 1, blocks: task.blocks, width: c }.weights(total);
        }
        // SAFETY: each sequence has its rows and each head its task, so these rows are this one's alone.
        let rows_of = |head: usize| unsafe { RowsMut::new(out, task.first * width + head * c, width, c) };
        let visible = VisibleKeys::Causal(task.before + 1);
        if few {
            let mut out: Vec<_> = of_group.map(rows_of).collect();
            return QueryGroup { q, new: task.new, blocks: task.blocks, width: c }.attend(visible, &mut out);
        }
        let (kernel, mut values) = (Kernel::of(self.precision), Scratch::new(total * c));
        let values = values.floats();
        read_rows(task.blocks, &mut keys[..task.before * c], values, c);
        // Packing reads keys and values once and writes them once: it pays where enough queries read them
        // again.
        let panels = ForwardPanels::new(kernel, Matrix::new(keys, total, c), Matrix::new(values, total, c));
        for (head, q) in of_group.zip(q.chunks_exact(task.new * c)) {
            let mut lse = Scratch::new(task.new);
            let output = HeadOutput { out: &mut rows_of(head), lse: lse.floats() };
            head::attend(kernel, Matrix::new(q, task.new, c), &panels, visible, output);
        }
    }

    /// Appends the new tokens' keys and values; the keys also to the rows `keys` `[new, c]`.
    fn append<T: Stored>(&self, qkv: &[T], task: &mut HeadTask<'_>, keys: &mut [f32]) {
        let (c, end) = (self.heads.width, task.before + task.new);
        self.rotate(task.rows(qkv, self.heads, self.heads.key(task.kv)), keys, task.before, 1.0);
        let values = task.rows(qkv, self.heads, self.heads.value(task.kv));
        task.blocks.resize_with(end.div_ceil(TOKENS), || Arc::new(TokenBlock::new(c)));
        for (i, block) in task.blocks.iter_mut().enumerate().skip(task.before / TOKENS) {
            let first = (i * TOKENS).max(task.before);
            let (at, new, n) = (first % TOKENS, first - task.before, ((i + 1) * TOKENS).min(end) - first);
            let block = Arc::make_mut(block);
            block.set_keys(at, &keys[new * c..(new + n) * c], c);
            let rows = StridedRows { values: &values.values[new * values.stride..], ..values };
            rope::rotate(rows, &mut block.values[at * c..(at + n) * c], c, &[], 1.0);
        }
    }

    /// Rows `[n, c]` turned by their positions, the first of which is given, and scaled.
    fn rotate<T: Stored>(&self, rows: StridedRows<'_, T>, to: &mut [f32], position: usize, scale: f32) {
        let table = self.rope.map_or(&[][..], |rope| rope.from(position));
        rope::rotate(rows, to, self.heads.width, table, scale);
    }
}

impl HeadTask<'_> {
    /// The new tokens' rows of a head whose first value is at `start` of a row.
    fn rows<'b, T>(&self, qkv: &'b [T], heads: Heads, start: usize) -> StridedRows<'b, T> {
        let stride = heads.qkv_width();
        StridedRows { values: &qkv[self.first * stride + start..], stride }
    }
}

/// The first tokens' keys, and values, as rows `[n, c]`.
fn read_rows(blocks: &[Arc<TokenBlock>], keys: &mut [f32], values: &mut [f32], width: usize) {
    for (block, keys) in blocks.iter().zip(keys.chunks_mut(TOKENS * width)) {
        block.read_keys(keys, width);
    }
    for (block, values) in blocks.iter().zip(values.chunks_mut(TOKENS * width)) {
        values.copy_from_slice(&block.values[..values.len()]);
    }
}

/// A few queries of the heads that share keys, and their keys and values where they lie.
struct QueryGroup<'a> {
    /// `[heads, new, c]`
    q: &'a [f32],
    new: usize,
    blocks: &'a [Arc<TokenBlock>],
    /// `c`
    width: usize,
}

impl QueryGroup<'_> {
    /// How much the one query of each head looks at each of the keys it sees, added over the heads: `[seen]`.
    fn weights(&self, seen: usize) -> Vec<f32> {
        let (heads, stride) = (self.q.len() / self.width, seen.next_multiple_of(LANES));
        let (mut scores, mut inverse, mut lse) =
            (vec![0.0; heads * stride], vec![0.0; heads], vec![0.0; heads]);
        for (q, scores) in self.q.chunks_exact(self.width).zip(scores.chunks_exact_mut(stride)) {
            for (scores, block) in scores.chunks_mut(TOKENS).zip(self.blocks) {
                add_weighted(q, (&block.keys, TOKENS), scores);
            }
        }
        softmax::exponentiate(&mut scores, stride, VisibleKeys::All(seen), (&mut inverse, &mut lse));
        let weight = |key: usize| (0..heads).map(|head| scores[head * stride + key] * inverse[head]).sum();
        (0..seen).map(weight).collect()
    }

    /// Writes a row of each head's `out` for each new token.
    fn attend<T: Stored>(&self, visible: VisibleKeys, out: &mut [RowsMut<'_, T>]) {
        let (heads, c) = (out.len(), self.width);
        let mut memory = Scratch::new(heads * (c + 2));
        let (sums, statistics) = memory.floats().split_at_mut(heads * c);
        let (inverse, lse) = statistics.split_at_mut(heads);
        for i in 0..self.new {
            let seen = visible.keys(i);
            let stride = seen.next_multiple_of(LANES);
            let mut scores = Scratch::new(heads * stride);
            let scores = scores.floats();
            scores.fill(0.0);
            // A block of keys or values is read by all heads while the first cache holds it.
            for (first, block) in (0..seen).step_by(TOKENS).zip(self.blocks) {
                let end = (first + TOKENS).min(stride);
                for (head, scores) in scores.chunks_exact_mut(stride).enumerate() {
                    let q = &self.q[(head * self.new + i) * c..][..c];
                    add_weighted(q, (&block.keys, TOKENS), &mut scores[first..end]);
                }
            }
            softmax::exponentiate(scores, stride, VisibleKeys::All(seen), (&mut *inverse, &mut *lse));
            sums.fill(0.0);
            for (first, block) in (0..seen).step_by(TOKENS).zip(self.blocks) {
                let values = &block.values[..TOKENS.min(seen - first) * c];
                for (scores, sums) in scores.chunks_exact(stride).zip(sums.chunks_exact_mut(c)) {
                    add_weighted(&scores[first..], (values, c), sums);
                }
            }
            for (head, out) in out.iter_mut().enumerate() {
                softmax::scale_rows(&sums[head * c..][..c], &inverse[head..=head], (out, i));
            }
        }
    }
}

tiered! {
    /// Adds rows, each times its weight, to `out` `[n]`: the first n of so many columns of `rows`.
    fn add_weighted(weights: &[f32], (rows, columns): (&[f32], usize), out: &mut [f32]) {
        let n = out.len();
        let (wide, rest) = out.as_chunks_mut::<64>();
        for (i, out) in wide.iter_mut().enumerate() {
            add_columns(weights, (rows, columns), i * 64, out);
        }
        let done = n - rest.len();
        let (narrow, rest) = rest.as_chunks_mut::<LANES>();
        for (i, out) in narrow.iter_mut().enumerate() {
            add_columns(weights, (rows, columns), done + i * LANES, out);
        }
        let done = n - rest.len();
        for (i, out) in rest.iter_mut().enumerate() {
            add_columns(weights, (rows, columns), done + i, std::array::from_mut(out));
        }
    }
}

/// The same for some columns, whose sums stay in registers.
#[inline(always)]
fn add_columns<const N: usize>(
    weights: &[f32],
    (rows, columns): (&[f32], usize),
    column: usize,
    out: &mut [f32; N],
) {
    let mut sums = *out;
    for (&weight, row) in weights.iter().zip(rows.chunks_exact(columns)) {
        for (sum, &x) in sums.iter_mut().zip(&row[column..column + N]) {
            *sum += weight * x;
        }
    }
    *out = sums;
}
