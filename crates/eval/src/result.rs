//! What is written to `eval.json` ([`TaskScore`]) and `samples.json` ([`AnsweredSample`]).

use std::collections::BTreeMap;

use serde::{Deserialize, Serialize};

use crate::baseline::Baselines;
use crate::contamination::Contamination;
use crate::item::ItemResult;
use crate::metric::Metric;
use crate::no_answer::NoAnswerCounts;
use crate::run::Outcome;
use crate::score::bootstrap::Score;
use crate::score::{letter, likelihood, yes_no};

/// One entry of `eval.json`.
#[derive(Clone, Debug, PartialEq, Serialize, Deserialize)]
pub struct TaskScore {
    /// The stage after which the model was evaluated.
    pub stage: String,
    /// The task, or `task/category` for one kind of its questions.
    pub task: String,
    /// Demonstrations of each prompt.
    pub shots: usize,
    /// How it was scored.
    pub metric: Metric,
    /// `value`, `ci95` and `n`.
    #[serde(flatten)]
    pub score: Score,
    /// `constant`, `prior`, `question` and `blind`: the same items' scores; `blind` with grey images.
    pub baselines: BTreeMap<String, f64>,
    /// Other figures of the same answers: `choice-by-length` (accuracy by length), `perplexity`, `accuracy+`,
    /// `f1`, `yes-share`, `circular`.
    #[serde(default, skip_serializing_if = "BTreeMap::is_empty")]
    pub also: BTreeMap<String, f64>,
    /// How many items of the whole task the model gave no words to; they count as empty answers.
    #[serde(default, skip_serializing_if = "NoAnswerCounts::is_none")]
    pub no_answers: NoAnswerCounts,
    /// What of the whole task training has seen, where it was looked for.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub contamination: Option<Contamination>,
}

/// One entry of `samples.json`.
#[derive(Clone, Debug, PartialEq, Serialize, Deserialize)]
pub struct AnsweredSample {
    /// The stage after which the model was evaluated.
    pub stage: String,
    /// The task.
    pub task: String,
    /// Demonstrations of the prompt.
    pub shots: usize,
    /// Question, answer and score.
    #[serde(flatten)]
    pub item: ItemResult,
}

/// The entries of `eval.json` for `outcome`: the whole task first, then each category where there are
/// several. `blind` is the outcome of the same evaluation with `EvalPass::blind`.
pub fn task_scores(
    stage: &str,
    outcome: &Outcome,
    baselines: &Baselines,
    blind: Option<&Outcome>,
) -> Vec<TaskScore> {
    let blind_scores: Vec<f64> =
        blind.map(|b| b.items.iter().map(|item| item.score).collect()).unwrap_or_default();
    let floors = [
        ("constant", &baselines.constant_scores),
        ("prior", &baselines.prior_scores),
        ("question", &baselines.question_scores),
        ("blind", &blind_scores),
    ];
    let task_score = |task: String, score: &Score, chosen: &dyn Fn(&ItemResult) -> bool| {
        let mean = |scores: &[f64]| {
            let chosen = outcome.items.iter().zip(scores).filter(|(item, _)| chosen(item));
            let scores: Vec<f64> = chosen.map(|(_, score)| *score).collect();
            scores.iter().sum::<f64>() / scores.len() as f64
        };
        TaskScore {
            stage: stage.to_string(),
            task,
            shots: outcome.shots,
            metric: outcome.metric,
            score: score.clone(),
            baselines: floors
                .iter()
                .filter(|(_, scores)| scores.len() == outcome.items.len())
                .map(|(name, scores)| (name.to_string(), mean(scores)))
                .collect(),
            also: BTreeMap::new(),
            no_answers: NoAnswerCounts::default(),
            contamination: None,
        }
    };
    let mut scores = vec![task_score(outcome.task.clone(), &outcome.score, &|_| true)];
    if outcome.by_category.len() > 1 {
        scores.extend(outcome.by_category.iter().map(|(category, score)| {
            task_score(format!("{}/{category}", outcome.task), score, &|item| {
                item.categories().any(|name| name == category)
            })
        }));
    }
    scores[0].also = further_figures(outcome);
    scores[0].no_answers = outcome.no_answers.clone();
    scores
}

/// Figures beside the score, by the metric.
fn further_figures(outcome: &Outcome) -> BTreeMap<String, f64> {
    let items = &outcome.items;
    match outcome.metric {
        Metric::Choice => {
            let scores = likelihood::by_length(items);
            let mean = scores.iter().sum::<f64>() / scores.len() as f64;
            [("choice-by-length".to_owned(), mean)].into()
        }
        Metric::Greedy => [("perplexity".to_owned(), likelihood::perplexity(items))].into(),
        Metric::YesNo => yes_no::figures(items),
        Metric::Letter => letter::circular(items),
        _ => BTreeMap::new(),
    }
}

/// The first `count` items of `outcome` as entries of `samples.json`.
pub fn samples(stage: &str, outcome: &Outcome, count: usize) -> Vec<AnsweredSample> {
    let sample = |item: &ItemResult| AnsweredSample {
        stage: stage.to_string(),
        task: outcome.task.clone(),
        shots: outcome.shots,
        item: item.clone(),
    };
    outcome.items.iter().take(count).map(sample).collect()
}
