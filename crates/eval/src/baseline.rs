//! What answers without a model are worth: the floor under every score.

use std::collections::{BTreeMap, BTreeSet};

use anyhow::Result;
use mm1_data::loader::SkippedSample;
use mm1_data::question::Question;

use crate::run::{Row, listed};
use crate::score::cider::Cider;
use crate::score::scores;
use crate::shots::{Indices, typical_answer};
use crate::task::Task;
use crate::{Stream, rng};

/// Captions among them that compete for the constant one.
const CANDIDATES: usize = 50;

/// Answers that need no picture, chosen on the training split and scored on the test items.
#[derive(Clone, Debug, Default, PartialEq)]
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
    /// The score on each row of the most frequent answer to the very same question, else of its category's: what
    /// guessing from the question alone is worth. Empty where `prior` is.
    pub question_scores: Vec<f64>,
    /// Training items that could not be read. To be shown to the person.
    pub skipped: Vec<SkippedSample>,
}

/// Chooses the baselines of `task` on up to [`Task::samples`] training items drawn by `seed`, and scores them on `rows`.
///
/// Without a training item there are none.
///
/// # Errors
/// A test item without answers.
pub fn baselines(task: &dyn Task, rows: &[Row], seed: u64) -> Result<Baselines> {
    let mut skipped = BTreeMap::new();
    let training = sample(task, seed, &mut skipped);
    if training.is_empty() {
        return Ok(Baselines { skipped: listed(skipped), ..Baselines::default() });
    }
    let answers: Vec<_> = rows.iter().map(|r| r.answers.clone()).collect();
    let constant = match task.metric() {
        metric if metric.of_captions() => best_caption(&training)?,
        _ => most_frequent(training.iter()),
    };
    let constant_scores = scores(task.metric(), &answers, &vec![constant.as_str(); rows.len()])?;
    let (mut prior, mut prior_scores, mut question_scores) = (BTreeMap::new(), Vec::new(), Vec::new());
    if !task.metric().of_captions() {
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
        let by_question = by_question(&training);
        let guess =
            |row: &Row| by_question.get(row.question.as_str()).unwrap_or(&prior[&row.category]).clone();
        let guesses: Vec<String> = rows.iter().map(guess).collect();
        let guesses: Vec<&str> = guesses.iter().map(String::as_str).collect();
        question_scores = scores(task.metric(), &answers, &guesses)?;
    }
    let skipped = listed(skipped);
    Ok(Baselines { constant, constant_scores, prior, prior_scores, question_scores, skipped })
}

fn sample(task: &dyn Task, seed: u64, skipped: &mut BTreeMap<String, String>) -> Vec<Question> {
    let mut training = Vec::new();
    for index in Indices::new(rng(seed, Stream::Baseline, 0), task.demonstrations()) {
        match task.demonstration(index) {
            Ok(question) => training.push(Question { pictures: Vec::new(), ..question }),
            Err(e) => drop(skipped.insert(format!("{}/train/{index}", task.name()), format!("{e:#}"))),
        }
        if training.len() == task.samples() {
            break;
        }
    }
    training
}

/// The most frequent answer to each question.
fn by_question(training: &[Question]) -> BTreeMap<&str, String> {
    let mut asked: BTreeMap<&str, Vec<&Question>> = BTreeMap::new();
    for question in training {
        asked.entry(&question.text).or_default().push(question);
    }
    asked.into_iter().map(|(text, same)| (text, most_frequent(same.into_iter()))).collect()
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
