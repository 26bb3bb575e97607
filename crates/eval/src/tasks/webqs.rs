//! WebQS: WebQuestions, questions that people typed into a search engine (Berant et al. 2013); `webqs` of
//! lm-evaluation-harness: right where greedy decoding would write one of the accepted answers.
//!
//! Files of the release: `webquestions.examples.{train,test}.json`, lists of `{"utterance", "targetValue"}`.
//! The test part is asked. The harness stops with an error at demonstrations; here they show the first
//! answer.

use std::path::Path;

use anyhow::{Result, ensure};
use mm1_data::question::Question;
use serde::Deserialize;

use super::benchmark::Benchmark;
use super::{harness, json};
use crate::metric::Metric;

#[derive(Deserialize)]
#[serde(rename_all = "camelCase")]
struct WebQuestion {
    utterance: String,
    target_value: String,
}

/// Opens the set.
///
/// # Errors
/// A file that can't be read.
pub fn open(root: &Path) -> Result<Benchmark> {
    let template = harness::template("Question: {question}\nAnswer:");
    Ok(harness::benchmark("webqs", Metric::Greedy, template, (read(root, "test")?, read(root, "train")?)))
}

fn read(root: &Path, part: &str) -> Result<Vec<Question>> {
    let path = root.join(format!("webquestions.examples.{part}.json"));
    let question = |(i, WebQuestion { utterance, target_value }): (usize, WebQuestion)| {
        let answers = without_longer(described(&target_value));
        ensure!(!answers.is_empty(), "{}: [{i}].targetValue has no (description …)", path.display());
        Ok(Question { text: utterance, answers, ..Question::default() })
    };
    json::whole::<Vec<WebQuestion>>(&path)?.into_iter().enumerate().map(question).collect()
}

/// The answers in `(list (description "Bob Smith") (description Al))`.
fn described(target: &str) -> Vec<String> {
    let answer = |text: &str| {
        let quoted = text.strip_prefix('"').and_then(|text| text.split_once('"'));
        let quoted = quoted.filter(|(inside, after)| !inside.is_empty() && after.starts_with(')'));
        let answer = quoted.map_or_else(|| text.split(')').next(), |(inside, _)| Some(inside));
        answer.filter(|answer| !answer.is_empty()).map(str::to_owned)
    };
    target.split("(description ").skip(1).filter_map(answer).collect()
}

/// In order, without those that begin with another one: greedy decoding that writes them writes that one too.
fn without_longer(mut answers: Vec<String>) -> Vec<String> {
    answers.sort();
    answers.dedup_by(|answer, kept| answer.starts_with(kept.as_str()));
    answers
}
