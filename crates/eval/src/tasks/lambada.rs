//! LAMBADA: the last word of a passage (Paperno et al. 2016), in OpenAI's edition; `lambada_openai` of
//! lm-evaluation-harness: the word counts as right where greedy decoding would write it.
//!
//! File: `lambada_test.jsonl` of GPT-2's data, lines of `{"text"}`. There is no training part: demonstrations
//! are other test items. The harness writes two spaces before a demonstrated word, by mistake; here it is
//! one.

use std::path::Path;

use anyhow::{Context as _, Result};
use mm1_data::question::Question;
use serde::Deserialize;

use super::benchmark::Benchmark;
use super::{harness, json};
use crate::metric::Metric;

#[derive(Deserialize)]
struct LambadaLine {
    text: String,
}

/// Opens the set.
///
/// # Errors
/// A file that can't be read.
pub fn open(root: &Path) -> Result<Benchmark> {
    let questions = json::lines(&root.join("lambada_test.jsonl"), question)?;
    let set = harness::benchmark(
        "lambada",
        Metric::Greedy,
        harness::template("{question}"),
        (questions, Vec::new()),
    );
    // With the ids of the test items: none is shown before itself.
    Ok(Benchmark { demonstrations: set.tests.clone(), ..set })
}

fn question(LambadaLine { text }: LambadaLine) -> Result<Question> {
    let (before, word) =
        text.rsplit_once(' ').with_context(|| format!("field `text` is one word: `{text}`"))?;
    Ok(Question { text: before.to_owned(), answers: vec![word.to_owned()], ..Question::default() })
}
