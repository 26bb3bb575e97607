//! ROUGE-L (Lin & Och 2004) as pycocoevalcap computes it, over the words of [`super::ptb`].
//!
//! With L the longest common subsequence of words, precision is L / words predicted and recall L / words of
//! the reference. Of several references the best precision and the best recall are taken, each on its own.
//! The score is their F-measure with beta 1.2, which leans to recall; a corpus scores the mean of its items.

use super::ptb::PtbTokenizer;

const BETA: f64 = 1.2;

/// The ROUGE-L of `prediction`, 0 to 1. An empty text counts as one empty word, so two empty texts agree.
pub fn score(words: &PtbTokenizer, prediction: &str, references: &[String]) -> f64 {
    let prediction = words.tokenize(prediction);
    let prediction: Vec<&str> = prediction.split(' ').collect();
    let (mut precision, mut recall) = (0.0_f64, 0.0_f64);
    for reference in references {
        let reference = words.tokenize(reference);
        let reference: Vec<&str> = reference.split(' ').collect();
        let common = common_subsequence(&prediction, &reference) as f64;
        precision = precision.max(common / prediction.len() as f64);
        recall = recall.max(common / reference.len() as f64);
    }
    if precision == 0.0 {
        return 0.0;
    }
    let weight = BETA * BETA;
    (1.0 + weight) * precision * recall / (recall + weight * precision)
}

/// The length of the longest common subsequence.
fn common_subsequence(a: &[&str], b: &[&str]) -> usize {
    // longest[j] is that of what was read of `a` and the first j words of `b`.
    let mut longest = vec![0; b.len() + 1];
    for word in a {
        let mut diagonal = 0;
        for (j, other) in b.iter().enumerate() {
            let above = longest[j + 1];
            longest[j + 1] = if word == other { diagonal + 1 } else { above.max(longest[j]) };
            diagonal = above;
        }
    }
    longest[b.len()]
}
