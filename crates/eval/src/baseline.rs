//! What answers without a model are worth: the floor under every score.

use std::collections::{BTreeMap, BTreeSet};

use anyhow::{Result, ensure};
use mm1_data::loader::Skipped;
use mm1_data::question::Question;

use crate::run::{Row, listed, scores};
use crate::score::cider::Cider;
use crate::shots::{Indices, typical_answer};
use crate::task::{Metric, Task};
use crate::{Stream, rng};

/// Training items that the answers are chosen on.
const SAMPLES: usize = 500;
/// Captions among them that compete for the constant one.
const CANDIDATES: usize = 50;

/// Answers that need no picture, chosen on the training split and scored on the test items.
#[derive(Clone, Debug, PartialEq)]
pub struct Baselines {
    /// The best single answer: the most frequent one; for captions, of 50 training captions the one with the best CIDEr
    /// against other training items.
    pub constant: String,
    /// The constant's score on each row.
    pub constant_scores: Vec<f64>,
    /// The most frequent answer of each category. Empty for captioning, which has one category.
    pub prior: BTreeMap<String, String>,
    /// The score on each row of its category's answer; empty where `prior` is.
    pub prior_scores: Vec<f64>,
    /// Training items that could not be read. To be shown to the person.
    pub skipped: Vec<Skipped>,
}

/// Chooses the baselines of `task` on up to 500 training items drawn by `seed`, and scores them on `rows`.
///
/// # Errors
/// No training item can be read.
pub fn baselines(task: &dyn Task, rows: &[Row], seed: u64) -> Result<Baselines> {
    let mut skipped = BTreeMap::new();
    let training = sample(task, seed, &mut skipped);
    ensure!(!training.is_empty(), "task {}: no training item to choose the constant answer on", task.name());
    let answers: Vec<_> = rows.iter().map(|r| r.answers.clone()).collect();
    let constant = match task.metric() {
        Metric::Cider => best_caption(&training)?,
        _ => most_frequent(training.iter()),
    };
    let constant_scores = scores(task.metric(), &answers, &vec![constant.as_str(); rows.len()])?;
    let (mut prior, mut prior_scores) = (BTreeMap::new(), Vec::new());
    if task.metric() != Metric::Cider {
        for category in rows.iter().map(|r| r.category.as_str()).collect::<BTreeSet<_>>() {
            let of_category: Vec<_> = training.iter().filter(|q| q.category == category).collect();
            let answer = if of_category.is_empty() {
                constant.clone()
            } else {
                most_frequent(of_category.into_iter())
            };
            prior.insert(category.to_string(), answer);
        }
        let guesses: Vec<&str> = rows.iter().map(|r| prior[&r.category].as_str()).collect();
        prior_scores = scores(task.metric(), &answers, &guesses)?;
    }
    Ok(Baselines { constant, constant_scores, prior, prior_scores, skipped: listed(skipped) })
}

fn sample(task: &dyn Task, seed: u64, skipped: &mut BTreeMap<String, String>) -> Vec<Question> {
    let mut training = Vec::new();
    for index in Indices::new(rng(seed, Stream::Baseline, 0), task.demonstrations()) {
        match task.demonstration(index) {
            Ok(question) => training.push(Question { pictures: Vec::new(), ..question }),
            Err(e) => drop(skipped.insert(format!("{}/train/{index}", task.name()), format!("{e:#}"))),
        }
        if training.len() == SAMPLES {
            break;
        }
    }
    training
}

/// The most frequent answer, the first in the alphabet among equals.
fn most_frequent<'a>(questions: impl Iterator<Item = &'a Question>) -> String {
    let mut counts: BTreeMap<&str, usize> = BTreeMap::new();
    for question in questions {
        *counts.entry(typical_answer(question)).or_default() += 1;
    }
    let best = counts.into_iter().rev().max_by_key(|&(_, count)| count);
    best.map_or_else(String::new, |(answer, _)| answer.to_string())
}

fn best_caption(training: &[Question]) -> Result<String> {
    let references: Vec<_> = training.iter().map(|q| q.answers.clone()).collect();
    let cider = Cider::new(&references)?;
    let mut best = (f64::NEG_INFINITY, "");
    for (i, candidate) in training.iter().take(CANDIDATES).map(typical_answer).enumerate() {
        let others = (0..training.len()).filter(|&item| item != i);
        let total: f64 = others.map(|item| cider.score(item, candidate)).sum();
        if total > best.0 {
            best = (total, candidate);
        }
    }
    Ok(best.1.to_string())
}
