//! What is read off log-probabilities, as lm-evaluation-harness defines it.

use crate::item::ItemResult;
use crate::score::exact;

/// Accuracy by length (`acc_norm`), in percent for each item: whether the option with the highest
/// log-probability by character is right. The items are of a task in multiple choice.
pub fn by_length(items: &[ItemResult]) -> Vec<f64> {
    let score = |item: &ItemResult| {
        100.0 * exact::score(most_likely(&item.log_probs, &item.choices, true), &item.answers)
    };
    items.iter().map(score).collect()
}

/// Perplexity of the answers (`perplexity`): e to the mean of their negative log-probabilities. The items are
/// of a task that judges accepted answers; of several the first counts.
pub fn perplexity(items: &[ItemResult]) -> f64 {
    let first = items.iter().filter_map(|item| item.log_probs.first());
    (-first.sum::<f64>() / items.len() as f64).exp()
}

/// The option with the highest log-probability, or the highest by character (without the space before it);
/// the first among equals.
pub(crate) fn most_likely<'a>(log_probs: &[f64], choices: &'a [String], by_length: bool) -> &'a str {
    let worth = |i: &usize| {
        let length = if by_length { choices[*i].chars().count().max(1) } else { 1 };
        log_probs[*i] / length as f64
    };
    let best = (0..choices.len()).rev().max_by(|a, b| worth(a).total_cmp(&worth(b)));
    best.map_or("", |best| &choices[best])
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn length_is_in_characters_and_the_first_among_equals_wins() {
        let item = |choices: [&str; 2], log_probs: [f64; 2]| ItemResult {
            choices: choices.map(str::to_owned).to_vec(),
            log_probs: log_probs.to_vec(),
            answers: vec![choices[1].to_owned()],
            ..ItemResult::default()
        };
        // By byte the first would be the more likely one.
        assert_eq!(by_length(&[item(["ééé", "abcd"], [-3.3, -4.0])]), [100.0]);
        assert_eq!(by_length(&[item(["ab", "cd"], [-2.0, -2.0])]), [0.0]);
        assert_eq!(perplexity(&[item(["", ""], [-1.0, -9.0]), item(["", ""], [-3.0, 0.0])]), 2_f64.exp());
    }
}
