//! Attention against its definition in f64, with the whole matrix of scores.

use crate::check::{
    assert_near, assert_same_on_any_threads, floats, instruction_sets, numbers, rounded, wide,
};
use half::bf16;
use mm1_kernels::attention::{
    AttentionSpan, CachedAttention, Cross, CrossSaved, Heads, KvCache, RopeTable, Saved, SequenceAttention,
};
use mm1_kernels::cpu::with_isa;
use mm1_kernels::gemm::Precision;

/// Rows of one head.
type Rows = Vec<Vec<f64>>;

/// `softmax(scale q K^T) V`, the logarithms of the sums, and the gradients of q, k and v.
fn naive([q, k, v, d_out]: [&Rows; 4], sees: impl Fn(usize, usize) -> bool) -> (Rows, Vec<f64>, [Rows; 3]) {
    let (t, p, c) = (q.len(), k.len(), q[0].len());
    let scale = 1.0 / (c as f64).sqrt();
    let dot = |a: &[f64], b: &[f64]| a.iter().zip(b).map(|(a, b)| a * b).sum::<f64>();
    let (mut out, mut lse) = (vec![vec![0.0; c]; t], vec![0.0; t]);
    let (mut dq, mut dk, mut dv) = (vec![vec![0.0; c]; t], vec![vec![0.0; c]; p], vec![vec![0.0; c]; p]);
    for i in 0..t {
        let seen: Vec<usize> = (0..p).filter(|&j| sees(i, j)).collect();
        let total: f64 = seen.iter().map(|&j| (scale * dot(&q[i], &k[j])).exp()).sum();
        lse[i] = total.ln();
        let share: Vec<f64> = seen.iter().map(|&j| (scale * dot(&q[i], &k[j])).exp() / total).collect();
        for (&j, share) in seen.iter().zip(&share) {
            (0..c).for_each(|x| out[i][x] += share * v[j][x]);
        }
        for (&j, share) in seen.iter().zip(&share) {
            let slope = share * (dot(&d_out[i], &v[j]) - dot(&d_out[i], &out[i]));
            for x in 0..c {
                dv[j][x] += share * d_out[i][x];
                dq[i][x] += scale * slope * k[j][x];
                dk[j][x] += scale * slope * q[i][x];
            }
        }
    }
    (out, lse, [dq, dk, dv])
}

/// Turns rows by `sign` times their positions.
fn turned(rows: &Rows, base: Option<f64>, sign: f64) -> Rows {
    let Some(base) = base else { return rows.clone() };
    let turn = |(p, row): (usize, &Vec<f64>)| {
        let half = row.len() / 2;
        let pair = |j: usize| {
            let angle = sign * p as f64 / base.powf(2.0 * j as f64 / row.len() as f64);
            let (a, b) = (row[j], row[j + half]);
            (a * angle.cos() - b * angle.sin(), b * angle.cos() + a * angle.sin())
        };
        (0..half).map(|j| pair(j).0).chain((0..half).map(|j| pair(j).1)).collect()
    };
    rows.iter().enumerate().map(turn).collect()
}

/// From the length of a span to its prefix.
type Prefix = fn(usize) -> usize;

const CAUSAL: Prefix = |_| 0;
const FULL: Prefix = |len| len;

struct Case {
    heads: Heads,
    spans: Vec<AttentionSpan>,
    tokens: usize,
    base: Option<f64>,
}

impl Case {
    fn new([heads, kv_heads, width]: [usize; 3], lens: &[usize], prefix: Prefix, base: Option<f64>) -> Self {
        // A gap before every third span and at the end.
        let mut offset = 0;
        let spans = lens.iter().enumerate().map(|(i, &len)| {
            offset += if i % 3 == 1 { 2 } else { 0 };
            offset += len;
            AttentionSpan { offset: offset - len, len, prefix: prefix(len) }
        });
        let spans: Vec<AttentionSpan> = spans.collect();
        Self { heads: Heads { heads, kv_heads, width }, tokens: offset + 1, spans, base }
    }

    fn inputs(&self) -> (Vec<f32>, Vec<f32>) {
        let qkv = numbers(11, self.tokens * self.heads.qkv_width()).into_iter().map(|x| 2.0 * x).collect();
        (qkv, numbers(12, self.tokens * self.heads.out_width()))
    }

