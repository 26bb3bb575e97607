//! The accepted answer that a written one is, for questions without options among those with (MMMU,
//! MathVista).

use super::vqa::normalise;

/// The first of `answers` that `said` is: the same number, or the same words in the normal form of
/// [`normalise`]. What was said, where it is none of them.
pub fn accepted(said: &str, answers: &[String]) -> String {
    let said = said.trim().trim_end_matches('.');
    let number = |text: &str| text.trim().replace(',', "").parse::<f64>().ok();
    let same = |answer: &&String| match (number(said), number(answer)) {
        (Some(said), Some(answer)) => said == answer,
        _ => normalise(said) == normalise(answer),
    };
    answers.iter().find(same).map_or(said, String::as_str).to_owned()
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn numbers_are_compared_as_numbers_and_words_without_case() {
        let answers = ["1200", "3.0", "The Moon"].map(String::from);
        for (said, is) in [
            (" 1,200.", "1200"),
            ("3", "3.0"),
            ("moon", "The Moon"),
            ("3.1", "3.1"),
            ("", ""),
            ("x 3", "x 3"),
        ] {
            assert_eq!(accepted(said, &answers), is, "{said:?}");
        }
    }
}
