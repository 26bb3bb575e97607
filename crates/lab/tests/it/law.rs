//! The law of the learning rate beside numpy and scipy, and on generated runs whose law is known.

use std::path::Path;

use mm1_lab::law::PowerLaw;
use mm1_lab::law::observation::{LawAxis, LawObservation, LawTarget};
use mm1_lab::law::optimum::SizeOptimum;
use serde_json::Value;

use crate::random::Random;

const A: f64 = -0.4214;
const B: f64 = -0.5535;
const SIZES: [u64; 4] = [100_000, 500_000, 2_500_000, 12_000_000];

/// Five rates a factor of two apart, three seeds, of a size whose best rate lies `off` the law.
fn runs(random: &mut Random, parameters: u64, off: f64, noise: f64) -> Vec<LawObservation> {
    let best = A * (parameters as f64).ln() + B + off;
    let rates = (-2..=2).map(|i| (best + 0.25 - off + f64::from(i) * 2_f64.ln()).exp());
    let levels: Vec<f64> = (0..3).map(|_| 0.05 * random.normal()).collect();
    let mut made = Vec::new();
    for learning_rate in rates {
        for seed in 0..3 {
            let curve = 0.1 * (learning_rate.ln() - best).powi(2);
            let result = Some(2.0 + levels[seed as usize] + curve + noise * random.normal());
            made.push(LawObservation { parameters, learning_rate, weight_decay: 0.1, seed, result });
        }
    }
    made
}

#[test]
fn the_law_and_every_optimum_are_those_of_numpy() {
    let file = Path::new(env!("CARGO_MANIFEST_DIR")).join("../../testdata/lab/law.json");
    let golden: Value = serde_json::from_slice(&std::fs::read(file).unwrap()).unwrap();
    let runs: Vec<LawObservation> = serde_json::from_value(golden["runs"].clone()).unwrap();
    let law = PowerLaw::fit(LawAxis::LearningRate, LawTarget::Loss, &runs).unwrap();
    let close = |ours: f64, golden: &Value| {
        let golden = golden.as_f64().unwrap();
        assert!((ours - golden).abs() <= 1e-7 * golden.abs(), "{ours} and {golden}");
    };
    assert_eq!(law.optima.len(), 5);
    for (ours, golden) in law.optima.iter().zip(golden["optima"].as_array().unwrap()) {
        close(ours.ln.value, &golden["ln"]);
        close(ours.ln.standard_error, &golden["standard_error"]);
        close(ours.ln.degrees_of_freedom, &golden["degrees_of_freedom"]);
        close(ours.parabola_p.unwrap(), &golden["parabola_p"]);
        assert_eq!((ours.runs, ours.diverged), (15, 0));
    }
    close(law.a.value, &golden["law"]["a"]);
    close(law.b.value, &golden["law"]["b"]);
    close(law.a.half_width(), &golden["law"]["half_widths"][0]);
    close(law.b.half_width(), &golden["law"]["half_widths"][1]);
    close(law.scatter, &golden["law"]["scatter"]);
    let at = law.at(law.centre_parameters).ln();
    assert!((at - law.centre.value).abs() < 1e-9, "{at}");
}

/// The shares of simulated intervals of optima and of exponents that hold the truth.
fn coverage(off: f64, noise: f64) -> [f64; 2] {
    let mut random = Random::new(3);
    let (mut optima, mut exponents) = (0, 0);
    for _ in 0..400 {
        let (mut all, mut truths) = (Vec::new(), Vec::new());
        for size in SIZES {
            let apart = off * random.normal();
            truths.push(A * (size as f64).ln() + B + apart);
            all.extend(runs(&mut random, size, apart, noise));
        }
        let law = PowerLaw::fit(LawAxis::LearningRate, LawTarget::Loss, &all).unwrap();
        let holds = |[low, high]: [f64; 2], truth: f64| usize::from(low <= truth && truth <= high);
        exponents += holds(law.a.ci95(), A);
        optima += law.optima.iter().zip(truths).map(|(of, truth)| holds(of.ln.ci95(), truth)).sum::<usize>();
    }
    [optima as f64 / 1600.0, exponents as f64 / 400.0]
}

#[test]
fn intervals_hold_the_law_whether_or_not_sizes_deviate_from_it() {
    for (off, noise) in [(0.0, 0.01), (0.0, 0.03), (0.05, 0.01), (0.15, 0.01), (0.1, 0.03)] {
        let [optima, exponents] = coverage(off, noise);
        assert!((0.93..=0.975).contains(&optima), "{off} {noise}: optima {optima}");
        assert!((0.92..=1.0).contains(&exponents), "{off} {noise}: exponents {exponents}");
    }
}

