//! The built-in facts.

use std::collections::{BTreeMap, BTreeSet};

use mm1_eval::task::Task;
use mm1_eval::tasks::facts;

#[test]
fn every_fact_has_four_options_and_one_is_right() {
    let task = facts::task();
    let asked: Vec<_> = (0..task.tests()).map(|i| task.test(i).unwrap()).collect();
    let shown: Vec<_> = (0..task.demonstrations()).map(|i| task.demonstration(i).unwrap()).collect();
    assert_eq!((asked.len(), shown.len()), (94, 16));
    let ids: BTreeSet<_> = asked.iter().chain(&shown).map(|q| q.id.clone()).collect();
    assert_eq!(ids.len(), 110);
    let mut places = BTreeMap::new();
    for question in asked.iter().chain(&shown) {
        let options: BTreeSet<_> = question.choices.iter().collect();
        assert_eq!((options.len(), question.choices.len()), (4, 4), "{}", question.id);
        let place = question.choices.iter().position(|choice| *choice == question.answers[0]).unwrap();
        *places.entry(place).or_insert(0) += 1;
    }
    // Kinds of ten facts end with a place short: the first two come up once more.
    assert!(places.values().all(|&n| (24..=32).contains(&n)), "{places:?}");
    assert!(!task.has_pictures());
}
