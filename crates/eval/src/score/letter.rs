//! The option that a written answer names.

use crate::template::letter;

/// The letter of the option that `said` names: by its letter, alone or before a mark (`B`, `(b)`, `B. a cat`, `Option B`), or by
/// its text. Empty where it names none.
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

#[cfg(test)]
mod tests {
    use super::*;

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
