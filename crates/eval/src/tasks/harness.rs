//! What the text sets have in common: they are written and scored as in lm-evaluation-harness (Gao et al.
//! 2024).

use anyhow::{Context as _, Result};
use mm1_data::question::Question;

use super::benchmark::{Benchmark, BenchmarkItem};
use crate::metric::Metric;
use crate::template::Template;

/// Answers longer than this equal no accepted one.
const MAX_TOKENS: usize = 64;

/// A question, a space and its answer; demonstrations end with an empty line. A user of a tuned model asks
/// the same.
pub(crate) fn template(ask: &str) -> Template {
    Template {
        ask: ask.to_owned(),
        answer: " {answer}".to_owned(),
        separator: "\n\n".to_owned(),
        chat: ask.to_owned(),
        ..Template::questions()
    }
}

/// The set `name` of test and training questions, which get their ids here, and the set's name where they
/// have no category.
pub(crate) fn benchmark(
    name: &str,
    metric: Metric,
    template: Template,
    (tests, train): (Vec<Question>, Vec<Question>),
) -> Benchmark {
    let item = |split: &str, (index, question): (usize, Question)| {
        let category = if question.category.is_empty() { name.to_owned() } else { question.category };
        let question = Question { id: format!("{name}/{split}/{index}"), category, ..question };
        BenchmarkItem { question, pictures: Vec::new() }
    };
    let items =
        |split, questions: Vec<Question>| questions.into_iter().enumerate().map(|q| item(split, q)).collect();
    Benchmark {
        name: name.to_owned(),
        metric,
        template,
        max_tokens: MAX_TOKENS,
        stop: vec!["\n".to_owned()],
        tests: items("test", tests),
        demonstrations: items("train", train),
    }
}

/// A question in multiple choice; `right` counts from 0.
///
/// # Errors
/// No such option.
pub(crate) fn choice(text: String, choices: Vec<String>, right: usize) -> Result<Question> {
    let answer = choices.get(right);
    let answer =
        answer.with_context(|| format!("option {} is right, but there are {}", right + 1, choices.len()))?;
    Ok(Question { text, answers: vec![answer.clone()], choices, ..Question::default() })
}
