//! The option that a written answer names.

use std::collections::BTreeMap;

use crate::item::ItemResult;
use crate::template::letter;

/// The letter of the option that `said` names: by its letter, alone or before a mark (`B`, `(b)`, `B. a cat`,
/// `Option B`), or by its text. Empty where it names none.
pub fn chosen(said: &str, choices: &[String]) -> String {
    let said = said.trim();
    let letters: Vec<String> = (0..choices.len()).map(letter).collect();
    let words = || said.split(|c: char| !c.is_alphanumeric()).filter(|word| !word.is_empty());
    let first = words().next().unwrap_or_default();
    // `A` begins many sentences: it is meant as a letter where nothing or a mark follows.
    let after = said.find(first).map_or("", |at| &said[at + first.len()..]).trim_start();
    let alone = after.is_empty() || after.starts_with(['.', ')', ':', ',']);
    let exact = |choice: &String| choice.trim().eq_ignore_ascii_case(said.trim_end_matches('.'));
    let lone = letters.iter().find(|letter| alone && first.eq_ignore_ascii_case(letter));
    let later = || {
        let word = words().skip(1).find(|word| *word != "A" && letters.iter().any(|letter| letter == word));
        word.map(str::to_owned).unwrap_or_default()
    };
    match (lone, choices.iter().position(exact)) {
        (Some(lone), _) => lone.clone(),
        (None, Some(option)) => letter(option),
        (None, None) => later(),
    }
}

/// CircularEval (MMBench, section 4.3): `circular`, the share in percent of questions of which every item is
/// right, where a question was asked with its options in several orders. Nothing where none was.
pub fn circular(items: &[ItemResult]) -> BTreeMap<String, f64> {
    let mut questions: BTreeMap<_, Vec<f64>> = BTreeMap::new();
    for item in items {
        let mut choices = item.choices.clone();
        choices.sort();
        // The last picture of a prompt is the question's own.
        questions.entry((&item.question, choices, item.hashes.last())).or_default().push(item.score);
    }
    if questions.values().all(|scores| scores.len() == 1) {
        return BTreeMap::new();
    }
    let right = questions.values().filter(|scores| scores.iter().all(|&score| score == 100.0)).count();
    [("circular".to_owned(), 100.0 * right as f64 / questions.len() as f64)].into()
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_question_counts_where_all_rotations_are_right() {
        let item = |question: &str, choices: [&str; 2], score: f64| ItemResult {
            question: question.to_owned(),
            choices: choices.map(String::from).to_vec(),
            hashes: vec!["shot".to_owned(), "own".to_owned()],
            score,
            ..ItemResult::default()
        };
        let once = [item("a", ["x", "y"], 100.0), item("b", ["x", "y"], 0.0)];
        assert_eq!(circular(&once), BTreeMap::new());
        let both = [once, [item("a", ["y", "x"], 100.0), item("b", ["y", "x"], 100.0)]].concat();
        assert_eq!(circular(&both)["circular"], 50.0);
    }

    #[test]
    fn options_are_named_by_letter_or_text() {
        let choices: Vec<String> = ["a cat", "two dogs", "A", "none"].map(String::from).to_vec();
        for (said, letter) in [
            ("B", "B"),
            ("(b)", "B"),
            ("B. two dogs", "B"),
            (" d.", "D"),
            ("Option C", "C"),
            ("two dogs", "B"),
            ("Two dogs.", "B"),
            ("A cat", "A"),
            ("A bird", ""),
            ("", ""),
            ("e", ""),
        ] {
            assert_eq!(chosen(said, &choices), letter, "{said:?}");
        }
    }
}