    /// Output, logarithms and gradient of the kernel.
    fn run(&self, precision: Precision) -> [Vec<f32>; 3] {
        let (qkv, d_out) = self.inputs();
        let rope = self.base.map(|base| RopeTable::new(base, self.heads.width, 2048));
        let Self { heads, spans, .. } = self;
        let attention = SequenceAttention { heads: *heads, spans, rope: rope.as_ref(), precision };
        let (mut out, mut d_qkv) = (vec![f32::NAN; d_out.len()], vec![f32::NAN; qkv.len()]);
        let lse = attention.forward(&qkv, &mut out);
        attention.backward(Saved { qkv: &qkv, out: &out, lse: &lse }, &d_out, &mut d_qkv);
        [out, lse, d_qkv]
    }

    fn reference(&self) -> [Vec<f64>; 3] {
        let (qkv, d_out) = self.inputs();
        let (qkv, d_out) = (wide(&qkv), wide(&d_out));
        let (h, g, c) = (self.heads.heads, self.heads.kv_heads, self.heads.width);
        let (qkv_width, out_width) = (self.heads.qkv_width(), self.heads.out_width());
        let mut result = [vec![0.0; d_out.len()], vec![0.0; h * self.tokens], vec![0.0; qkv.len()]];
        for span in &self.spans {
            let rows = |from: &[f64], width: usize, start: usize| -> Rows {
                (0..span.len).map(|i| from[(span.offset + i) * width + start..][..c].to_vec()).collect()
            };
            for head in 0..h {
                let starts = [head * c, (h + head / (h / g)) * c, (h + g + head / (h / g)) * c];
                let [q, k, v] = starts.map(|start| rows(&qkv, qkv_width, start));
                if span.len == 0 {
                    continue;
                }
                let (q, k) = (turned(&q, self.base, 1.0), turned(&k, self.base, 1.0));
                let d_out = rows(&d_out, out_width, head * c);
                let (out, lse, [dq, dk, dv]) = naive([&q, &k, &v, &d_out], |i, j| j <= i || j < span.prefix);
                let (dq, dk) = (turned(&dq, self.base, -1.0), turned(&dk, self.base, -1.0));
                for i in 0..span.len {
                    let row = span.offset + i;
                    result[0][row * out_width + head * c..][..c].copy_from_slice(&out[i]);
                    result[1][head * self.tokens + row] = lse[i];
                    for (start, slope) in starts.iter().zip([&dq, &dk, &dv]) {
                        for x in 0..c {
                            result[2][row * qkv_width + start + x] += slope[i][x];
                        }
                    }
                }
            }
        }
        result
    }

    fn check(&self, precision: Precision, tolerance: f64) {
        let name = format!("{precision:?} {:?} spans {:?}", self.heads, self.spans);
        for ((got, expected), what) in
            self.run(precision).iter().zip(&self.reference()).zip(["out", "lse", "gradient"])
        {
            assert_near(&format!("{what} of {name}"), got, expected, tolerance);
        }
    }
}

fn cases() -> Vec<Case> {
    let rope = Some(10_000.0);
    vec![
        Case::new([2, 2, 16], &[5, 0, 1, 17, 33], CAUSAL, rope),
        Case::new([4, 2, 32], &[17, 40, 23, 31], CAUSAL, rope),
        Case::new([3, 1, 20], &[14, 15, 28, 29], CAUSAL, Some(500.0)),
        Case::new([2, 1, 6], &[50, 3], FULL, None),
        Case::new([1, 1, 2], &[9], CAUSAL, rope),
        Case::new([2, 2, 64], &[130, 260], CAUSAL, rope),
        Case::new([2, 1, 48], &[113, 64], FULL, rope),
        Case::new([1, 1, 32], &[900], CAUSAL, None),
        Case::new([2, 2, 16], &[5, 0, 1, 17, 33], |len| len / 2, rope),
        Case::new([4, 2, 20], &[2, 3, 28, 29, 130], |len| len.min(13), Some(500.0)),
        Case::new([1, 1, 32], &[900], |_| 256, None),
    ]
}

#[test]
fn attention_and_its_gradient_are_their_definition_on_every_instruction_set() {
    for isa in instruction_sets() {
        with_isa(isa, 2, || {
            for case in cases() {
                case.check(Precision::F32, 1e-5);
                case.check(Precision::Bf16, 1e-2);
            }
        });
    }
}

