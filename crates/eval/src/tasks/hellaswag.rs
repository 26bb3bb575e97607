//! HellaSwag: how a scene goes on (Zellers et al. 2019); `hellaswag` of lm-evaluation-harness, with its
//! cleaning of WikiHow's marks.
//!
//! Files of the release: `hellaswag_{train,val}.jsonl`, lines of `{"activity_label", "ctx_a", "ctx_b",
//! "endings", "label", "split_type"}`. The test part has no public answers, so the validation part is asked.
//! Categories are `indomain` and `zeroshot`: whether the activity is in the training part.

use std::path::Path;

use anyhow::{Context as _, Result};
use mm1_data::question::Question;
use serde::Deserialize;
use serde_json::Value;

use super::benchmark::Benchmark;
use super::{harness, json};
use crate::metric::Metric;

#[derive(Deserialize)]
struct HellaSwagLine {
    activity_label: String,
    ctx_a: String,
    ctx_b: String,
    endings: Vec<String>,
    /// A number; text where Hugging Face has been between.
    label: Value,
    #[serde(default)]
    split_type: String,
}

/// Opens the set.
///
/// # Errors
/// A file that can't be read.
pub fn open(root: &Path) -> Result<Benchmark> {
    let read = |part| json::lines(&root.join(format!("hellaswag_{part}.jsonl")), question);
    let template = harness::template("{question}");
    Ok(harness::benchmark("hellaswag", Metric::Choice, template, (read("val")?, read("train")?)))
}

fn question(record: HellaSwagLine) -> Result<Question> {
    let HellaSwagLine { activity_label, ctx_a, ctx_b, endings, label, split_type } = record;
    let right = label.to_string().trim_matches('"').parse();
    let right = right.with_context(|| format!("field `label` is {label}, not a number from 0"))?;
    let text = cleaned(&format!("{activity_label}: {ctx_a} {}", capitalised(&ctx_b)));
    let question = harness::choice(text, endings.iter().map(|ending| cleaned(ending)).collect(), right)?;
    Ok(Question { category: split_type, ..question })
}

/// A large letter and small ones, as Python's `capitalize`.
fn capitalised(text: &str) -> String {
    let mut letters = text.chars();
    let first = letters.next().into_iter().flat_map(char::to_uppercase);
    first.chain(letters.as_str().to_lowercase().chars()).collect()
}

/// Without WikiHow's marks in brackets: a title ends the sentence before it.
fn cleaned(text: &str) -> String {
    let titled = text.trim().replace(" [title]", ". ");
    let (mut left, mut clean) = (titled.as_str(), String::new());
    while let Some(open) = left.find('[') {
        let (before, mark) = left.split_at(open);
        clean.push_str(before);
        // A mark is on one line.
        left = match mark.split_once(']').filter(|(inside, _)| !inside.contains('\n')) {
            Some((_, after)) => after,
            None => {
                clean.push('[');
                &mark[1..]
            }
        };
    }
    (clean + left).replace("  ", " ")
}
