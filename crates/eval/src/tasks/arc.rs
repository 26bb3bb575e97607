//! ARC: questions of school exams about nature (Clark et al. 2018); `arc_easy` and `arc_challenge` of
//! lm-evaluation-harness.
//!
//! Files of `ARC-V1-Feb2018.zip`: `ARC-Easy-{Train,Test}.jsonl` and `ARC-Challenge-{Train,Test}.jsonl`, lines
//! of `{"question": {"stem", "choices": [{"text", "label"}]}, "answerKey"}`. The test part is asked.

use std::path::Path;

use anyhow::{Context as _, Result};
use mm1_data::question::Question;
use serde::Deserialize;

use super::benchmark::Benchmark;
use super::{harness, json};
use crate::metric::Metric;

#[derive(Deserialize)]
#[serde(rename_all = "camelCase")]
struct ArcLine {
    question: ArcQuestion,
    answer_key: String,
}

#[derive(Deserialize)]
struct ArcQuestion {
    stem: String,
    choices: Vec<ArcOption>,
}

#[derive(Deserialize)]
struct ArcOption {
    text: String,
    label: String,
}

/// Opens the easy set.
///
/// # Errors
/// A file that can't be read.
pub fn easy(root: &Path) -> Result<Benchmark> {
    open(root, "arc-e", "ARC-Easy")
}

/// Opens the set of questions that word statistics get wrong.
///
/// # Errors
/// A file that can't be read.
pub fn challenge(root: &Path) -> Result<Benchmark> {
    open(root, "arc-c", "ARC-Challenge")
}

fn open(root: &Path, name: &str, file: &str) -> Result<Benchmark> {
    let read = |part| json::lines(&root.join(format!("{file}-{part}.jsonl")), question);
    let template = harness::template("Question: {question}\nAnswer:");
    Ok(harness::benchmark(name, Metric::Choice, template, (read("Test")?, read("Train")?)))
}

fn question(ArcLine { question, answer_key }: ArcLine) -> Result<Question> {
    let right = question.choices.iter().position(|choice| choice.label == answer_key);
    let right = right.with_context(|| format!("answerKey `{answer_key}` is the label of no option"))?;
    harness::choice(question.stem, question.choices.into_iter().map(|choice| choice.text).collect(), right)
}
