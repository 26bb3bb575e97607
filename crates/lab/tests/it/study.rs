//! The statistics of studies beside numpy and scipy, and on generated scores whose truth is known.

use std::path::Path;

use mm1_lab::estimate::Estimate;
use mm1_lab::study::comparison::{AxisClaim, AxisComparison, SettingDifference, correct};
use mm1_lab::study::holm::holm;
use mm1_lab::study::scores::{MeanEstimate, ScoredRun, SettingScores};
use mm1_lab::study::sentence::sentence;
use serde_json::Value;

use crate::random::Random;

/// How scores vary: standard deviations.
#[derive(Clone, Copy)]
struct Noise {
    /// From seed to seed, of all examples alike.
    seed: f64,
    /// From example to example, of all seeds alike.
    example: f64,
    /// All else.
    rest: f64,
}

/// Scores of `examples` questions by `seeds` runs around `truth`.
fn generated(random: &mut Random, truth: f64, noise: Noise, [seeds, examples]: [usize; 2]) -> Vec<Vec<f64>> {
    let shared: Vec<f64> = (0..examples).map(|_| noise.example * random.normal()).collect();
    let mut run = |_| {
        let of_seed = truth + noise.seed * random.normal();
        shared.iter().map(|example| of_seed + example + noise.rest * random.normal()).collect()
    };
    (0..seeds).map(&mut run).collect()
}

fn setting(tasks: &[Vec<Vec<f64>>]) -> SettingScores {
    let run = |seed: usize| ScoredRun {
        seed: seed as u64,
        tasks: tasks
            .iter()
            .enumerate()
            .map(|(task, runs)| {
                let scores = runs[seed].iter().enumerate().map(|(i, s)| (format!("{i:04}"), *s));
                (format!("task-{task}"), scores.collect())
            })
            .collect(),
    };
    SettingScores::new(&(0..tasks[0].len()).map(run).collect::<Vec<_>>()).unwrap()
}

fn golden() -> Value {
    let file = Path::new(env!("CARGO_MANIFEST_DIR")).join("../../testdata/lab/study.json");
    serde_json::from_slice(&std::fs::read(file).unwrap()).unwrap()
}

fn close(ours: f64, golden: &Value) {
    let golden = golden.as_f64().unwrap();
    assert!((ours - golden).abs() <= 1e-8 * golden.abs().max(1e-3), "{ours} and {golden}");
}

fn same(ours: &Estimate, golden: &Value) {
    close(ours.value, &golden["value"]);
    close(ours.standard_error, &golden["standard_error"]);
    close(ours.degrees_of_freedom, &golden["degrees_of_freedom"]);
    close(ours.ci95()[0], &golden["ci95"][0]);
    close(ours.ci95()[1], &golden["ci95"][1]);
    close(ours.p_equal(0.0), &golden["p_equal"]);
    close(ours.p_beyond(3.0), &golden["p_beyond"]);
}

#[test]
fn estimates_differences_and_tests_are_those_of_scipy() {
    let golden = golden();
    for study in golden["studies"].as_array().unwrap() {
        let settings: Vec<Vec<Vec<Vec<f64>>>> = serde_json::from_value(study["settings"].clone()).unwrap();
        let settings: Vec<SettingScores> = settings.iter().map(|tasks| setting(tasks)).collect();
        same(&settings[0].estimate().estimate, &study["base"]);
        let others: Vec<&SettingScores> = settings[1..].iter().collect();
        let differences = SettingScores::differences(&settings[0], &others).unwrap();
        let golden = study["differences"].as_array().unwrap();
        assert_eq!(differences.len(), golden.len());
        differences.iter().zip(golden).for_each(|(ours, golden)| same(&ours.estimate, golden));
    }
    let p: Vec<f64> = serde_json::from_value(golden["p"].clone()).unwrap();
    for (ours, golden) in holm(&p).into_iter().zip(golden["holm"].as_array().unwrap()) {
        close(ours, golden);
    }
    assert_eq!(holm(&[]), Vec::<f64>::new());
}

