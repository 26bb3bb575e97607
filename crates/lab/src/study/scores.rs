//! [`SettingScores`]: what the runs of one setting scored, by seed, task and example, and their mean with an
//! interval over seeds *and* examples.

use std::collections::{BTreeMap, BTreeSet};

use anyhow::{Result, bail, ensure};
use serde::Serialize;

use crate::estimate::Estimate;

/// The scores of one run.
#[derive(Clone, Debug, PartialEq)]
pub struct ScoredRun {
    /// The seed of its training.
    pub seed: u64,
    /// For each task the score of each example, by the example's id; in the task's unit.
    pub tasks: BTreeMap<String, BTreeMap<String, f64>>,
}

/// The scores of one setting: all its runs answered the same examples.
#[derive(Clone, Debug, PartialEq)]
pub struct SettingScores {
    /// The ids of each task's examples.
    examples: BTreeMap<String, Vec<String>>,
    /// By seed: for each task in the order of `examples`, the scores of its examples in their order.
    runs: BTreeMap<u64, Vec<Vec<f64>>>,
}

/// A mean score, or a difference of mean scores.
#[derive(Clone, Copy, Debug, PartialEq, Serialize)]
pub struct MeanEstimate {
    /// The mean over tasks of the means over their examples, and over seeds.
    #[serde(flatten)]
    pub estimate: Estimate,
    /// Trainings that it is the mean of.
    pub seeds: usize,
    /// Examples of all tasks together.
    pub examples: usize,
}

impl SettingScores {
    /// The scores of the `runs` of a setting.
    ///
    /// # Errors
    /// No run, two of one seed, other examples in one than in another, fewer than two examples of a task, or
    /// a score that is no number.
    pub fn new(runs: &[ScoredRun]) -> Result<Self> {
        let Some(first) = runs.first() else { bail!("a setting needs a run with scores") };
        let mut found = Self { examples: examples(first), runs: BTreeMap::new() };
        ensure!(!found.examples.is_empty(), "seed {}: the run has no scores", first.seed);
        for (task, ids) in &found.examples {
            ensure!(ids.len() > 1, "{task}: an interval needs two examples at least, there is one");
        }
        for run in runs {
            let of_run = examples(run);
            if let Some(task) = other_examples(&found.examples, &of_run) {
                bail!(
                    "{task}: seed {} answered other examples than seed {}: evaluate both alike",
                    run.seed,
                    first.seed
                );
            }
            for (task, scores) in &run.tasks {
                let wrong = scores.iter().find(|(_, score)| !score.is_finite());
                if let Some((id, score)) = wrong {
                    bail!("{task}: seed {}: the score of {id} is {score}: evaluate again", run.seed);
                }
            }
            let scores = run.tasks.values().map(|of_task| of_task.values().copied().collect()).collect();
            ensure!(found.runs.insert(run.seed, scores).is_none(), "two runs have the seed {}", run.seed);
        }
        Ok(found)
    }

    /// The mean of several settings, seed by seed and example by example: of all that have one value of an
    /// axis, whatever they have on the others.
    ///
    /// # Errors
    /// As [`Self::differences`], or no setting.
    pub fn mean_of(settings: &[&Self]) -> Result<Self> {
        let weight = 1.0 / settings.len() as f64;
        Self::combined(&settings.iter().map(|setting| (weight, *setting)).collect::<Vec<_>>())
    }

    /// The seeds of its runs.
    pub fn seeds(&self) -> impl Iterator<Item = u64> {
        self.runs.keys().copied()
    }

    /// The mean with its error over seeds and examples.
    ///
    /// Seeds and examples are crossed, as readers and cases are in studies of radiologists, and few seeds
    /// are the difficulty of both. The variance is that of the seeds' means, which holds the chance of
    /// training and of what a run says to an example, and the examples' own, which all seeds share. The
    /// degrees of freedom are Hillis's: with three seeds 2 where seeds make the noise, many where examples do
    /// (Hillis, Statistics in Medicine 26:596, 2007; Hillis, Berbaum and Metz, Academic Radiology 15:647,
    /// 2008). Several tasks have equal weights, as in the paper's mean scores.
    ///
    /// Bootstraps over seeds and examples were rejected: three seeds, drawn with replacement, vary by two
    /// thirds of their variance, and the percentiles know no t.
    ///
    /// With one seed it is the error over examples alone.
    pub fn estimate(&self) -> MeanEstimate {
        let means = self.seed_means();
        let degrees = (means.len() - 1) as f64;
        self.estimate_with(SeedVariance { of_mean: variance(&means) / means.len() as f64, degrees })
    }

