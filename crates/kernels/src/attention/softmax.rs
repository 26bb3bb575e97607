//! What happens to rows of scores between the products.

use crate::buffer::RowsMut;
use crate::cpu::tiered;
use crate::math::exp;
use crate::number::Stored;

/// Scores that are handled at once; rows of scores are a multiple of it long.
pub(super) const LANES: usize = 16;

/// How many keys the rows of a strip see.
#[derive(Clone, Copy)]
pub(super) enum VisibleKeys {
    /// All, so many.
    All(usize),
    /// One key more for each row, the first row so many.
    Causal(usize),
    /// As causal, the first row `first`, but none fewer than `least`.
    Prefix { first: usize, least: usize },
}

impl VisibleKeys {
    /// Keys that row `i` of the strip sees.
    #[inline(always)]
    pub(super) fn keys(self, i: usize) -> usize {
        match self {
            Self::All(keys) => keys,
            Self::Causal(first) => first + i,
            Self::Prefix { first, least } => (first + i).max(least),
        }
    }

    /// The same for the strip that starts at row `i`.
    pub(super) fn from(self, i: usize) -> Self {
        match self {
            Self::All(keys) => Self::All(keys),
            Self::Causal(first) => Self::Causal(first + i),
            Self::Prefix { first, least } => Self::Prefix { first: first + i, least },
        }
    }
}

tiered! {
    /// Turns rows of scores `[rows, stride]` into `e^(score - largest)`, and zeros where a row does not see.
    /// `inverse` `[rows]` takes the inverse of a row's sum, `lse` `[rows]` the logarithm of the sum of
    /// `e^score`.
    pub(super) fn exponentiate(
        scores: &mut [f32],
        stride: usize,
        visible: VisibleKeys,
        (inverse, lse): (&mut [f32], &mut [f32]),
    ) {
        for (i, row) in scores.chunks_exact_mut(stride).enumerate() {
            let keys = visible.keys(i);
            let (seen, rest) = row.split_at_mut(keys.next_multiple_of(LANES));
            // What a row does not see is 0 for the product with the values, and for whole lanes -inf until
            // then.
            rest.fill(0.0);
            seen[keys..].fill(f32::NEG_INFINITY);
            let (seen, _) = seen.as_chunks_mut::<LANES>();
            let largest = largest(seen);
            let mut sums = [0.0; LANES];
            for chunk in seen {
                for (sum, score) in sums.iter_mut().zip(chunk) {
                    *score = exp(*score - largest);
                    *sum += *score;
                }
            }
            let sum = total(sums);
            inverse[i] = 1.0 / sum;
            lse[i] = largest + sum.ln();
        }
    }
}

/// What the backward pass knows of rows of scores, `[rows]` each.
#[derive(Clone, Copy)]
pub(super) struct RowStatistics<'a> {
    /// The logarithm of the sum of `e^score`.
    pub(super) lse: &'a [f32],
    /// `sum dO O`, FlashAttention's D (Dao et al. 2022, appendix B.2).
    pub(super) delta: &'a [f32],
}

tiered! {
    /// Turns scores into probabilities and the probabilities' gradients `gradients` into the scores', both
    /// `[rows, stride]`; `lse` and `delta` (the row's `sum dO O`) are `[rows]`.
    pub(super) fn differentiate(
        scores: &mut [f32],
        gradients: &mut [f32],
        stride: usize,
        visible: VisibleKeys,
        known: RowStatistics<'_>,
    ) {
        let rows = scores.chunks_exact_mut(stride).zip(gradients.chunks_exact_mut(stride));
        let known = known.lse.iter().zip(known.delta);
        for (i, ((scores, gradients), (&lse, &delta))) in rows.zip(known).enumerate() {
            let keys = visible.keys(i);
            let padded = keys.next_multiple_of(LANES);
            scores[keys..padded].fill(f32::NEG_INFINITY);
            gradients[keys..padded].fill(0.0);
            scores[padded..].fill(0.0);
            gradients[padded..].fill(0.0);
            let (scores, _) = scores[..padded].as_chunks_mut::<LANES>();
            let (gradients, _) = gradients[..padded].as_chunks_mut::<LANES>();
            for (scores, gradients) in scores.iter_mut().zip(gradients) {
                // dS = P (dP - delta), with P from the saved logarithm of the sum: no second pass over the
                // row.
                for (score, gradient) in scores.iter_mut().zip(gradients) {
                    *score = exp(*score - lse);
                    *gradient = *score * (*gradient - delta);
                }
            }
        }
    }
}

tiered! {
    /// `sum a b` of rows `a` `[rows, stride]` and `b`, of which the first `width` values count.
    pub(super) fn row_products<T: Stored>(
        (a, b): (&[T], &[T]),
        stride: usize,
        width: usize,
        out: &mut [f32],
    ) {
        for ((a, b), out) in a.chunks(stride).zip(b.chunks(stride)).zip(out) {
            *out = dot(&a[..width], &b[..width]);
        }
    }
}

tiered! {
    /// Writes rows `[scales, width]`, each times its scale, to the rows from `first` on.
    pub(super) fn scale_rows<T: Stored>(
        from: &[f32],
        scales: &[f32],
        (to, first): (&mut RowsMut<'_, T>, usize),
    ) {
        let width = from.len() / scales.len();
        for (i, (row, &scale)) in from.chunks_exact(width).zip(scales).enumerate() {
            for (to, &x) in to.row(first + i).iter_mut().zip(row) {
                *to = T::stored(x * scale);
            }
        }
    }
}

/// The largest, NaN not counted.
#[inline(always)]
pub(super) fn largest(chunks: &[[f32; LANES]]) -> f32 {
    let mut lanes = [f32::NEG_INFINITY; LANES];
    for chunk in chunks {
        for (lane, &x) in lanes.iter_mut().zip(chunk) {
            *lane = if x > *lane { x } else { *lane };
        }
    }
    let mut half = LANES / 2;
    while half > 0 {
        for i in 0..half {
            lanes[i] = if lanes[i + half] > lanes[i] { lanes[i + half] } else { lanes[i] };
        }
        half /= 2;
    }
    lanes[0]
}

/// The sum of lanes, in a fixed order.
#[inline(always)]
pub(super) fn total(mut lanes: [f32; LANES]) -> f32 {
    let mut half = LANES / 2;
    while half > 0 {
        for i in 0..half {
            lanes[i] += lanes[i + half];
        }
        half /= 2;
    }
    lanes[0]
}

/// `sum a b`, in a fixed order.
#[inline(always)]
pub(super) fn dot<T: Stored>(a: &[T], b: &[T]) -> f32 {
    let mut lanes = [0.0; LANES];
    let ((a, a_rest), (b, b_rest)) = (a.as_chunks::<LANES>(), b.as_chunks::<LANES>());
    for (a, b) in a.iter().zip(b) {
        for ((lane, &a), &b) in lanes.iter_mut().zip(a).zip(b) {
            *lane += a.wide() * b.wide();
        }
    }
    for ((lane, &a), &b) in lanes.iter_mut().zip(a_rest).zip(b_rest) {
        *lane += a.wide() * b.wide();
    }
    total(lanes)
}
