//! Yes-or-no questions: what was said, and what POPE (Li et al. 2023, arXiv 2305.10355) and MME (Fu et al. 2023, arXiv
//! 2306.13394) report beside the accuracy.

use std::collections::BTreeMap;

use crate::run::Row;

/// `yes` or `no` where that is the first word of `output`, in any letter case; else nothing.
pub fn said(output: &str) -> String {
    let mut words = output.split(|c: char| !c.is_alphanumeric()).filter(|word| !word.is_empty());
    let first = words.next().unwrap_or_default().to_lowercase();
    if first == "yes" || first == "no" { first } else { String::new() }
}

/// In percent: `accuracy+`, the pictures of a category with all of their questions right (MME); `f1`, the harmonic mean of
/// precision and recall of `yes`; and `yes-share`, how often `yes` was said (POPE). Nothing where no row is.
///
/// MME's score of a category is its accuracy and its `accuracy+`, added.
pub fn also(rows: &[Row]) -> BTreeMap<String, f64> {
    if rows.is_empty() {
        return BTreeMap::new();
    }
    // The last picture of a prompt is the question's own.
    let mut pictures = BTreeMap::new();
    for row in rows {
        let all_right = pictures.entry((&row.category, row.hashes.last())).or_insert(true);
        *all_right &= row.score > 0.0;
    }
    let count = |chosen: &dyn Fn(&Row) -> bool| rows.iter().filter(|row| chosen(row)).count();
    let yes = |row: &Row| row.prediction == "yes";
    let should = |row: &Row| row.answers.iter().any(|answer| answer == "yes");
    let (said, expected) = (count(&yes), count(&should));
    let found = count(&|row| yes(row) && should(row));
    let right = pictures.values().filter(|right| **right).count();
    let percent = |part: usize, of: usize| 100.0 * part as f64 / of.max(1) as f64;
    BTreeMap::from([
        ("accuracy+".to_owned(), percent(right, pictures.len())),
        ("f1".to_owned(), percent(2 * found, said + expected)),
        ("yes-share".to_owned(), percent(said, rows.len())),
    ])
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn the_first_word_counts() {
        for (output, word) in
            [("Yes, it is.", "yes"), (" no", "no"), ("NO!", "no"), ("Not", ""), ("It is yes", ""), ("", "")]
        {
            assert_eq!(said(output), word, "{output:?}");
        }
    }

    #[test]
    fn pictures_count_where_all_their_questions_are_right() {
        let row = |picture: &str, right: &str, said: &str| Row {
            category: "count".to_owned(),
            hashes: vec!["shot".to_owned(), picture.to_owned()],
            answers: vec![right.to_owned()],
            prediction: said.to_owned(),
            score: if right == said { 100.0 } else { 0.0 },
            ..Row::default()
        };
        let rows = [row("a", "yes", "yes"), row("a", "no", "no"), row("b", "yes", ""), row("b", "no", "yes")];
        let also = also(&rows);
        // Of two yes one was found, and of two said one was right.
        assert_eq!((also["accuracy+"], also["f1"], also["yes-share"]), (50.0, 50.0, 50.0));
        assert_eq!(super::also(&[]), BTreeMap::new());
    }
}
