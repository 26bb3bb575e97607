//! Yes-or-no questions: what was said, and what POPE (Li et al. 2023, arXiv 2305.10355) and MME (Fu et al.
//! 2023, arXiv 2306.13394) report beside the accuracy.

use std::collections::BTreeMap;

use crate::item::ItemResult;

/// `yes` or `no` where that is the first word of `output`, in any letter case; else nothing.
pub(crate) fn first_word(output: &str) -> String {
    let mut words = output.split(|c: char| !c.is_alphanumeric()).filter(|word| !word.is_empty());
    let first = words.next().unwrap_or_default().to_lowercase();
    if first == "yes" || first == "no" { first } else { String::new() }
}

/// In percent: `accuracy+`, the pictures of a category with all of their questions right (MME); `f1`, the
/// harmonic mean of precision and recall of `yes`; and `yes-share`, how often `yes` was said (POPE). Nothing
/// where no item is.
///
/// MME's score of a category is its accuracy and its `accuracy+`, added.
pub fn figures(items: &[ItemResult]) -> BTreeMap<String, f64> {
    if items.is_empty() {
        return BTreeMap::new();
    }
    // The last picture of a prompt is the question's own.
    let mut pictures = BTreeMap::new();
    for item in items {
        let all_right = pictures.entry((&item.category, item.hashes.last())).or_insert(true);
        *all_right &= item.score > 0.0;
    }
    let count = |chosen: &dyn Fn(&ItemResult) -> bool| items.iter().filter(|item| chosen(item)).count();
    let yes = |item: &ItemResult| item.prediction == "yes";
    let should = |item: &ItemResult| item.answers.iter().any(|answer| answer == "yes");
    let (said, expected) = (count(&yes), count(&should));
    let found = count(&|item| yes(item) && should(item));
    let right = pictures.values().filter(|right| **right).count();
    let percent = |part: usize, of: usize| 100.0 * part as f64 / of.max(1) as f64;
    BTreeMap::from([
        ("accuracy+".to_owned(), percent(right, pictures.len())),
        ("f1".to_owned(), percent(2 * found, said + expected)),
        ("yes-share".to_owned(), percent(said, items.len())),
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
            assert_eq!(first_word(output), word, "{output:?}");
        }
    }

    #[test]
    fn pictures_count_where_all_their_questions_are_right() {
        let item = |picture: &str, right: &str, said: &str| ItemResult {
            category: "count".to_owned(),
            hashes: vec!["shot".to_owned(), picture.to_owned()],
            answers: vec![right.to_owned()],
            prediction: said.to_owned(),
            score: if right == said { 100.0 } else { 0.0 },
            ..ItemResult::default()
        };
        let items =
            [item("a", "yes", "yes"), item("a", "no", "no"), item("b", "yes", ""), item("b", "no", "yes")];
        let figures = figures(&items);
        // Of two yes one was found, and of two said one was right.
        assert_eq!((figures["accuracy+"], figures["f1"], figures["yes-share"]), (50.0, 50.0, 50.0));
        assert_eq!(super::figures(&[]), BTreeMap::new());
    }
}
