//! SciQ: questions of science with a passage that supports the answer (Welbl et al. 2017); `sciq` of
//! lm-evaluation-harness.
//!
//! Files of `SciQ.zip`: `{train,test}.json`, lists of `{"question", "correct_answer", "distractor1" to
//! "distractor3", "support"}`. The test part is asked.

use std::path::Path;

use anyhow::Result;
use mm1_data::question::Question;
use serde::Deserialize;

use super::benchmark::Benchmark;
use super::{harness, json};
use crate::metric::Metric;

#[derive(Deserialize)]
struct SciqQuestion {
    question: String,
    correct_answer: String,
    distractor1: String,
    distractor2: String,
    distractor3: String,
    support: String,
}

/// Opens the set.
///
/// # Errors
/// A file that can't be read.
pub fn open(root: &Path) -> Result<Benchmark> {
    let read = |file| -> Result<Vec<Question>> {
        json::whole::<Vec<SciqQuestion>>(&root.join(file))?.into_iter().map(question).collect()
    };
    let template = harness::template("{question}\nAnswer:");
    Ok(harness::benchmark("sciq", Metric::Choice, template, (read("test.json")?, read("train.json")?)))
}

fn question(record: SciqQuestion) -> Result<Question> {
    let text = format!("{}\nQuestion: {}", record.support.trim_start(), record.question);
    let choices = vec![record.distractor1, record.distractor2, record.distractor3, record.correct_answer];
    harness::choice(text, choices, 3)
}
