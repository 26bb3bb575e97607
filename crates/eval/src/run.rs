//! [`evaluate`]: one task, one number of shots.

use std::collections::BTreeMap;
use std::sync::Arc;

use anyhow::{Result, ensure};
use mm1_data::document::{Picture, Segment, Special};
use mm1_data::image::open;
use mm1_data::loader::Skipped;
use mm1_data::question::Question;
use serde::{Deserialize, Serialize};
use xxhash_rust::xxh3::Xxh3;

use crate::record::Png;
use crate::score::bootstrap::{self, Score};
use crate::score::cider::Cider;
use crate::score::{exact, vqa};
use crate::shots::{self, Prompt, Style};
use crate::task::{Metric, Task};

/// How an evaluation is run.
#[derive(Clone, Copy)]
pub struct Options<'a> {
    /// Test items at most, from the first; a smaller test split gives all of its items.
    pub n: u64,
    /// Prompts that `generate` is given at a time. Scores do not depend on it.
    pub batch: usize,
    /// Seed of demonstrations, baselines and intervals.
    pub seed: u64,
    /// Whether every picture, of demonstrations too, is replaced by grey.
    pub blind: bool,
    /// Of how many rows, from the first, the pictures are kept for the report.
    pub keep_pictures: usize,
    /// Tokens that a prompt and its answer may take together.
    pub context: usize,
    /// Number of tokens of a prompt, image tokens counted.
    pub tokens: &'a dyn Fn(&[Segment]) -> usize,
    /// Called after each batch with the items done and the items in all.
    pub progress: &'a dyn Fn(u64, u64),
}

/// What the model answered and what it is worth.
#[derive(Clone, Debug, PartialEq, Serialize, Deserialize)]
pub struct Row {
    /// The test item's id.
    pub id: String,
    /// Its kind of question.
    pub category: String,
    /// The question; empty for captioning.
    pub question: String,
    /// The whole prompt, pictures written `<image>` and special tokens by name.
    pub prompt: String,
    /// What the model wrote, up to the stop string.
    pub output: String,
    /// What was scored: see [`shots::prediction`].
    pub prediction: String,
    /// The accepted answers or reference captions.
    pub answers: Vec<String>,
    /// In the unit of [`Outcome::score`].
    pub score: f64,
    /// Hashes (XXH3, 64 bits) of the prompt's pictures in order, demonstrations first.
    pub hashes: Vec<String>,
    /// The pictures of the test item as the model saw them; for the first rows only, else empty.
    #[serde(default)]
    pub pictures: Vec<Png>,
}

/// The result of [`evaluate`].
#[derive(Clone, Debug, PartialEq)]
pub struct Outcome {
    /// The task's name.
    pub task: String,
    /// How it was scored.
    pub metric: Metric,
    /// Demonstrations of each prompt.
    pub shots: usize,
    /// CIDEr × 100 or accuracy in percent: the mean of the rows, with its interval.
    pub score: Score,
    /// The same for each kind of question.
    pub by_category: BTreeMap<String, Score>,
    /// One for each test item, in order.
    pub rows: Vec<Row>,
    /// Test and training items that could not be read and were left out, to be shown to the person.
    pub skipped: Vec<Skipped>,
}

/// Asks `generate` every test question of `task` after `shots` demonstrations and scores the answers.
///
/// `generate` is given up to `options.batch` prompts at a time and returns one continuation for each, without the prompt,
/// at most `task.max_tokens()` tokens long; what follows `task.stop()` is cut off here. Nothing but the prompt decides an
/// answer's score, so scores do not depend on the batch size as long as `generate` does not.
///
/// # Errors
/// A prompt that does not fit into the context, too few demonstrations, no test item, or an error of `generate`.
pub fn evaluate(
    task: &dyn Task,
    shots: usize,
    style: Style,
    generate: &mut dyn FnMut(&[Prompt]) -> Result<Vec<String>>,
    options: &Options,
) -> Result<Outcome> {
    let total = task.tests().min(options.n);
    ensure!(options.batch > 0, "the batch size of an evaluation must be at least 1");
    ensure!(total > 0, "task {}: there is no test item to evaluate on", task.name());
    let mut skipped = BTreeMap::new();
    let mut rows = Vec::new();
    let indices: Vec<u64> = (0..total).collect();
    for batch in indices.chunks(options.batch) {
        let (mut questions, mut prompts) = (Vec::new(), Vec::new());
        for &index in batch {
            let question = match task.test(index) {
                Ok(question) => question,
                Err(e) => {
                    skipped.insert(format!("{}/test/{index}", task.name()), format!("{e:#}"));
                    continue;
                }
            };
            let demonstrations = shots::draw(task, (shots, options.seed), &question, &mut skipped)?;
            let mut prompt = shots::prompt(style, &demonstrations, &question);
            if options.blind {
                shots::blind(&mut prompt)?;
            }
            shots::check_fit(task, shots, &prompt, options)?;
            questions.push(question);
            prompts.push(prompt);
        }
        let outputs = if prompts.is_empty() { Vec::new() } else { generate(&prompts)? };
        ensure!(
            outputs.len() == prompts.len(),
            "task {}: generation returned {} answers for {} prompts",
            task.name(),
            outputs.len(),
            prompts.len()
        );
        for ((question, prompt), output) in questions.iter().zip(&prompts).zip(outputs) {
            let keep = rows.len() < options.keep_pictures;
            rows.push(row(question, prompt, cut(&output, task.stop()), keep)?);
        }
        (options.progress)(batch[batch.len() - 1] + 1, total);
    }
    ensure!(!rows.is_empty(), "task {}: no test item could be read: {skipped:?}", task.name());
    score_rows(task.metric(), &mut rows)?;
    let (score, by_category) = summary(&rows, options.seed);
    let skipped = listed(skipped);
    let (task, metric) = (task.name().to_string(), task.metric());
    Ok(Outcome { task, metric, shots, score, by_category, rows, skipped })
}