/// The share of simulated intervals that hold the truth.
fn coverage(noise: Noise, shape: [usize; 2], repeats: usize) -> f64 {
    let mut random = Random::new(5);
    let held = |_: &usize| {
        let [low, high] = setting(&[generated(&mut random, 40.0, noise, shape)]).estimate().estimate.ci95();
        low <= 40.0 && 40.0 <= high
    };
    (0..repeats).filter(held).count() as f64 / repeats as f64
}

#[test]
fn intervals_hold_the_truth_whether_seeds_or_examples_make_the_noise() {
    let noises =
        [[0.0, 40.0, 25.0], [1.0, 40.0, 25.0], [5.0, 40.0, 25.0], [5.0, 0.0, 25.0], [0.0, 0.0, 35.0]];
    for (seeds, least) in [(2, 0.90), (3, 0.92), (5, 0.93)] {
        for [seed, example, rest] in noises {
            let held = coverage(Noise { seed, example, rest }, [seeds, 60], 1500);
            assert!((least..=0.975).contains(&held), "{seeds} seeds, {seed} {example} {rest}: {held}");
        }
    }
    let one = coverage(Noise { seed: 0.0, example: 40.0, rest: 25.0 }, [1, 60], 1500);
    assert!((0.93..=0.97).contains(&one), "{one}");
}

/// The 95% interval of the usual bootstrap: seeds, then examples of each, drawn with replacement.
fn bootstrap(random: &mut Random, runs: &[Vec<f64>]) -> [f64; 2] {
    let mut draw = |_| {
        let mut sum = 0.0;
        for _ in runs {
            let run = &runs[random.below(runs.len())];
            sum += (0..run.len()).map(|_| run[random.below(run.len())]).sum::<f64>() / run.len() as f64;
        }
        sum / runs.len() as f64
    };
    let mut means: Vec<f64> = (0..400).map(&mut draw).collect();
    means.sort_by(f64::total_cmp);
    [means[10], means[389]]
}

/// Why [`SettingScores::estimate`] is none.
#[test]
fn a_bootstrap_over_three_seeds_holds_the_truth_too_rarely() {
    // Seeds make the noise; and examples that all seeds share.
    for noise in
        [Noise { seed: 5.0, example: 0.0, rest: 10.0 }, Noise { seed: 0.0, example: 40.0, rest: 10.0 }]
    {
        let mut random = Random::new(6);
        let (mut of_bootstrap, mut ours) = (0, 0);
        for _ in 0..300 {
            let runs = generated(&mut random, 40.0, noise, [3, 60]);
            let holds = |[low, high]: [f64; 2]| low <= 40.0 && 40.0 <= high;
            of_bootstrap += usize::from(holds(bootstrap(&mut random, &runs)));
            ours += usize::from(holds(setting(&[runs]).estimate().estimate.ci95()));
        }
        assert!(of_bootstrap < 255, "{of_bootstrap} of 300 by the bootstrap");
        assert!((273..=297).contains(&ours), "{ours} of 300 by ours");
    }
}

/// Three seeds of a base and of settings that lie `apart` from it, 200 examples, compared and corrected.
fn study(random: &mut Random, apart: &[f64], claim: AxisClaim) -> AxisComparison {
    let examples: Vec<f64> = (0..200).map(|_| 40.0 * random.normal()).collect();
    let seeds: Vec<f64> = (0..3).map(|_| 2.0 * random.normal()).collect();
    let mut one = |truth: f64| {
        let mut run = |of_seed: &f64| {
            let own = truth + of_seed + 0.5 * random.normal();
            examples.iter().map(|example| own + example + 15.0 * random.normal()).collect()
        };
        setting(&[seeds.iter().map(&mut run).collect()])
    };
    let base = one(50.0);
    let others: Vec<SettingScores> = apart.iter().map(|apart| one(50.0 + apart)).collect();
    let names: Vec<String> = (0..others.len()).map(|i| format!("v{i}")).collect();
    let values: Vec<_> = names.iter().map(String::as_str).zip(&others).collect();
    let mut axes = [AxisComparison::new("axis".into(), ("base", &base), &values, claim).unwrap()];
    correct(&mut axes);
    let [axis] = axes;
    axis
}

