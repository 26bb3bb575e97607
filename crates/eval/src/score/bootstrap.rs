//! How sure a score is: percentile bootstrap intervals over test items, and the paired test of two runs
//! (Efron & Tibshirani 1993).

use rand::Rng;
use serde::{Deserialize, Serialize};

use crate::{RandomStream, rng};

/// Resamples of each interval.
pub(crate) const RESAMPLES: usize = 2000;

/// A score of a test set: the mean over its items, or a number of the whole corpus such as BLEU.
#[derive(Clone, Debug, PartialEq, Serialize, Deserialize)]
pub struct Score {
    /// The score.
    pub value: f64,
    /// The 2.5% and 97.5% points of the score over resampled test items. It holds the chance of which items
    /// were asked, not that of training again. For CIDEr the items' scores are resampled with the idf of the
    /// whole set.
    pub ci95: [f64; 2],
    /// Number of items.
    pub n: usize,
}

/// Mean of `scores` with its 95% interval; the same for the same scores and seed. No scores give zeros and `n
/// = 0`.
pub fn mean(scores: &[f64], seed: u64) -> Score {
    let [score] = corpus(scores.len(), seed, |items| [mean_of(scores, items)]);
    score
}

/// Scores of a corpus of `n` items with their 95% intervals. `scores` is given the items that count, by
/// index, some of them more than once.
pub fn corpus<const N: usize>(n: usize, seed: u64, scores: impl Fn(&[usize]) -> [f64; N]) -> [Score; N] {
    if n == 0 {
        return std::array::from_fn(|_| Score { value: 0.0, ci95: [0.0; 2], n });
    }
    let values = scores(&(0..n).collect::<Vec<_>>());
    let draws = resampled(n, seed, scores);
    std::array::from_fn(|i| Score { value: values[i], ci95: interval(&draws[i]), n })
}

/// The difference of two runs over the same items.
#[derive(Clone, Debug, PartialEq, Serialize, Deserialize)]
pub struct Difference {
    /// Mean of `a − b`.
    pub value: f64,
    /// Its 95% interval.
    pub ci95: [f64; 2],
    /// Two-sided p-value of "no difference"; at least 2 / (resamples + 1).
    pub p: f64,
}

/// Paired bootstrap of `a − b`, item by item; `None` if the lengths differ or there is no item.
pub fn paired(a: &[f64], b: &[f64], seed: u64) -> Option<Difference> {
    if a.len() != b.len() || a.is_empty() {
        return None;
    }
    let differences: Vec<f64> = a.iter().zip(b).map(|(a, b)| a - b).collect();
    let [means] = resampled(a.len(), seed, |items| [mean_of(&differences, items)]);
    let tail = |n: usize| (n + 1) as f64 / (means.len() + 1) as f64;
    let below = tail(means.iter().filter(|&&m| m <= 0.0).count());
    let above = tail(means.iter().filter(|&&m| m >= 0.0).count());
    Some(Difference {
        value: differences.iter().sum::<f64>() / a.len() as f64,
        ci95: interval(&means),
        p: (2.0 * below.min(above)).min(1.0),
    })
}

/// Each score of [`RESAMPLES`] draws of `n` items with replacement, sorted.
fn resampled<const N: usize>(n: usize, seed: u64, scores: impl Fn(&[usize]) -> [f64; N]) -> [Vec<f64>; N] {
    let mut rng = rng(seed, RandomStream::Bootstrap, 0);
    let mut items = vec![0; n];
    let mut draw = || {
        items.fill_with(|| rng.random_range(0..n));
        scores(&items)
    };
    let draws: Vec<[f64; N]> = (0..RESAMPLES).map(|_| draw()).collect();
    std::array::from_fn(|i| {
        let mut sorted: Vec<f64> = draws.iter().map(|draw| draw[i]).collect();
        sorted.sort_by(f64::total_cmp);
        sorted
    })
}

fn interval(sorted: &[f64]) -> [f64; 2] {
    [0.025, 0.975].map(|q| sorted[(q * (sorted.len() - 1) as f64).round() as usize])
}

fn mean_of(scores: &[f64], items: &[usize]) -> f64 {
    items.iter().map(|&item| scores[item]).sum::<f64>() / items.len() as f64
}