    /// Each of `others` less `base`, seed by seed and example by example: what both share, such as
    /// the difficulty of an example or the order of the data, drops out. Seeds that one of them lacks are
    /// left out.
    ///
    /// How much trainings differ by chance is learned from all settings together, as in the analysis of
    /// variance of Hillis (above): of three seeds and four settings with 6 degrees of freedom in place of 2,
    /// which makes intervals a third shorter. It takes for granted that chance does as much in each of them:
    /// in simulations 94 to 96% of the intervals held the truth, but about 90% of a setting whose seeds vary
    /// three times as much as the others' (docs/LOG.md).
    ///
    /// # Errors
    /// Other examples, or no seed in common.
    pub fn differences(base: &Self, others: &[&Self]) -> Result<Vec<MeanEstimate>> {
        let all = [&[base][..], others].concat();
        let common = |seed: &u64| all.iter().all(|setting| setting.runs.contains_key(seed));
        let seeds: BTreeSet<u64> = base.seeds().filter(common).collect();
        ensure!(!seeds.is_empty(), "the settings have no seed in common: run them with the same seeds");
        let means: Vec<Vec<f64>> = all.iter().map(|setting| setting.of_seeds(&seeds).seed_means()).collect();
        let pooled = SeedVariance::of_difference(&means);
        let difference = |other: &&Self| Ok(other.less(base)?.of_seeds(&seeds).estimate_with(pooled));
        others.iter().map(difference).collect()
    }

    /// Its runs of these seeds.
    fn of_seeds(&self, seeds: &BTreeSet<u64>) -> Self {
        let mut kept = self.clone();
        kept.runs.retain(|seed, _| seeds.contains(seed));
        kept
    }

    fn less(&self, base: &Self) -> Result<Self> {
        Self::combined(&[(1.0, self), (-1.0, base)])
    }

    /// The mean of each run, in the order of seeds.
    fn seed_means(&self) -> Vec<f64> {
        let of_run = |run: &Vec<Vec<f64>>| mean(&run.iter().map(|task| mean(task)).collect::<Vec<_>>());
        self.runs.values().map(of_run).collect()
    }

    fn estimate_with(&self, of_seeds: SeedVariance) -> MeanEstimate {
        let (value, seeds) = (mean(&self.seed_means()), self.runs.len());
        let parts: Vec<ExampleVariance> = (0..self.examples.len()).map(|task| self.of_task(task)).collect();
        let (variance, uncertain) = if seeds == 1 {
            let of_means = || parts.iter().map(|part| part.of_mean);
            let uncertain = parts.iter().map(|part| part.of_mean.powi(2) / part.degrees);
            (of_means().sum::<f64>(), uncertain.sum::<f64>())
        } else {
            let of_examples = parts.iter().map(|part| part.shared).sum::<f64>().max(0.0);
            (of_seeds.of_mean + of_examples, of_seeds.of_mean.powi(2) / of_seeds.degrees)
        };
        // Infinite where nothing is uncertain; where nothing varies at all, any number is right.
        let degrees = if variance > 0.0 { variance.powi(2) / uncertain } else { 1.0 };
        let estimate = Estimate::new(value, variance.sqrt(), degrees);
        MeanEstimate { estimate, seeds, examples: self.examples.values().map(Vec::len).sum() }
    }

