//! Metrics, each equal to its reference implementation.

pub mod anls;
pub mod bleu;
pub mod bootstrap;
pub mod cider;
pub mod exact;
mod gram;
pub mod letter;
pub mod likelihood;
pub mod open;
pub mod ptb;
pub mod relaxed;
pub mod rouge;
pub mod vqa;
pub mod yes_no;

use std::collections::BTreeMap;

use anyhow::{Result, ensure};
use rayon::prelude::*;

use self::bleu::BleuCounts;
use self::bootstrap::Score;
use self::cider::Cider;
use self::ptb::PtbTokenizer;
use crate::item::ItemResult;
use crate::metric::Metric;

/// Scores the items of a task in the unit of its metric.
pub(crate) fn score_items(metric: Metric, items: &mut [ItemResult]) -> Result<()> {
    if metric == Metric::Perplexity {
        for item in items {
            item.score = -item.log_probs.first().copied().unwrap_or(0.0) / item.tokens.max(1) as f64;
        }
        return Ok(());
    }
    let answers: Vec<_> = items.iter().map(|item| item.answers.clone()).collect();
    let predictions: Vec<_> = items.iter().map(|item| item.prediction.as_str()).collect();
    let scores = scores(metric, &answers, &predictions)?;
    for (item, score) in items.iter_mut().zip(scores) {
        item.score = score;
    }
    Ok(())
}

/// The score of each prediction against its item's answers: CIDEr × 100 or percent.
///
/// # Errors
/// No item, or an item without answers.
pub fn scores(metric: Metric, answers: &[Vec<String>], predictions: &[&str]) -> Result<Vec<f64>> {
    ensure!(answers.iter().all(|a| !a.is_empty()), "a test item has no answer to score against");
    let items = answers.par_iter().zip(predictions);
    Ok(match metric {
        Metric::VqaAccuracy => items.map(|(a, p)| 100.0 * vqa::accuracy(p, a)).collect(),
        Metric::NormalisedMatch => items.map(|(a, p)| 100.0 * exact::normalised(p, a)).collect(),
        Metric::ExactMatch
        | Metric::YesNo
        | Metric::Letter
        | Metric::Choice
        | Metric::ChoiceByLength
        | Metric::Greedy
        | Metric::Accuracy
        | Metric::RecallAt1 => items.map(|(a, p)| 100.0 * exact::score(p, a)).collect(),
        Metric::Bleu4 => {
            let words = PtbTokenizer::new();
            items.map(|(a, p)| 100.0 * BleuCounts::of(&words, p, a).bleu()[3]).collect()
        }
        Metric::RougeL => {
            let words = PtbTokenizer::new();
            items.map(|(a, p)| 100.0 * rouge::score(&words, p, a)).collect()
        }
        Metric::Anls => items.map(|(a, p)| 100.0 * anls::score(p, a)).collect(),
        Metric::RelaxedAccuracy => items.map(|(a, p)| 100.0 * relaxed::score(p, a)).collect(),
        // Nothing was written that could be compared.
        Metric::Perplexity => vec![0.0; answers.len()],
        Metric::Cider => {
            let cider = Cider::new(answers)?;
            predictions.par_iter().enumerate().map(|(item, p)| cider.score(item, p)).collect()
        }
    })
}

/// The score of a task and of each of its categories.
pub(crate) fn summary(metric: Metric, items: &[ItemResult], seed: u64) -> (Score, BTreeMap<String, Score>) {
    let score = |items: &[&ItemResult]| {
        if metric == Metric::Bleu4 {
            // The corpus's, which is no mean over items.
            let answers: Vec<Vec<String>> = items.iter().map(|item| item.answers.clone()).collect();
            let predictions: Vec<&str> = items.iter().map(|item| item.prediction.as_str()).collect();
            let [.., bleu4] = bleu::corpus(&answers, &predictions, seed);
            return bleu4;
        }
        if metric == Metric::Perplexity {
            let [score] = bootstrap::corpus(items.len(), seed, |drawn| {
                let sum = |of: fn(&ItemResult) -> f64| drawn.iter().map(|&i| of(items[i])).sum::<f64>();
                [(sum(|item| item.score * item.tokens as f64) / sum(|item| item.tokens as f64)).exp()]
            });
            return score;
        }
        bootstrap::mean(&items.iter().map(|item| item.score).collect::<Vec<_>>(), seed)
    };
    let mut categories: BTreeMap<String, Vec<&ItemResult>> = BTreeMap::new();
    for (item, category) in items.iter().flat_map(|item| item.categories().map(move |name| (item, name))) {
        categories.entry(category.to_owned()).or_default().push(item);
    }
    let by_category = categories.iter().map(|(name, items)| (name.clone(), score(items)));
    (score(&items.iter().collect::<Vec<_>>()), by_category.collect())
}

/// White space as Python sees it, in which the reference implementations are written.
fn is_space(c: char) -> bool {
    c.is_whitespace() || ('\u{1c}'..='\u{1f}').contains(&c)
}
