//! Exact match.

/// 1 if `prediction` is one of `answers`, spaces around both ignored, else 0. Letter case counts.
pub fn score(prediction: &str, answers: &[String]) -> f64 {
    f64::from(u8::from(answers.iter().any(|a| a.trim() == prediction.trim())))
}