#[test]
fn prefix_attention_is_its_definition_at_any_size() {
    for seed in 0..60 {
        let mut draws = numbers(seed, 12).into_iter().map(|x| ((x + 1.0) * 50.0) as usize);
        let mut below = |most: usize| draws.next().map_or(0, |draw| draw * most / 100);
        let kv_heads = 1 + below(2);
        let heads = [kv_heads * (1 + below(3)), kv_heads, 2 * (1 + below(20))];
        let rope = (below(2) == 0).then_some(1_000.0);
        let mut case = Case::new(heads, &[below(120), below(40), below(9)], CAUSAL, rope);
        for span in &mut case.spans {
            span.prefix = below(span.len + 3);
        }
        case.check(Precision::F32, 1e-5);
    }
}

#[test]
fn a_prefix_of_one_is_causal_and_one_of_all_is_full() {
    let run = |prefix| {
        let case = Case::new([4, 2, 32], &[17, 140, 1, 60], prefix, Some(10_000.0));
        [Precision::F32, Precision::Bf16].map(|precision| case.run(precision))
    };
    assert!(run(|_| 1) == run(CAUSAL), "a prefix of one");
    assert!(run(|len| len + 5) == run(FULL), "a prefix beyond the end");
    assert!(run(|len| len / 2) != run(CAUSAL) && run(|len| len / 2) != run(FULL), "half a prefix");
}

#[test]
fn bits_do_not_depend_on_threads() {
    let case = Case::new([4, 2, 32], &[17, 140, 23, 31, 5, 60], |len| len / 4, Some(10_000.0));
    for precision in [Precision::F32, Precision::Bf16] {
        assert_same_on_any_threads(|| case.run(precision).concat());
    }
}

#[test]
fn halves_are_rounded_and_nothing_else() {
    for case in cases() {
        let (qkv, d_out) = case.inputs();
        let (qkv_halves, d_out_halves) = (rounded(&qkv), rounded(&d_out));
        let (qkv, d_out) = (floats(&qkv_halves), floats(&d_out_halves));
        let rope = case.base.map(|base| RopeTable::new(base, case.heads.width, 2048));
        let Case { heads, ref spans, .. } = case;
        for precision in [Precision::F32, Precision::Bf16] {
            let attention = SequenceAttention { heads, spans, rope: rope.as_ref(), precision };
            let (mut out, mut out_halves) = (vec![f32::NAN; d_out.len()], vec![bf16::NAN; d_out.len()]);
            let lse = attention.forward(&qkv, &mut out);
            assert_eq!(attention.forward(&qkv_halves, &mut out_halves), lse);
            assert_eq!(out_halves, rounded(&out), "{precision:?} {heads:?}");
            let (mut d_qkv, mut d_halves) = (vec![f32::NAN; qkv.len()], vec![bf16::NAN; qkv.len()]);
            let saved = Saved { qkv: &qkv[..], out: &floats(&out_halves), lse: &lse };
            attention.backward(saved, &d_out, &mut d_qkv);
            let saved = Saved { qkv: &qkv_halves[..], out: &out_halves, lse: &lse };
            attention.backward(saved, &d_out_halves, &mut d_halves);
            assert_eq!(d_halves, rounded(&d_qkv), "{precision:?} {heads:?}");
        }
    }
}

