//! What is written to `eval.json` ([`Record`]) and `samples.json` ([`Sample`]).

use std::collections::BTreeMap;

use anyhow::{Context, Result};
use base64::Engine as _;
use base64::engine::general_purpose::STANDARD;
use image::{ExtendedColorType, ImageEncoder, codecs::png::PngEncoder};
use mm1_data::document::Picture;
use serde::{Deserialize, Serialize};

use crate::baseline::Baselines;
use crate::contamination::Contamination;
use crate::run::{Outcome, Row};
use crate::score::bootstrap::Score;
use crate::score::{letter, likelihood, yes_no};
use crate::task::Metric;

/// One entry of `eval.json`.
#[derive(Clone, Debug, PartialEq, Serialize, Deserialize)]
pub struct Record {
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
    /// `constant`, `prior`, `question` and `blind`: the same items' scores without sight.
    pub baselines: BTreeMap<String, f64>,
    /// Other figures of the same answers: `choice-by-length` (accuracy by length), `perplexity`, `accuracy+`, `f1`, `yes-share`, `circular`.
    #[serde(default, skip_serializing_if = "BTreeMap::is_empty")]
    pub also: BTreeMap<String, f64>,
    /// What of the whole task training has seen, where it was looked for.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub contamination: Option<Contamination>,
}

/// One entry of `samples.json`.
#[derive(Clone, Debug, PartialEq, Serialize, Deserialize)]
pub struct Sample {
    /// The stage after which the model was evaluated.
    pub stage: String,
    /// The task.
    pub task: String,
    /// Demonstrations of the prompt.
    pub shots: usize,
    /// Question, answer and score.
    #[serde(flatten)]
    pub row: Row,
}

/// A picture that a page can show.
#[derive(Clone, Debug, PartialEq, Serialize, Deserialize)]
pub struct Png {
    /// Pixels from left to right.
    pub width: u32,
    /// Pixels from top to bottom.
    pub height: u32,
    /// The PNG file in base64 (RFC 4648, padded), ready to follow `data:image/png;base64,`.
    pub png_base64: String,
}

/// The entries of `eval.json` for `outcome`: the whole task first, then each category where there are several. `blind` is
/// the outcome of the same evaluation with `Options::blind`.
pub fn records(
    stage: &str,
    outcome: &Outcome,
    baselines: &Baselines,
    blind: Option<&Outcome>,
) -> Vec<Record> {
    let blind_scores: Vec<f64> = blind.map(|b| b.rows.iter().map(|r| r.score).collect()).unwrap_or_default();
    let floors = [
        ("constant", &baselines.constant_scores),
        ("prior", &baselines.prior_scores),
        ("question", &baselines.question_scores),
        ("blind", &blind_scores),
    ];
    let record = |task: String, score: &Score, chosen: &dyn Fn(&Row) -> bool| {
        let mean = |scores: &[f64]| {
            let of_rows: Vec<f64> =
                outcome.rows.iter().zip(scores).filter(|(row, _)| chosen(row)).map(|(_, s)| *s).collect();
            of_rows.iter().sum::<f64>() / of_rows.len() as f64
        };
        Record {
            stage: stage.to_string(),
            task,
            shots: outcome.shots,
            metric: outcome.metric,
            score: score.clone(),
            baselines: floors
                .iter()
                .filter(|(_, scores)| scores.len() == outcome.rows.len())
                .map(|(name, scores)| (name.to_string(), mean(scores)))
                .collect(),
            also: BTreeMap::new(),
            contamination: None,
        }
    };
    let mut records = vec![record(outcome.task.clone(), &outcome.score, &|_| true)];
    if outcome.by_category.len() > 1 {
        records.extend(outcome.by_category.iter().map(|(category, score)| {
            record(format!("{}/{category}", outcome.task), score, &|row| row.category == *category)
        }));
    }
    records[0].also = also(outcome);
    records
}

/// Figures beside the score, by the metric.
fn also(outcome: &Outcome) -> BTreeMap<String, f64> {
    let rows = &outcome.rows;
    match outcome.metric {
        Metric::Choice => {
            let scores = likelihood::by_length(rows);
            let mean = scores.iter().sum::<f64>() / scores.len() as f64;
            [("choice-by-length".to_owned(), mean)].into()
        }
        Metric::Greedy => [("perplexity".to_owned(), likelihood::perplexity(rows))].into(),
        Metric::YesNo => yes_no::also(rows),
        Metric::Letter => letter::circular(rows),
        _ => BTreeMap::new(),
    }
}

/// The first `count` rows of `outcome` as entries of `samples.json`.
pub fn samples(stage: &str, outcome: &Outcome, count: usize) -> Vec<Sample> {
    let sample = |row: &Row| Sample {
        stage: stage.to_string(),
        task: outcome.task.clone(),
        shots: outcome.shots,
        row: row.clone(),
    };
    outcome.rows.iter().take(count).map(sample).collect()
}

impl Png {
    /// Encodes a picture.
    ///
    /// # Errors
    /// A picture whose bytes do not fit its size.
    pub fn encode(picture: &Picture) -> Result<Self> {
        let Picture { width, height, ref rgb } = *picture;
        let mut bytes = Vec::new();
        PngEncoder::new(&mut bytes)
            .write_image(rgb, width, height, ExtendedColorType::Rgb8)
            .with_context(|| format!("a picture of {width}x{height} pixels can't be written as PNG"))?;
        Ok(Self { width, height, png_base64: STANDARD.encode(&bytes) })
    }
}
