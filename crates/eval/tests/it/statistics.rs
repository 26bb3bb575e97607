//! Intervals and paired tests.

use mm1_eval::score::bootstrap::{mean, paired};
use rand::{Rng, SeedableRng};
use rand_chacha::ChaCha8Rng;

fn answers(rng: &mut ChaCha8Rng, n: usize, accuracy: f64) -> Vec<f64> {
    (0..n).map(|_| if rng.random_bool(accuracy) { 100.0 } else { 0.0 }).collect()
}

#[test]
fn the_interval_holds_the_truth_about_95_times_of_100() {
    let mut rng = ChaCha8Rng::seed_from_u64(1);
    let holds = |_: &u64| {
        let score = mean(&answers(&mut rng, 150, 0.3), 7);
        score.ci95[0] <= 30.0 && 30.0 <= score.ci95[1]
    };
    let held = (0..300).filter(holds).count();
    assert!((270..=297).contains(&held), "{held} of 300");
}

#[test]
fn the_interval_is_as_wide_as_theory_says() {
    let scores = answers(&mut ChaCha8Rng::seed_from_u64(2), 1000, 0.5);
    let score = mean(&scores, 7);
    let width = score.ci95[1] - score.ci95[0];
    let theory = 2.0 * 1.96 * (score.value * (100.0 - score.value) / 1000.0).sqrt();
    assert!((width / theory - 1.0).abs() < 0.1, "{width} and {theory}");
    assert_eq!(score, mean(&scores, 7));
    assert_ne!(score.ci95, mean(&scores, 8).ci95);
}

#[test]
fn equal_scores_have_no_width() {
    assert_eq!(mean(&[40.0; 30], 7).ci95, [40.0; 2]);
    assert_eq!(mean(&[], 7).n, 0);
}

#[test]
fn paired_tells_a_difference_from_none() {
    let mut rng = ChaCha8Rng::seed_from_u64(3);
    let (a, same, worse) =
        (answers(&mut rng, 400, 0.6), answers(&mut rng, 400, 0.6), answers(&mut rng, 400, 0.4));
    let none = paired(&a, &same, 7).unwrap();
    assert!(none.p > 0.05 && none.ci95[0] < 0.0 && none.ci95[1] > 0.0, "{none:?}");
    let some = paired(&a, &worse, 7).unwrap();
    assert!(some.p < 0.01 && some.ci95[0] > 0.0, "{some:?}");
    assert_eq!(paired(&a, &a, 7).unwrap().p, 1.0);
    assert_eq!(paired(&a, &a[1..], 7), None);
}
