//! [`StudyFindings`]: what the runs of a study show, setting by setting and axis by axis.

use std::collections::{BTreeMap, BTreeSet};

use anyhow::Result;
use serde::Serialize;

use super::comparison::{AxisClaim, AxisComparison, correct};
use super::record::{RunState, StudyAxis, StudyRecord};
use super::results::StudyResults;
use super::scores::{MeanEstimate, ScoredRun, SettingScores};
use super::sentence::sentence;

/// What a study has shown so far.
#[derive(Clone, Debug, Serialize)]
pub struct StudyFindings {
    /// One for each evaluation and number of demonstrations.
    pub outcomes: Vec<StudyOutcomeFindings>,
    /// What could not be compared, and why: one sentence each.
    pub notes: Vec<String>,
}

/// The mean score over the tasks of one evaluation with one number of demonstrations.
#[derive(Clone, Debug, Serialize)]
pub struct StudyOutcomeFindings {
    /// The stage that evaluates.
    pub stage: String,
    /// Demonstrations.
    pub shots: u64,
    /// The tasks of which it is the mean.
    pub tasks: Vec<String>,
    /// The mean score of each setting, in the order of the study.
    pub settings: Vec<SettingMean>,
    /// Each axis with more than one value, but for repeats.
    pub axes: Vec<AxisComparison>,
    /// The mean score of each value of these axes, whatever the others have.
    pub means: Vec<AxisMeans>,
    /// What each axis has shown, in words.
    pub sentences: Vec<String>,
}

/// The mean score of one setting.
#[derive(Clone, Debug, Serialize)]
pub struct SettingMean {
    /// Its value on each axis but repeats.
    pub names: Vec<String>,
    /// Over its seeds and examples.
    pub mean: MeanEstimate,
}

/// The mean scores of an axis' values.
#[derive(Clone, Debug, Serialize)]
pub struct AxisMeans {
    /// What is changed.
    pub axis: String,
    /// Each value with its mean over the combinations of the other axes that have all values.
    pub values: Vec<(String, MeanEstimate)>,
}

/// A setting's values on all axes but repeats, as places.
type Setting = Vec<usize>;

impl StudyFindings {
    /// What the runs of a study that are done have scored. What can't be compared is a note.
    pub fn of(results: &StudyResults) -> Self {
        let study = &results.study;
        let mut found = Self { outcomes: Vec::new(), notes: Vec::new() };
        let open = study.runs.iter().filter(|run| run.state != RunState::Done).count();
        if open > 0 {
            let are = if open == 1 { "is" } else { "are" };
            found.note(format!(
                "{open} of {} runs {are} not done and not in these figures.",
                study.runs.len()
            ));
        }
        if !study.axes.iter().any(|axis| axis.repeats) {
            found.note(
                "Every setting was trained with one seed: intervals hold the chance of the questions alone, \
                 and another training may differ by more. An axis path = \"seed\" with three values or more \
                 tells."
                    .to_owned(),
            );
        }
        for (stage, shots) in found.evaluations(results) {
            if let Some(outcome) = found.outcome(results, &stage, shots) {
                found.outcomes.push(outcome);
            }
        }
        if found.outcomes.is_empty() && open < study.runs.len() {
            found.note("No run has answers whose mean is a score: there is nothing to compare.".to_owned());
        }
        // All comparisons of a study are corrected together.
        let mut all: Vec<AxisComparison> = found.outcomes.iter().flat_map(|of| of.axes.clone()).collect();
        correct(&mut all);
        let mut corrected = all.into_iter();
        for outcome in &mut found.outcomes {
            outcome.axes = corrected.by_ref().take(outcome.axes.len()).collect();
            outcome.sentences = outcome.axes.iter().map(sentence).collect();
        }
        found
    }

    fn note(&mut self, note: String) {
        if !self.notes.contains(&note) {
            self.notes.push(note);
        }
    }

    /// The evaluations of all runs that are done: their stages and numbers of shots. A perplexity is noted
    /// once.
    fn evaluations(&mut self, results: &StudyResults) -> Vec<(String, u64)> {
        let mut found = Vec::new();
        for run in &results.runs {
            for score in run.scores.iter().filter(|score| !score.is_of_encoder()) {
                if score.lower_is_better() {
                    self.note(no_mean(score.task.split('/').next().unwrap_or_default()));
                    continue;
                }
                let of = (score.stage.clone(), score.shots);
                if !found.contains(&of) {
                    found.push(of);
                }
            }
        }
        found
    }