#[test]
fn of_studies_without_a_difference_one_in_twenty_finds_one_at_most() {
    let mut random = Random::new(7);
    let (mut uncorrected, mut found) = (0, 0);
    for _ in 0..300 {
        let axis = study(&mut random, &[0.0; 6], AxisClaim::Differs);
        uncorrected += usize::from(axis.differences.iter().any(SettingDifference::is_found_alone));
        found += usize::from(axis.differences.iter().any(SettingDifference::is_found));
    }
    assert!(uncorrected > 40, "{uncorrected} of 300 without a correction");
    assert!(found <= 24, "{found} of 300");
}

#[test]
fn a_difference_of_five_points_is_found_and_its_interval_is_right() {
    let mut random = Random::new(8);
    let (mut found, mut held) = (0, 0);
    for _ in 0..200 {
        let axis = study(&mut random, &[0.0, 5.0], AxisClaim::Differs);
        let difference = &axis.differences[1];
        found += usize::from(difference.is_found());
        let [low, high] = difference.difference.estimate.ci95();
        held += usize::from(low <= 5.0 && 5.0 <= high);
    }
    assert!(found >= 170, "{found} of 200");
    assert!((180..=198).contains(&held), "{held} of 200");
}

#[test]
fn settings_that_differ_by_the_margin_are_rarely_called_equivalent() {
    let mut random = Random::new(9);
    let count = |random: &mut Random, apart: f64| {
        let claim = AxisClaim::EquivalentWithin(5.0);
        (0..200).filter(|_| study(random, &[0.0, apart], claim).is_equivalent()).count()
    };
    let (wrong, right) = (count(&mut random, 5.0), count(&mut random, 0.0));
    assert!(wrong <= 12, "{wrong} of 200 at the margin");
    assert!(right >= 150, "{right} of 200 with no difference");
}

fn difference(value: f64, standard_error: f64, seeds: usize) -> SettingDifference {
    let difference =
        MeanEstimate { estimate: Estimate::new(value, standard_error, 1e6), seeds, examples: 200 };
    let p = difference.estimate.p_equal(0.0);
    SettingDifference { value: format!("{value}"), difference, p, corrected_p: p, comparisons: 1 }
}

fn said(claim: AxisClaim, differences: Vec<SettingDifference>) -> String {
    let mut axes = [AxisComparison { axis: "tokens".into(), base: "16".into(), claim, differences }];
    correct(&mut axes);
    sentence(&axes[0])
}