#[test]
fn a_score_has_the_same_optimum_as_the_loss_that_it_mirrors() {
    let mut losses = runs(&mut Random::new(4), 100_000, 0.0, 0.01);
    let of_loss = SizeOptimum::find(LawAxis::LearningRate, LawTarget::Loss, &losses).unwrap();
    losses.iter_mut().for_each(|run| run.result = run.result.map(|loss| -loss));
    let of_score = SizeOptimum::find(LawAxis::LearningRate, LawTarget::Score, &losses).unwrap();
    assert_eq!(of_loss, of_score);
    // Weight decay in the place of the rate.
    let turned = losses.iter().map(|run| LawObservation {
        learning_rate: 1e-3,
        weight_decay: run.learning_rate,
        ..*run
    });
    let of_decay =
        SizeOptimum::find(LawAxis::WeightDecay, LawTarget::Score, &turned.collect::<Vec<_>>()).unwrap();
    assert_eq!(of_decay.ln, of_score.ln);
}

fn refused(runs: &[LawObservation]) -> String {
    SizeOptimum::find(LawAxis::LearningRate, LawTarget::Loss, runs).unwrap_err().to_string()
}

/// Runs of 9 M parameters at rates of 1e-4 times powers of two, two seeds each.
fn grid(losses: &[f64]) -> Vec<LawObservation> {
    let run = |(i, loss): (usize, &f64), seed: u64| LawObservation {
        parameters: 9_000_000,
        learning_rate: 1e-4 * 2_f64.powi(i as i32),
        weight_decay: 0.1,
        seed,
        result: Some(loss + 0.001 * (i as f64 * 1.7 + seed as f64).sin()),
    };
    losses.iter().enumerate().flat_map(|point| [0, 1].map(|seed| run(point, seed))).collect()
}

#[test]
fn an_optimum_that_is_not_enclosed_is_refused_with_the_rate_to_add() {
    let lower = refused(&grid(&[2.0, 2.1, 2.3, 2.6]));
    assert_eq!(lower, "size 9.00 M: the best learning rate is at the lower edge of those tried: add 5.0e-5");
    let upper = refused(&grid(&[2.6, 2.3, 2.1, 2.0]));
    assert_eq!(upper, "size 9.00 M: the best learning rate is at the upper edge of those tried: add 1.6e-3");
    // The next rate up diverged: halfway to it.
    let mut diverged = grid(&[2.6, 2.3, 2.1, 2.0, 9.0]);
    diverged.iter_mut().filter(|run| run.learning_rate > 1e-3).for_each(|run| run.result = None);
    assert!(refused(&diverged).ends_with("add 1.1e-3"), "{}", refused(&diverged));
}

#[test]
fn runs_that_tell_no_optimum_are_refused() {
    assert_eq!(
        refused(&grid(&[2.0, 2.1])),
        "size 9.00 M: 2 values of the learning rate have a result and 3 are needed: add some"
    );
    let flat = refused(&grid(&[2.0005, 2.0, 2.0005, 2.0005]));
    assert!(flat.contains("are flat within their noise: add seeds, or values further out"), "{flat}");
    let mut decays = grid(&[2.1, 2.0, 2.1, 2.4]);
    decays[0].weight_decay = 0.2;
    assert_eq!(
        refused(&decays),
        "size 9.00 M: its runs differ in weight decay too: fit those of one value at a time"
    );
    let mut twice = grid(&[2.1, 2.0, 2.1, 2.4]);
    twice[1].seed = 0;
    let words = "size 9.00 M: two runs have the same learning rate and seed: give a study whose runs of one \
                 size differ in these alone";
    assert_eq!(refused(&twice), words);
    let one_size = grid(&[2.1, 2.0, 2.1, 2.4]);
    let law = PowerLaw::fit(LawAxis::LearningRate, LawTarget::Loss, &one_size).unwrap_err().to_string();
    assert_eq!(law, "a law needs runs of 3 sizes at least, better 4 or more; there is 1: add sizes");
}

#[test]
fn diverged_runs_are_left_out_and_counted_and_a_curve_that_is_no_parabola_is_told() {
    let mut made = grid(&[2.4, 2.1, 2.0, 2.1, 2.4, 9.0]);
    made.iter_mut().filter(|run| run.learning_rate > 2e-3).for_each(|run| run.result = Some(f64::NAN));
    let optimum = SizeOptimum::find(LawAxis::LearningRate, LawTarget::Loss, &made).unwrap();
    assert_eq!((optimum.runs, optimum.diverged), (10, 2));
    assert!((optimum.best / 4e-4 - 1.0).abs() < 0.02, "{}", optimum.best);
    let steep = grid(&[2.05, 2.03, 2.01, 2.0, 2.02, 2.9]);
    let optimum = SizeOptimum::find(LawAxis::LearningRate, LawTarget::Loss, &steep).unwrap();
    assert!(optimum.parabola_p.unwrap() < 0.01, "{optimum:?}");
}
