//! BLEU-1 to BLEU-4 (Papineni et al. 2002) as pycocoevalcap's `Bleu(4)` computes them, over the words of
//! [`super::ptb`].
//!
//! BLEU-n is the geometric mean of the precisions of 1- to n-grams (a prediction's n-gram counts at most as
//! often as in one reference), times exp(1 − r / c) where the predictions' c words are fewer than r, the sum
//! of each item's reference length closest to the prediction's. Papers report the score of the corpus: counts
//! are added over items first, so it is not the mean of the items' scores.

use std::iter::Sum;

use rayon::prelude::*;
use rustc_hash::FxHashMap;

use super::bootstrap::{self, Score};
use super::gram::{self, ORDERS};
use super::ptb::PtbTokenizer;

/// pycocoevalcap's guards against division by zero. They also make an item without any 4-gram score more than
/// 0.
const TINY: f64 = 1e-15;
const SMALL: f64 = 1e-9;

/// What items add to the score of their corpus. Sums over items are again counts.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub struct BleuCounts {
    /// Of n = 1..4, the predicted n-grams found in a reference.
    correct: [u64; ORDERS],
    /// Of n = 1..4, the predicted n-grams.
    guessed: [u64; ORDERS],
    /// Words of the prediction.
    words: u64,
    /// Words of the reference that is closest in length, the shorter of two.
    closest: u64,
}

impl BleuCounts {
    /// The counts of one item. No reference counts as an empty one.
    pub fn of(words: &PtbTokenizer, prediction: &str, references: &[String]) -> Self {
        let prediction = words.tokenize(prediction);
        let references: Vec<String> = references.iter().map(|r| words.tokenize(r)).collect();
        let mut known = FxHashMap::default();
        let predicted = ids(&prediction, &mut known);
        let (mut lengths, mut most) = (Vec::new(), FxHashMap::default());
        for reference in &references {
            let ids = ids(reference, &mut known);
            lengths.push(ids.len());
            for (gram, count) in gram::count(&ids) {
                let highest = most.entry(gram).or_default();
                *highest = count.max(*highest);
            }
        }
        let (words, closest) = (predicted.len() as u64, closest(&lengths, predicted.len()) as u64);
        let mut counts = Self { words, closest, ..Self::default() };
        for (gram, count) in gram::count(&predicted) {
            let order = gram::order(&gram);
            counts.guessed[order] += u64::from(count);
            counts.correct[order] += u64::from(count.min(most.get(&gram).copied().unwrap_or(0)));
        }
        counts
    }

    /// BLEU-1 to BLEU-4, 0 to 1.
    pub fn bleu(&self) -> [f64; ORDERS] {
        let ratio = (self.words as f64 + TINY) / (self.closest as f64 + SMALL);
        let brevity = if ratio < 1.0 { (1.0 - 1.0 / ratio).exp() } else { 1.0 };
        let mut product = 1.0;
        std::array::from_fn(|n| {
            product *= (self.correct[n] as f64 + TINY) / (self.guessed[n] as f64 + SMALL);
            brevity * product.powf(1.0 / (n + 1) as f64)
        })
    }
}

/// BLEU-1 to BLEU-4 of a corpus in percent, with intervals over resampled items.
pub fn corpus(references: &[Vec<String>], predictions: &[&str], seed: u64) -> [Score; ORDERS] {
    let (items, words) = (predictions.par_iter().zip(references), PtbTokenizer::new());
    let counts: Vec<BleuCounts> =
        items.map(|(prediction, references)| BleuCounts::of(&words, prediction, references)).collect();
    bootstrap::corpus(counts.len(), seed, |items| {
        items.iter().map(|&item| counts[item]).sum::<BleuCounts>().bleu().map(|bleu| 100.0 * bleu)
    })
}

impl Sum for BleuCounts {
    fn sum<I: Iterator<Item = Self>>(items: I) -> Self {
        items.fold(Self::default(), |mut total, item| {
            for n in 0..ORDERS {
                total.correct[n] += item.correct[n];
                total.guessed[n] += item.guessed[n];
            }
            total.words += item.words;
            total.closest += item.closest;
            total
        })
    }
}

/// The words as numbers, the same word always the same.
fn ids<'a>(words: &'a str, known: &mut FxHashMap<&'a str, u32>) -> Vec<u32> {
    words
        .split_whitespace()
        .map(|word| {
            let fresh = known.len() as u32 + 1;
            *known.entry(word).or_insert(fresh)
        })
        .collect()
}

fn closest(lengths: &[usize], to: usize) -> usize {
    lengths.iter().copied().min_by_key(|&length| (length.abs_diff(to), length)).unwrap_or(0)
}
