//! TriviaQA: questions of trivia without a text to look them up in (Joshi et al. 2017); `triviaqa` of
//! lm-evaluation-harness. The answer is generated and compared with every alias, without letter case and
//! punctuation.
//!
//! Files, whichever are there, in this order; all but the first are of the release:
//! - `validation.jsonl` and `train.jsonl`: `rc.nocontext` of `mandarjoshi/trivia_qa` on Hugging Face as JSON
//!   Lines;
//! - `unfiltered-web-{dev,train}.json`: the set of GPT-3 and LLaMA, 11,313 questions;
//! - `web-{dev,train}.json` and `wikipedia-{dev,train}.json`, the same as `rc.nocontext`: the harness's set,
//!   17,944 questions.

use std::path::Path;

use anyhow::{Result, ensure};
use mm1_data::question::Question;
use serde::Deserialize;

use super::benchmark::Benchmark;
use super::{harness, json};
use crate::metric::Metric;

#[derive(Deserialize)]
struct TriviaFile {
    #[serde(rename = "Data")]
    data: Vec<TriviaQuestion>,
}

#[derive(Deserialize)]
struct TriviaQuestion {
    #[serde(alias = "Question")]
    question: String,
    #[serde(alias = "Answer")]
    answer: TriviaAliases,
}

#[derive(Deserialize)]
struct TriviaAliases {
    #[serde(alias = "Aliases")]
    aliases: Vec<String>,
}

/// Opens the set.
///
/// # Errors
/// A file that can't be read.
pub fn open(root: &Path) -> Result<Benchmark> {
    // The harness sets a question mark after the one that is there.
    let template = harness::template("Question: {question}?\nAnswer:");
    let splits = (read(root, "validation", "dev")?, read(root, "train", "train")?);
    let set = harness::benchmark("triviaqa", Metric::NormalisedMatch, template, splits);
    Ok(Benchmark { stop: ["\n", ".", ","].map(str::to_owned).to_vec(), ..set })
}

fn read(root: &Path, lines: &str, part: &str) -> Result<Vec<Question>> {
    let (lines, unfiltered) = (root.join(format!("{lines}.jsonl")), format!("unfiltered-web-{part}.json"));
    if lines.is_file() {
        return json::lines(&lines, question);
    }
    let files = match root.join(&unfiltered).is_file() {
        true => vec![unfiltered],
        false => vec![format!("web-{part}.json"), format!("wikipedia-{part}.json")],
    };
    let mut questions = Vec::new();
    for file in files {
        let path = root.join(file);
        for (i, record) in json::whole::<TriviaFile>(&path)?.data.into_iter().enumerate() {
            questions
                .push(question(record).map_err(|e| e.context(format!("{}: Data[{i}]", path.display())))?);
        }
    }
    Ok(questions)
}

fn question(record: TriviaQuestion) -> Result<Question> {
    let answers: Vec<String> = record.answer.aliases.iter().map(|alias| alias.trim().to_owned()).collect();
    ensure!(!answers.is_empty(), "field `aliases` is empty: this is not a part with public answers");
    Ok(Question { text: record.question.trim().to_owned(), answers, ..Question::default() })
}