    /// One evaluation with one number of shots; `None` where no run has answers to it.
    fn outcome(&mut self, results: &StudyResults, stage: &str, shots: u64) -> Option<StudyOutcomeFindings> {
        let study = &results.study;
        let mut runs: BTreeMap<Setting, Vec<ScoredRun>> = BTreeMap::new();
        for run in &results.runs {
            let names = run.names.join(", ");
            run.notes.iter().for_each(|note| self.note(format!("{names}: left out: {note}")));
            let Some(of_run) = run.evaluations.iter().find(|of| of.stage == stage && of.shots == shots)
            else {
                if run.notes.is_empty() {
                    self.note(format!("{names}: left out: it has no answers of {stage} with {shots} shots"));
                }
                continue;
            };
            of_run.left_out.iter().for_each(|task| self.note(no_mean(task)));
            runs.entry(setting(study, &run.names)).or_default().push(results.scored(of_run));
        }
        let mut scores: BTreeMap<Setting, SettingScores> = BTreeMap::new();
        for (setting, runs) in &runs {
            match SettingScores::new(runs) {
                Ok(of_setting) => drop(scores.insert(setting.clone(), of_setting)),
                Err(e) => self.note(format!("{}: left out: {e:#}", names(study, setting).join(", "))),
            }
        }
        let mean = |(setting, of): (&Setting, &SettingScores)| SettingMean {
            names: names(study, setting),
            mean: of.estimate(),
        };
        let seeds: BTreeSet<Vec<u64>> = scores.values().map(|of| of.seeds().collect()).collect();
        if seeds.len() > 1 {
            self.note("Some settings lack seeds: axes are compared over the seeds that all have.".to_owned());
        }
        let tasks = runs.values().flatten().next()?.tasks.keys().cloned().collect();
        let settings = scores.iter().map(mean).collect();
        let (axes, means) = self.axes(study, &scores).into_iter().unzip();
        let (stage, sentences) = (stage.to_owned(), Vec::new());
        Some(StudyOutcomeFindings { stage, shots, tasks, settings, axes, means, sentences })
    }

    /// Each axis: the mean over whatever the other axes have, value by value.
    fn axes(
        &mut self,
        study: &StudyRecord,
        scores: &BTreeMap<Setting, SettingScores>,
    ) -> Vec<(AxisComparison, AxisMeans)> {
        let mut found = Vec::new();
        let settings = study.axes.iter().filter(|axis| !axis.repeats);
        for (place, axis) in settings.enumerate().filter(|(_, axis)| axis.values.len() > 1) {
            match compared(place, axis, scores) {
                Ok(Some(comparison)) => found.push(comparison),
                Ok(None) => self.note(format!(
                    "{}: no combination of the other axes is done with all its values: nothing to compare.",
                    axis.name
                )),
                Err(e) => self.note(format!("{e:#}.")),
            }
        }
        found
    }
}

fn no_mean(task: &str) -> String {
    format!("{task}: its score is no mean over questions, and is not compared.")
}

/// The values of the axis in `place` beside its base, over the combinations of the other axes that have all
/// of them.
fn compared(
    place: usize,
    axis: &StudyAxis,
    scores: &BTreeMap<Setting, SettingScores>,
) -> Result<Option<(AxisComparison, AxisMeans)>> {
    let with = |setting: &Setting, value: usize| {
        let mut other = setting.clone();
        other[place] = value;
        scores.get(&other)
    };
    let base = axis.values.iter().position(|value| *value == axis.base).unwrap_or(0);
    let whole: Vec<&Setting> = scores
        .keys()
        .filter(|setting| {
            setting[place] == base && (0..axis.values.len()).all(|value| with(setting, value).is_some())
        })
        .collect();
    if whole.is_empty() {
        return Ok(None);
    }
    let mean = |value: usize| {
        let of_value: Vec<&SettingScores> = whole.iter().filter_map(|setting| with(setting, value)).collect();
        SettingScores::mean_of(&of_value)
    };
    let means = (0..axis.values.len()).map(mean).collect::<Result<Vec<_>>>()?;
    let others: Vec<(&str, &SettingScores)> = axis
        .values
        .iter()
        .zip(&means)
        .enumerate()
        .filter(|(value, _)| *value != base)
        .map(|(_, (name, scores))| (name.as_str(), scores))
        .collect();
    let claim = axis.margin.map_or(AxisClaim::Differs, AxisClaim::EquivalentWithin);
    let comparison = AxisComparison::new(axis.name.clone(), (&axis.base, &means[base]), &others, claim)?;
    let values = axis.values.iter().cloned().zip(means.iter().map(SettingScores::estimate)).collect();
    Ok(Some((comparison, AxisMeans { axis: axis.name.clone(), values })))
}

/// The setting of the run with `names`: its places on all axes but repeats.
fn setting(study: &StudyRecord, names: &[String]) -> Setting {
    let places = study.axes.iter().zip(names).filter(|(axis, _)| !axis.repeats);
    places.map(|(axis, name)| axis.values.iter().position(|value| value == name).unwrap_or(0)).collect()
}

/// The names of a setting's values.
fn names(study: &StudyRecord, setting: &Setting) -> Vec<String> {
    let axes = study.axes.iter().filter(|axis| !axis.repeats);
    axes.zip(setting).map(|(axis, &place)| axis.values[place].clone()).collect()
}