#[test]
fn a_span_has_the_same_bits_alone() {
    let heads = Heads { heads: 4, kv_heads: 2, width: 16 };
    let rope = RopeTable::new(10_000.0, 16, 64);
    let run = |qkv: &[f32], d_out: &[f32], spans: &[AttentionSpan]| {
        let attention = SequenceAttention { heads, spans, rope: Some(&rope), precision: Precision::F32 };
        let (mut out, mut d_qkv) = (vec![0.0; d_out.len()], vec![0.0; qkv.len()]);
        let lse = attention.forward(qkv, &mut out);
        attention.backward(Saved { qkv, out: &out, lse: &lse }, d_out, &mut d_qkv);
        (out, d_qkv)
    };
    let (wide, narrow) = (heads.qkv_width(), heads.out_width());
    let (qkv, d_out) = (numbers(21, 100 * wide), numbers(22, 100 * narrow));
    let spans = [(0, 37, 0), (37, 20, 9), (60, 40, 40)];
    let spans = spans.map(|(offset, len, prefix)| AttentionSpan { offset, len, prefix });
    let (out, d_qkv) = run(&qkv, &d_out, &spans);
    for span in spans {
        let AttentionSpan { offset, len, .. } = span;
        let (x, y) = (offset * wide..(offset + len) * wide, offset * narrow..(offset + len) * narrow);
        let alone = run(&qkv[x.clone()], &d_out[y.clone()], &[AttentionSpan { offset: 0, ..span }]);
        assert_eq!(alone.0, out[y]);
        assert_eq!(alone.1, d_qkv[x]);
    }
    assert!(out[57 * narrow..60 * narrow].iter().all(|&x| x == 0.0), "rows outside of the spans are zeros");
    assert!(d_qkv[57 * wide..60 * wide].iter().all(|&x| x == 0.0), "and have no gradient");
}

#[test]
fn nan_stays_in_its_span_and_reaches_all_later_tokens() {
    let heads = Heads { heads: 2, kv_heads: 1, width: 16 };
    let spans = [(0, 20), (20, 30), (50, 10)].map(|(offset, len)| AttentionSpan::causal(offset, len));
    let mut qkv = numbers(31, 60 * heads.qkv_width());
    qkv[25 * heads.qkv_width() + 2 * 16] = f32::NAN;
    for isa in instruction_sets() {
        let mut out = vec![0.0; 60 * heads.out_width()];
        let attention = SequenceAttention { heads, spans: &spans, rope: None, precision: Precision::F32 };
        let lse = with_isa(isa, 2, || attention.forward(&qkv, &mut out));
        let nan = |token: usize| out[token * 32..(token + 1) * 32].iter().any(|x| x.is_nan());
        assert!((0..20).chain(50..60).all(|token| !nan(token)), "{isa:?}");
        assert!((25..50).all(nan), "{isa:?}");
        assert!(lse[25..50].iter().all(|x| x.is_nan()));
    }
}

#[test]
fn large_scores_do_not_overflow() {
    let heads = Heads { heads: 1, kv_heads: 1, width: 16 };
    let qkv: Vec<f32> = numbers(41, 40 * 48).into_iter().map(|x| 100.0 * x).collect();
    let mut out = vec![0.0; 40 * 16];
    let spans = [AttentionSpan::full(0, 40)];
    let attention = SequenceAttention { heads, spans: &spans, rope: None, precision: Precision::F32 };
    let lse = attention.forward(&qkv, &mut out);
    assert!(lse.iter().chain(&out).all(|x| x.is_finite()));
    assert!(lse.iter().any(|&x| x > 1000.0));
}

#[test]
fn cached_tokens_come_out_as_in_the_whole_sequence() {
    let heads = Heads { heads: 6, kv_heads: 2, width: 32 };
    let (wide, narrow, n) = (heads.qkv_width(), heads.out_width(), 90);
    let rope = RopeTable::new(10_000.0, 32, n);
    let qkv = numbers(51, n * wide);
    let mut whole = vec![0.0; n * narrow];
    let spans = [AttentionSpan::causal(0, n)];
    for isa in instruction_sets() {
        let attention =
            SequenceAttention { heads, spans: &spans, rope: Some(&rope), precision: Precision::F32 };
        with_isa(isa, 2, || attention.forward(&qkv, &mut whole));
        let cached = CachedAttention { heads, rope: Some(&rope), precision: Precision::F32 };
        // Prefill, some tokens one by one, a few at once, many at once.
        let mut cache = KvCache::new(heads);
        let mut out = vec![0.0; n * narrow];
        let mut at = 0;
        for new in [40, 1, 1, 1, 7, 25, 15] {
            let (x, y) = (at * wide..(at + new) * wide, at * narrow..(at + new) * narrow);
            with_isa(isa, 2, || cached.attend(&qkv[x], &mut [(&mut cache, new)], &mut out[y]));
            at += new;
        }
        assert_eq!(cache.len(), n);
        assert_near(&format!("{isa:?}"), &out, &crate::check::wide(&whole), 1e-6);
    }
}