#[test]
fn sentences_say_no_more_than_the_intervals() {
    let differs = AxisClaim::Differs;
    let within = AxisClaim::EquivalentWithin(2.0);
    for (claim, differences, wanted) in [
        (differs, vec![difference(6.1, 0.6, 3)], "tokens 16 → 6.1: +6.1 ± 1.2"),
        (differs, vec![difference(0.8, 0.66, 3)], "tokens: no difference found (+0.8 ± 1.3)"),
        (
            differs,
            vec![difference(-0.8, 0.66, 3), difference(0.2, 0.5, 3)],
            "tokens: no difference found (largest −0.8 ± 1.3)",
        ),
        (
            differs,
            vec![difference(6.1, 0.6, 3), difference(-4.0, 0.6, 3), difference(0.3, 0.6, 3)],
            "tokens 16 → 6.1: +6.1 ± 1.2; 16 → -4: −4.0 ± 1.2; 0.3: no difference found (+0.3 ± 1.2)",
        ),
        // p is 0.036 by itself.
        (
            differs,
            vec![difference(2.1, 1.0, 3), difference(0.1, 1.0, 3)],
            "tokens: no difference holds up among 2 comparisons (largest +2.1 ± 2.0)",
        ),
        (
            within,
            vec![difference(0.4, 0.45, 3), difference(-0.2, 0.45, 3)],
            "tokens: equivalent within ± 2 (largest +0.40 ± 0.89)",
        ),
        // 95% of the interval ends at 2.2: not within.
        (
            within,
            vec![difference(0.2, 0.2, 3), difference(0.9, 0.66, 3)],
            "tokens: no difference found (largest +0.9 ± 1.3); not shown to be equivalent within ± 2",
        ),
        (
            differs,
            vec![difference(6.1, 0.6, 1)],
            "tokens 16 → 6.1: +6.1 ± 1.2; of one seed: the chance of another training is not in it",
        ),
        (differs, vec![difference(0.0, 0.0, 3)], "tokens: no difference found (+0.0 ± 0.0)"),
        (differs, vec![], "tokens: nothing to compare"),
    ] {
        assert_eq!(said(claim, differences), wanted);
    }
}

#[test]
fn nothing_that_varies_is_no_division_by_zero() {
    let still = setting(&[vec![vec![40.0; 5]; 3]]);
    let estimate = still.estimate().estimate;
    assert_eq!((estimate.ci95(), estimate.p_equal(40.0), estimate.p_equal(0.0)), ([40.0; 2], 1.0, 0.0));
    let none = SettingScores::differences(&still, &[&still]).unwrap();
    assert_eq!(none[0].estimate.p_beyond(1.0), 0.0);
}

#[test]
fn the_mean_of_settings_and_the_seeds_that_both_have() {
    let mut random = Random::new(10);
    let noise = Noise { seed: 1.0, example: 9.0, rest: 3.0 };
    let runs: Vec<_> = (0..2).map(|_| generated(&mut random, 30.0, noise, [3, 8])).collect();
    let [a, b] = [setting(&[runs[0].clone()]), setting(&[runs[1].clone()])];
    let mean = SettingScores::mean_of(&[&a, &b]).unwrap().estimate().estimate.value;
    let both = f64::midpoint(a.estimate().estimate.value, b.estimate().estimate.value);
    assert!((mean - both).abs() < 1e-12, "{mean} and {both}");
    let fewer = setting(&[runs[1][..2].to_vec()]);
    assert_eq!(SettingScores::differences(&a, &[&fewer]).unwrap()[0].seeds, 2);
    let narrower = setting(&[runs[1].iter().map(|run| run[..7].to_vec()).collect()]);
    let refused = SettingScores::differences(&a, &[&narrower]).unwrap_err().to_string();
    assert_eq!(refused, "task-0: the settings answered other examples: evaluate both alike");
}

#[test]
fn scores_that_are_none_are_refused() {
    let run = |seed: u64, scores: &[f64]| ScoredRun {
        seed,
        tasks: [(
            "vqa".to_owned(),
            scores.iter().enumerate().map(|(i, score)| (i.to_string(), *score)).collect(),
        )]
        .into(),
    };
    for (runs, wanted) in [
        (vec![], "a setting needs a run with scores"),
        (vec![run(1, &[1.0])], "vqa: an interval needs two examples at least, there is one"),
        (vec![run(1, &[1.0, 2.0]), run(1, &[1.0, 2.0])], "two runs have the seed 1"),
        (
            vec![run(1, &[1.0, 2.0]), run(2, &[1.0, 2.0, 3.0])],
            "vqa: seed 2 answered other examples than seed 1: evaluate both alike",
        ),
        (vec![run(3, &[1.0, f64::NAN])], "vqa: seed 3: the score of 1 is NaN: evaluate again"),
    ] {
        assert_eq!(SettingScores::new(&runs).unwrap_err().to_string(), wanted);
    }
}
