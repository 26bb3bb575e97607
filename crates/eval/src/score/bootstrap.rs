//! How sure a score is: percentile bootstrap intervals over test items, and the paired test of two runs (Efron & Tibshirani 1993).

use rand::Rng;
use serde::{Deserialize, Serialize};

use crate::{Stream, rng};

/// Resamples of each interval.
pub const RESAMPLES: usize = 2000;

/// A mean over test items.
#[derive(Clone, Debug, PartialEq, Serialize, Deserialize)]
pub struct Score {
    /// The mean.
    pub value: f64,
    /// The 2.5% and 97.5% points of the mean over resampled test items. It holds the chance of which items were asked, not
    /// that of training again. For CIDEr the items' scores are resampled with the idf of the whole set.
    pub ci95: [f64; 2],
    /// Number of items.
    pub n: usize,
}

/// Mean of `scores` with its 95% interval; the same for the same scores and seed. No scores give zeros and `n = 0`.
pub fn mean(scores: &[f64], seed: u64) -> Score {
    Score { value: average(scores), ci95: interval(&resampled(scores, seed)), n: scores.len() }
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
    let means = resampled(&differences, seed);
    let tail = |n: usize| (n + 1) as f64 / (means.len() + 1) as f64;
    let below = tail(means.iter().filter(|&&m| m <= 0.0).count());
    let above = tail(means.iter().filter(|&&m| m >= 0.0).count());
    Some(Difference {
        value: average(&differences),
        ci95: interval(&means),
        p: (2.0 * below.min(above)).min(1.0),
    })
}

/// The sorted means of [`RESAMPLES`] draws with replacement.
fn resampled(scores: &[f64], seed: u64) -> Vec<f64> {
    if scores.is_empty() {
        return Vec::new();
    }
    let mut rng = rng(seed, Stream::Bootstrap, 0);
    let mut draw = || (0..scores.len()).map(|_| scores[rng.random_range(0..scores.len())]).sum::<f64>();
    let mut means: Vec<f64> = (0..RESAMPLES).map(|_| draw() / scores.len() as f64).collect();
    means.sort_by(f64::total_cmp);
    means
}

fn interval(sorted: &[f64]) -> [f64; 2] {
    if sorted.is_empty() {
        return [0.0; 2];
    }
    [0.025, 0.975].map(|q| sorted[(q * (sorted.len() - 1) as f64).round() as usize])
}

fn average(scores: &[f64]) -> f64 {
    if scores.is_empty() { 0.0 } else { scores.iter().sum::<f64>() / scores.len() as f64 }
}
