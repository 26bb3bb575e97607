//! What answers without a model are worth: the floor under every score.

use std::collections::{BTreeMap, BTreeSet};

use anyhow::Result;
use mm1_data::loader::SkippedSample;
use mm1_data::question::Question;

use crate::item::ItemResult;
use crate::score::cider::Cider;
use crate::score::scores;
use crate::shots::DistinctIndices;
use crate::skipped::SkippedItems;
use crate::task::Task;
use crate::template::typical_answer;
use crate::{RandomStream, rng};

/// Captions among them that compete for the constant one.
const CANDIDATES: usize = 50;

/// Answers that need no picture, chosen on the training split and scored on the test items.
#[derive(Clone, Debug, Default, PartialEq)]
pub struct Baselines {
    /// The best single answer: the most frequent one; for captions, of 50 training captions the one with the
    /// best CIDEr against other training items.
    pub constant: String,
    /// The constant's score on each item.
    pub constant_scores: Vec<f64>,
    /// The most frequent answer of each category. Empty for captioning, which has one category.
    pub prior: BTreeMap<String, String>,
    /// The score on each item of its category's answer; empty where `prior` is.
    pub prior_scores: Vec<f64>,
    /// The score on each item of the most frequent answer to the very same question, else of its category's:
    /// what guessing from the question alone is worth. Empty where `prior` is.
    pub question_scores: Vec<f64>,
    /// Training items that could not be read. To be shown to the person.
    pub skipped: Vec<SkippedSample>,
}

/// Chooses the baselines of `task` on up to [`Task::baseline_items`] training items drawn by `seed`, and
/// scores them on `items`.
///
/// Without a training item there are none.
///
/// # Errors
/// A test item without answers.
pub fn baselines(task: &dyn Task, items: &[ItemResult], seed: u64) -> Result<Baselines> {
    let mut skipped = SkippedItems::default();
    let training = sample(task, seed, &mut skipped);
    let mut baselines = Baselines { skipped: skipped.list(), ..Baselines::default() };
    if training.is_empty() {
        return Ok(baselines);
    }
    let answers: Vec<_> = items.iter().map(|item| item.answers.clone()).collect();
    let score = |guesses: &[&str]| scores(task.metric(), &answers, guesses);
    if task.metric().of_captions() {
        baselines.constant = best_caption(&training)?;
    } else {
        baselines.constant = most_frequent(training.iter());
        baselines.prior = by_category(&training, items, &baselines.constant);
        let prior = |item: &ItemResult| baselines.prior[&item.category].as_str();
        baselines.prior_scores = score(&items.iter().map(prior).collect::<Vec<_>>())?;
        let by_question = by_question(&training);
        let guess = |item: &ItemResult| {
            by_question.get(item.question.as_str()).map_or_else(|| prior(item), String::as_str)
        };
        baselines.question_scores = score(&items.iter().map(guess).collect::<Vec<_>>())?;
    }
    baselines.constant_scores = score(&vec![baselines.constant.as_str(); items.len()])?;
    Ok(baselines)
}

/// Training items in the order of their draw, without pictures.
fn sample(task: &dyn Task, seed: u64, skipped: &mut SkippedItems) -> Vec<Question> {
    let mut training = Vec::new();
    for index in DistinctIndices::new(rng(seed, RandomStream::Baseline, 0), task.demonstrations()) {
        match task.blind_demonstration(index) {
            Ok(question) => training.push(question),
            Err(e) => skipped.add(task.name(), "train", index, &e),
        }
        if training.len() == task.baseline_items() {
            break;
        }
    }
    training
}

/// The most frequent answer in each category of `items`; the constant one where no training item is of the
/// category.
fn by_category(training: &[Question], items: &[ItemResult], constant: &str) -> BTreeMap<String, String> {
    let categories: BTreeSet<&str> = items.iter().map(|item| item.category.as_str()).collect();
    let answer = |category: &str| {
        let mut of_category = training.iter().filter(|q| q.category == category).peekable();
        if of_category.peek().is_none() { constant.to_owned() } else { most_frequent(of_category) }
    };
    categories.into_iter().map(|category| (category.to_owned(), answer(category))).collect()
}

/// The most frequent answer to each question.
fn by_question(training: &[Question]) -> BTreeMap<&str, String> {
    let mut by_text: BTreeMap<&str, Vec<&Question>> = BTreeMap::new();
    for question in training {
        by_text.entry(&question.text).or_default().push(question);
    }
    by_text.into_iter().map(|(text, same)| (text, most_frequent(same.into_iter()))).collect()
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
