//! PIQA: which of two ways reaches an everyday goal (Bisk et al. 2020); `piqa` of lm-evaluation-harness.
//!
//! Files of `physicaliqa-train-dev.zip`: `{train,dev}.jsonl`, lines of `{"goal", "sol1", "sol2"}`, and
//! `{train,dev}-labels.lst`, lines of 0 or 1. Where there is no `dev.jsonl`, `valid.jsonl` and
//! `valid-labels.lst` are read. The test part has no public answers, so the validation part is asked.

use std::path::Path;

use anyhow::{Context as _, Result, ensure};
use mm1_data::question::Question;
use serde::Deserialize;

use super::benchmark::Benchmark;
use super::{harness, json};
use crate::metric::Metric;

#[derive(Deserialize)]
struct PiqaLine {
    goal: String,
    sol1: String,
    sol2: String,
}

/// Opens the set.
///
/// # Errors
/// A file that can't be read.
pub fn open(root: &Path) -> Result<Benchmark> {
    let part = if root.join("dev.jsonl").is_file() { "dev" } else { "valid" };
    let template = harness::template("Question: {question}\nAnswer:");
    Ok(harness::benchmark("piqa", Metric::Choice, template, (read(root, part)?, read(root, "train")?)))
}

fn read(root: &Path, part: &str) -> Result<Vec<Question>> {
    let records: Vec<PiqaLine> = json::lines(&root.join(format!("{part}.jsonl")), Ok)?;
    let path = root.join(format!("{part}-labels.lst"));
    let labels = json::text(&path)?;
    let labels: Vec<&str> = labels.lines().collect();
    ensure!(
        labels.len() == records.len(),
        "{}: it has {} lines, but {part}.jsonl {}; both must be of the same release",
        path.display(),
        labels.len(),
        records.len()
    );
    let question = |(line, (record, label)): (usize, (PiqaLine, &str))| {
        let here = || format!("{}:{}: `{label}` is not 0 or 1", path.display(), line + 1);
        let right = label.trim().parse().with_context(here)?;
        harness::choice(record.goal, vec![record.sol1, record.sol2], right).with_context(here)
    };
    records.into_iter().zip(labels).enumerate().map(question).collect()
}
