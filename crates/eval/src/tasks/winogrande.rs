//! WinoGrande: which of two names a blank stands for (Sakaguchi et al. 2020); `winogrande` of
//! lm-evaluation-harness. The sentence is filled with each option, and how likely its end is after that
//! decides (Trinh & Le 2018).
//!
//! Files of `winogrande_1.1.zip`: `train_xl.jsonl` and `dev.jsonl`, lines of `{"sentence", "option1",
//! "option2", "answer"}`. The test part has no public answers, so the development part is asked.

use std::path::Path;

use anyhow::{Context as _, Result};
use mm1_data::question::Question;
use serde::Deserialize;

use super::benchmark::Benchmark;
use super::{harness, json};
use crate::metric::Metric;
use crate::template::Template;

#[derive(Deserialize)]
struct WinoGrandeLine {
    sentence: String,
    option1: String,
    option2: String,
    answer: String,
}

/// Opens the set.
///
/// # Errors
/// A file that can't be read.
pub fn open(root: &Path) -> Result<Benchmark> {
    let template = Template {
        answer: "{after}".to_owned(),
        chat: "{question}\nWhat does the blank _ stand for?".to_owned(),
        ..harness::template("{before}{choice}")
    };
    let read = |file| json::lines(&root.join(file), question);
    Ok(harness::benchmark(
        "winogrande",
        Metric::Choice,
        template,
        (read("dev.jsonl")?, read("train_xl.jsonl")?),
    ))
}

fn question(WinoGrandeLine { sentence, option1, option2, answer }: WinoGrandeLine) -> Result<Question> {
    let right = ["1", "2"].iter().position(|number| *number == answer);
    let right = right.with_context(|| format!("field `answer` is `{answer}`, not 1 or 2"))?;
    let (before, after) = sentence.split_once('_').context("field `sentence` has no blank _")?;
    harness::choice(format!("{before}_ {}", after.trim()), vec![option1, option2], right)
}
