//! Exact match.

/// 1 if `prediction` is one of `answers`, spaces around both ignored, else 0. Letter case counts.
pub fn score(prediction: &str, answers: &[String]) -> f64 {
    f64::from(u8::from(answers.iter().any(|a| a.trim() == prediction.trim())))
}

/// The same without letter case and ASCII punctuation: `exact_match` of lm-evaluation-harness with
/// `ignore_case` and `ignore_punctuation`. As there, spaces around are cut off the prediction alone, and
/// before the punctuation goes.
pub fn normalised(prediction: &str, answers: &[String]) -> f64 {
    let normalise = |text: &str| text.to_lowercase().replace(|c: char| c.is_ascii_punctuation(), "");
    let prediction = normalise(prediction.trim());
    f64::from(u8::from(answers.iter().any(|answer| normalise(answer) == prediction)))
}