pub(crate) fn listed(skipped: BTreeMap<String, String>) -> Vec<Skipped> {
    skipped.into_iter().map(|(id, reason)| Skipped { id, reason }).collect()
}

fn row(question: &Question, prompt: &Prompt, output: &str, keep: bool) -> Result<Row> {
    let pictures: Vec<Arc<Picture>> = prompt
        .segments
        .iter()
        .filter_map(|s| match s {
            Segment::Image(image) => Some(open(image)),
            _ => None,
        })
        .collect::<Result<_>>()?;
    let hash = |p: &Picture| {
        let mut hash = Xxh3::new();
        hash.update(&p.width.to_le_bytes());
        hash.update(&p.height.to_le_bytes());
        hash.update(&p.rgb);
        format!("{:016x}", hash.digest())
    };
    let own = &pictures[pictures.len() - question.pictures.len()..];
    let shown = if keep { own } else { &[] };
    Ok(Row {
        id: question.id.clone(),
        category: question.category.clone(),
        question: question.text.clone(),
        prompt: written(&prompt.segments),
        output: output.to_string(),
        prediction: shots::prediction(question, output),
        answers: question.answers.clone(),
        score: 0.0,
        hashes: pictures.iter().map(|p| hash(p)).collect(),
        pictures: shown.iter().map(|p| Png::encode(p)).collect::<Result<_>>()?,
    })
}

fn score_rows(metric: Metric, rows: &mut [Row]) -> Result<()> {
    let answers: Vec<_> = rows.iter().map(|r| r.answers.clone()).collect();
    let predictions: Vec<_> = rows.iter().map(|r| r.prediction.as_str()).collect();
    let scores = scores(metric, &answers, &predictions)?;
    for (row, score) in rows.iter_mut().zip(scores) {
        row.score = score;
    }
    Ok(())
}

/// The score of each prediction against its item's answers: CIDEr × 100 or percent.
///
/// # Errors
/// No item, or an item without answers.
pub fn scores(metric: Metric, answers: &[Vec<String>], predictions: &[&str]) -> Result<Vec<f64>> {
    ensure!(answers.iter().all(|a| !a.is_empty()), "a test item has no answer to score against");
    let items = answers.iter().zip(predictions);
    Ok(match metric {
        Metric::VqaAccuracy => items.map(|(a, p)| 100.0 * vqa::accuracy(p, a)).collect(),
        Metric::ExactMatch => items.map(|(a, p)| 100.0 * exact::score(p, a)).collect(),
        Metric::Cider => {
            let cider = Cider::new(answers)?;
            predictions.iter().enumerate().map(|(item, p)| cider.score(item, p)).collect()
        }
    })
}

fn summary(rows: &[Row], seed: u64) -> (Score, BTreeMap<String, Score>) {
    let mut categories: BTreeMap<String, Vec<f64>> = BTreeMap::new();
    for row in rows {
        categories.entry(row.category.clone()).or_default().push(row.score);
    }
    let all: Vec<f64> = rows.iter().map(|r| r.score).collect();
    let by_category = categories.into_iter().map(|(name, scores)| (name, bootstrap::mean(&scores, seed)));
    (bootstrap::mean(&all, seed), by_category.collect())
}

/// `output` up to the first stop string.
fn cut<'a>(output: &'a str, stop: &[&str]) -> &'a str {
    let end = stop.iter().filter_map(|s| output.find(s)).min();
    &output[..end.unwrap_or(output.len())]
}

/// A prompt as text.
fn written(segments: &[Segment]) -> String {
    let mut text = String::new();
    for segment in segments {
        match segment {
            Segment::Text { text: t, .. } => text.push_str(t),
            Segment::Image(_) => text.push_str("<image>"),
            Segment::Token { token, .. } => text.push_str(match token {
                Special::Pad => "<pad>",
                Special::End => "<end>",
                Special::Image => "<image>",
                Special::User => "<user>",
                Special::Assistant => "<assistant>",
                Special::System => "<system>",
            }),
        }
    }
    text
}