#[test]
fn a_cached_sequence_has_the_same_bits_in_any_batch() {
    let heads = Heads { heads: 4, kv_heads: 2, width: 16 };
    let (wide, narrow) = (heads.qkv_width(), heads.out_width());
    let rope = RopeTable::new(10_000.0, 16, 64);
    let attention = CachedAttention { heads, rope: Some(&rope), precision: Precision::F32 };
    let mut caches: Vec<KvCache> = (0..4).map(|_| KvCache::new(heads)).collect();
    let mut alone = caches.clone();
    for (round, news) in [[20, 3, 0, 9], [1, 1, 1, 1], [1, 12, 0, 1]].into_iter().enumerate() {
        let n: usize = news.iter().sum();
        let qkv = numbers(60 + round as u64, n * wide);
        let mut out = vec![0.0; n * narrow];
        let mut steps: Vec<(&mut KvCache, usize)> = caches.iter_mut().zip(news).collect();
        attention.attend(&qkv, &mut steps, &mut out);
        let mut at = 0;
        for (cache, new) in alone.iter_mut().zip(news) {
            let mut single = vec![0.0; new * narrow];
            attention.attend(&qkv[at * wide..(at + new) * wide], &mut [(cache, new)], &mut single);
            assert_eq!(single, out[at * narrow..(at + new) * narrow]);
            at += new;
        }
    }
    assert_eq!(caches.iter().map(KvCache::len).collect::<Vec<_>>(), [22, 16, 1, 11]);
}

/// With values that are 1 in one column for each position, the output is the attention itself.
#[test]
fn a_watched_cache_tells_where_the_last_token_looks() {
    let heads = Heads { heads: 4, kv_heads: 2, width: 16 };
    let (wide, n) = (heads.qkv_width(), 13);
    let rope = RopeTable::new(10_000.0, 16, 200);
    let attention = CachedAttention { heads, rope: Some(&rope), precision: Precision::F32 };
    let mut qkv = numbers(66, n * wide);
    for (t, row) in qkv.chunks_exact_mut(wide).enumerate() {
        for head in row[6 * 16..].chunks_exact_mut(16) {
            head.fill(0.0);
            head[t] = 1.0;
        }
    }
    for sizes in [&[12, 1][..], &[1, 12], &[9, 4]] {
        let (mut cache, mut plain) = (KvCache::new(heads), KvCache::new(heads));
        cache.watch();
        let (mut at, mut last) = (0, Vec::new());
        for &new in sizes {
            let (mut out, mut same) = (vec![0.0; new * 64], vec![0.0; new * 64]);
            let rows = &qkv[at * wide..(at + new) * wide];
            attention.attend(rows, &mut [(&mut cache, new)], &mut out);
            attention.attend(rows, &mut [(&mut plain, new)], &mut same);
            assert_eq!(out, same, "watching changes nothing");
            last = out[(new - 1) * 64..].to_vec();
            at += new;
        }
        let expected: Vec<f64> =
            (0..n).map(|t| (0..4).map(|head| f64::from(last[head * 16 + t])).sum()).collect();
        assert_near(&format!("{sizes:?}"), &cache.watched(), &expected, 1e-5);
        assert!(plain.watched().is_empty());
    }
}

#[test]
fn a_truncated_cache_goes_on_as_if_nothing_had_followed() {
    let heads = Heads { heads: 4, kv_heads: 2, width: 16 };
    let (wide, narrow, n) = (heads.qkv_width(), heads.out_width(), 150);
    let rope = RopeTable::new(10_000.0, 16, n);
    let attention = CachedAttention { heads, rope: Some(&rope), precision: Precision::F32 };
    let qkv = numbers(65, n * wide);
    let read = |cache: &mut KvCache, new: usize| {
        let (at, mut out) = (cache.len(), vec![0.0; new * narrow]);
        attention.attend(&qkv[at * wide..(at + new) * wide], &mut [(cache, new)], &mut out);
        out
    };
    // In a block, at its end, and before all.
    for kept in [70, 64, 0] {
        let (mut cache, mut other) = (KvCache::new(heads), KvCache::new(heads));
        read(&mut cache, 140);
        cache.truncate(kept);
        read(&mut other, kept);
        assert_eq!((cache.len(), other.len()), (kept, kept));
        for new in [1, 20, 3] {
            assert_eq!(read(&mut cache, new), read(&mut other, new), "{new} after {kept}");
        }
    }
}