    /// How one task's examples vary.
    fn of_task(&self, task: usize) -> ExampleVariance {
        let rows: Vec<&[f64]> = self.runs.values().map(|run| run[task].as_slice()).collect();
        let (seeds, examples) = (rows.len() as f64, rows[0].len() as f64);
        let of_seed: Vec<f64> = rows.iter().map(|row| mean(row)).collect();
        let of_example: Vec<f64> =
            (0..rows[0].len()).map(|i| rows.iter().map(|row| row[i]).sum::<f64>() / seeds).collect();
        let grand = mean(&of_seed);
        let left = rows.iter().zip(&of_seed).flat_map(|(row, of_seed)| {
            row.iter().zip(&of_example).map(move |(score, of_example)| score - of_seed - of_example + grand)
        });
        let left: f64 = left.map(|rest| rest * rest).sum();
        let (between, within) =
            (variance(&of_example), left / ((seeds - 1.0).max(1.0) * (examples - 1.0)) / seeds);
        // The mean over tasks.
        let share = 1.0 / (examples * (self.examples.len() as f64).powi(2));
        ExampleVariance {
            of_mean: between * share,
            shared: (between - within) * share,
            degrees: examples - 1.0,
        }
    }

    /// The weighted sum of settings over the seeds that all have.
    fn combined(settings: &[(f64, &Self)]) -> Result<Self> {
        let Some(&(_, first)) = settings.first() else { bail!("there is no setting to compare") };
        for (_, other) in settings {
            if let Some(task) = other_examples(&first.examples, &other.examples) {
                bail!("{task}: the settings answered other examples: evaluate both alike");
            }
        }
        let mut runs = BTreeMap::new();
        for (seed, run) in &first.runs {
            let all: Option<Vec<_>> =
                settings.iter().map(|(weight, of)| Some((*weight, of.runs.get(seed)?))).collect();
            let Some(all) = all else { continue };
            let sum =
                |task: usize, i: usize| all.iter().map(|(weight, of)| weight * of[task][i]).sum::<f64>();
            let scores = run
                .iter()
                .enumerate()
                .map(|(task, scores)| (0..scores.len()).map(|i| sum(task, i)).collect())
                .collect();
            runs.insert(*seed, scores);
        }
        ensure!(!runs.is_empty(), "the settings have no seed in common: run them with the same seeds");
        Ok(Self { examples: first.examples.clone(), runs })
    }
}

/// How much a mean over seeds varies with them.
#[derive(Clone, Copy)]
struct SeedVariance {
    of_mean: f64,
    degrees: f64,
}

impl SeedVariance {
    /// Of the difference of two settings, from the means of the runs of all: for each setting those of its
    /// seeds. What a seed does to all settings alike is taken out.
    fn of_difference(settings: &[Vec<f64>]) -> Self {
        let seeds = settings[0].len();
        let of_setting: Vec<f64> = settings.iter().map(|means| mean(means)).collect();
        let grand = mean(&of_setting);
        let of_seed = |seed: usize| mean(&settings.iter().map(|means| means[seed]).collect::<Vec<_>>());
        let left = |seed: usize| -> f64 {
            let common = of_seed(seed) - grand;
            settings.iter().zip(&of_setting).map(|(means, own)| (means[seed] - own - common).powi(2)).sum()
        };
        let degrees = ((settings.len() - 1) * seeds.saturating_sub(1)) as f64;
        let left: f64 = (0..seeds).map(left).sum();
        Self { of_mean: 2.0 * left / degrees / seeds as f64, degrees }
    }
}

/// The variance of one task's mean over examples, as a share of the mean over tasks.
struct ExampleVariance {
    /// Of the means over seeds.
    of_mean: f64,
    /// Without what differs from seed to seed, which the seeds' means have already; may be below 0.
    shared: f64,
    degrees: f64,
}

fn examples(run: &ScoredRun) -> BTreeMap<String, Vec<String>> {
    let ids =
        |(task, scores): (&String, &BTreeMap<String, f64>)| (task.clone(), scores.keys().cloned().collect());
    run.tasks.iter().map(ids).collect()
}

/// A task that one of both lacks, or of which they have other examples.
fn other_examples<'a>(
    a: &'a BTreeMap<String, Vec<String>>,
    b: &'a BTreeMap<String, Vec<String>>,
) -> Option<&'a str> {
    let tasks: BTreeSet<&String> = a.keys().chain(b.keys()).collect();
    tasks.into_iter().find(|task| a.get(*task) != b.get(*task)).map(String::as_str)
}

fn mean(values: &[f64]) -> f64 {
    values.iter().sum::<f64>() / values.len() as f64
}

fn variance(values: &[f64]) -> f64 {
    let mean = mean(values);
    values.iter().map(|value| (value - mean).powi(2)).sum::<f64>() / (values.len() - 1) as f64
}
