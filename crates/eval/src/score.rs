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

use self::bleu::Counts;
use self::bootstrap::Score;
use self::cider::Cider;
use crate::run::Row;
use crate::task::Metric;

/// Scores the rows of a task in the unit of its metric.
pub(crate) fn rows(metric: Metric, rows: &mut [Row]) -> Result<()> {
    if metric == Metric::Perplexity {
        for row in rows {
            row.score = -row.log_probs.first().copied().unwrap_or(0.0) / row.tokens.max(1) as f64;
        }
        return Ok(());
    }
    let answers: Vec<_> = rows.iter().map(|r| r.answers.clone()).collect();
    let predictions: Vec<_> = rows.iter().map(|r| r.prediction.as_str()).collect();
    let scores = scores(metric, &answers, &predictions)?;
    for (row, score) in rows.iter_mut().zip(scores) {
        row.score = score;
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
        Metric::Bleu4 => items.map(|(a, p)| 100.0 * Counts::of(p, a).bleu()[3]).collect(),
        Metric::RougeL => items.map(|(a, p)| 100.0 * rouge::score(p, a)).collect(),
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
pub(crate) fn summary(metric: Metric, rows: &[Row], seed: u64) -> (Score, BTreeMap<String, Score>) {
    let score = |rows: &[&Row]| {
        if metric == Metric::Bleu4 {
            // The corpus's, which is no mean over items.
            let answers: Vec<Vec<String>> = rows.iter().map(|r| r.answers.clone()).collect();
            let predictions: Vec<&str> = rows.iter().map(|r| r.prediction.as_str()).collect();
            let [.., bleu4] = bleu::corpus(&answers, &predictions, seed);
            return bleu4;
        }
        if metric == Metric::Perplexity {
            let [score] = bootstrap::corpus(rows.len(), seed, |items| {
                let sum = |of: fn(&Row) -> f64| items.iter().map(|&item| of(rows[item])).sum::<f64>();
                [(sum(|row| row.score * row.tokens as f64) / sum(|row| row.tokens as f64)).exp()]
            });
            return score;
        }
        bootstrap::mean(&rows.iter().map(|r| r.score).collect::<Vec<_>>(), seed)
    };
    let mut categories: BTreeMap<String, Vec<&Row>> = BTreeMap::new();
    for row in rows {
        categories.entry(row.category.clone()).or_default().push(row);
    }
    let by_category = categories.iter().map(|(name, rows)| (name.clone(), score(rows)));
    (score(&rows.iter().collect::<Vec<_>>()), by_category.collect())
}

/// White space as Python sees it, in which the reference implementations are written.
fn is_space(c: char) -> bool {
    c.is_whitespace() || ('\u{1c}'..='\u{1f}').contains(&c)
}