/// What comes in bfloat16 is computed as the floats that it stands for, and rounded once.
#[test]
fn cached_tokens_in_bfloat16_are_those_of_floats_rounded() {
    let heads = Heads { heads: 6, kv_heads: 2, width: 32 };
    let rope = RopeTable::new(10_000.0, 32, 40);
    let attention = CachedAttention { heads, rope: Some(&rope), precision: Precision::Bf16 };
    let (mut cache, mut wide) = (KvCache::new(heads), KvCache::new(heads));
    for (seed, new) in [(66, 20), (67, 1)] {
        let qkv = rounded(&numbers(seed, new * heads.qkv_width()));
        let mut out = rounded(&vec![0.0; new * heads.out_width()]);
        attention.attend(&qkv, &mut [(&mut cache, new)], &mut out);
        let mut exact = vec![0.0; out.len()];
        attention.attend(&floats(&qkv), &mut [(&mut wide, new)], &mut exact);
        assert_eq!(out, rounded(&exact));
    }
}

#[test]
fn cross_attention_and_its_gradient_are_their_definition() {
    for (heads, width, queries, keys, precision) in
        [(2, 16, 3, 49, Precision::F32), (3, 20, 30, 17, Precision::F32), (2, 32, 16, 196, Precision::Bf16)]
    {
        let (n, d) = (3, heads * width);
        let cross = Cross { heads, width, queries, keys, precision };
        let (q, kv) = (numbers(71, n * queries * d), numbers(72, n * keys * 2 * d));
        let d_out = numbers(73, q.len());
        let mut out = vec![0.0; q.len()];
        let lse = cross.forward(&q, &kv, &mut out);
        let (mut d_q, mut d_kv) = (vec![0.0; q.len()], vec![0.0; kv.len()]);
        cross.backward(CrossSaved { q: &q, kv: &kv, out: &out, lse: &lse }, &d_out, &mut d_q, &mut d_kv);
        let mut expected =
            [vec![0.0; q.len()], vec![0.0; lse.len()], vec![0.0; q.len()], vec![0.0; kv.len()]];
        for (picture, head) in (0..n).flat_map(|picture| (0..heads).map(move |head| (picture, head))) {
            let at = |i: usize, rows: usize, width: usize, start: usize| (picture * rows + i) * width + start;
            let rows = |x: &[f32], rows: usize, wide: usize, start: usize| -> Rows {
                (0..rows).map(|i| crate::check::wide(&x[at(i, rows, wide, start)..][..width])).collect()
            };
            let (start, values) = (head * width, d + head * width);
            let given = [
                &rows(&q, queries, d, start),
                &rows(&kv, keys, 2 * d, start),
                &rows(&kv, keys, 2 * d, values),
                &rows(&d_out, queries, d, start),
            ];
            let (o, l, [dq, dk, dv]) = naive(given, |_, _| true);
            for i in 0..queries {
                expected[0][at(i, queries, d, start)..][..width].copy_from_slice(&o[i]);
                expected[1][(picture * heads + head) * queries + i] = l[i];
                expected[2][at(i, queries, d, start)..][..width].copy_from_slice(&dq[i]);
            }
            for j in 0..keys {
                expected[3][at(j, keys, 2 * d, start)..][..width].copy_from_slice(&dk[j]);
                expected[3][at(j, keys, 2 * d, values)..][..width].copy_from_slice(&dv[j]);
            }
        }
        let tolerance = if precision == Precision::F32 { 1e-5 } else { 1e-2 };
        for (got, expected) in [out, lse, d_q, d_kv].iter().zip(&expected) {
            assert_near(&format!("{cross:?}"), got, expected, tolerance);
        }
    }
}

#[test]
#[should_panic(expected = "begins before the end of the one before")]
fn spans_must_not_overlap() {
    let heads = Heads { heads: 1, kv_heads: 1, width: 2 };
    let spans = [(0, 3), (2, 2)].map(|(offset, len)| AttentionSpan::causal(offset, len));
    let attention = SequenceAttention { heads, spans: &spans, rope: None, precision: Precision::F32 };
    attention.forward(&[0.0; 30], &mut [0.0; 10]);
}
