//! Relaxed accuracy (Masry et al. 2022, ChartQA, section 5.1) with the rules of pix2struct's evaluator, which
//! others took over.

use super::is_space;

/// The most that a number may be off, as a share of the true one.
const TOLERANCE: f64 = 0.05;

/// 1 if `prediction` is right by any of `answers`, else 0.
///
/// Where both are numbers and the answer is not 0, the prediction may be 5% off. All else must be equal but
/// for letter case. A percent sign at the end divides by 100, so `5` is wrong where `5%` is asked; `1,000`
/// and `$5` are no numbers.
pub fn score(prediction: &str, answers: &[String]) -> f64 {
    f64::from(u8::from(answers.iter().any(|answer| correct(prediction, answer))))
}

fn correct(prediction: &str, answer: &str) -> bool {
    match (number(prediction), number(answer)) {
        (Some(ours), Some(truth)) if truth != 0.0 => ((ours - truth).abs() / truth.abs()) <= TOLERANCE,
        _ => prediction.to_lowercase() == answer.to_lowercase(),
    }
}

fn number(text: &str) -> Option<f64> {
    if text.ends_with('%') { Some(float(text.trim_end_matches('%'))? / 100.0) } else { float(text) }
}

/// A number as the evaluator's language, Python, reads it; in ASCII digits.
fn float(text: &str) -> Option<f64> {
    let text = text.trim_matches(is_space);
    // Python allows one underscore between two digits.
    let digit = |part: Option<&u8>| part.is_some_and(u8::is_ascii_digit);
    let parts: Vec<&[u8]> = text.as_bytes().split(|&b| b == b'_').collect();
    let between_digits = parts.windows(2).all(|pair| digit(pair[0].last()) && digit(pair[1].first()));
    if between_digits { text.replace('_', "").parse().ok() } else { None }
}
