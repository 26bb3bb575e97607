//! ANLS, average normalised Levenshtein similarity (Biten et al. 2019, eq. 1), as the official evaluator of
//! DocVQA computes it.

use super::is_space;

/// Below this similarity an answer is wrong, not misread.
const THRESHOLD: f64 = 0.5;

/// The similarity of `prediction` to the nearest answer, 0 to 1: 1 − edits / length, and 0 where that is
/// below a half.
///
/// Letter case and repeated spaces do not count as edits, but the length is that of the longer text as it was
/// written, spaces and all: so the official evaluator has it. A similarity of exactly a half stays, as there
/// (in the paper it gives 0).
pub fn score(prediction: &str, answers: &[String]) -> f64 {
    let similarity = answers.iter().map(|answer| similarity(prediction, answer)).fold(0.0, f64::max);
    if similarity < THRESHOLD { 0.0 } else { similarity }
}

fn similarity(prediction: &str, answer: &str) -> f64 {
    // The official script measures upper-case texts, in which ß has two letters.
    let length = |text: &str| text.to_uppercase().chars().count();
    let edits = edits(&normal(prediction), &normal(answer));
    match length(prediction).max(length(answer)) {
        0 => 1.0,
        longest => 1.0 - edits as f64 / longest as f64,
    }
}

/// Lower-cased, words with one space between.
fn normal(text: &str) -> Vec<char> {
    let lower = text.to_lowercase();
    lower.split(is_space).filter(|word| !word.is_empty()).collect::<Vec<_>>().join(" ").chars().collect()
}

/// The Levenshtein distance: insertions, deletions and substitutions from `a` to `b`.
fn edits(a: &[char], b: &[char]) -> usize {
    // row[j] is the distance from what was read of `a` to the first j characters of `b`.
    let mut row: Vec<usize> = (0..=b.len()).collect();
    for (i, x) in a.iter().enumerate() {
        let mut diagonal = i;
        row[0] = i + 1;
        for (j, y) in b.iter().enumerate() {
            let substituted = diagonal + usize::from(x != y);
            diagonal = row[j + 1];
            row[j + 1] = substituted.min(row[j] + 1).min(diagonal + 1);
        }
    }
    row[b.len()]
}
