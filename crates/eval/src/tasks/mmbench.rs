//! MMBench (Liu et al. 2023, arXiv 2307.06281): questions with two to four options; scores by ability. The
//! development split is asked (the answers of the test split are secret); there is no training split, so
//! other questions of it are demonstrated.
//!
//! `mmbench` asks each question once. `mmbench-circular` asks it once more for each row that the file has of
//! it with its options rotated (`index` above 1,000,000); CircularEval (section 4.3), the share of questions
//! whose every row is right, is the figure `circular` beside its score.
//!
//! - `mmbench_dev_20230712.tsv`: from github.com/open-compass/MMBench, the pictures inside in base64.

use std::collections::BTreeMap;
use std::path::Path;

use anyhow::{Context as _, Result};
use mm1_data::question::Question;
use serde::Deserialize;

use super::benchmark::{Benchmark, BenchmarkItem};
use super::reader::BenchmarkFolder;
use crate::metric::Metric;

const FILE: &str = "mmbench_dev_20230712.tsv";
const LAYOUT: &str = "mmbench_dev_20230712.tsv (from github.com/open-compass/MMBench)";

/// Rows from here on are those of others, by the rest, with their options rotated.
const ROTATED: u64 = 1_000_000;
/// A text that is no longer is not a picture, but the index of the row that has it.
const REFERENCE: usize = 64;

/// Opens the set, each question once.
///
/// # Errors
/// A file that is missing or has another form; a picture that another row was to have.
pub fn open(root: &Path) -> Result<Benchmark> {
    let once = items(root)?.into_iter().filter(|(index, _)| *index < ROTATED);
    Ok(Benchmark::of_tests("mmbench", Metric::Letter, once.map(|(_, item)| item).collect()))
}

/// Opens the set with all rotations, those of a question side by side; questions are demonstrated as they
/// were written.
///
/// # Errors
/// As [`open`].
pub fn circular(root: &Path) -> Result<Benchmark> {
    let mut all = items(root)?;
    let shown = all.iter().filter(|(index, _)| *index < ROTATED).map(|(_, item)| item.clone()).collect();
    all.sort_by_key(|(index, _)| (index % ROTATED, *index));
    let tests = all.into_iter().map(|(_, item)| item).collect();
    Ok(Benchmark::new("mmbench-circular", Metric::Letter, tests, shown))
}

/// The rows with their indices.
fn items(root: &Path) -> Result<Vec<(u64, BenchmarkItem)>> {
    let (mut rows, mut pictures) = (Vec::new(), BTreeMap::new());
    BenchmarkFolder::new(root, LAYOUT).tsv(FILE, "image", |row: MmBenchRow, place| {
        let has = if row.image.len() > REFERENCE { row.index.to_string() } else { row.image.clone() };
        pictures.entry(row.index.to_string()).or_insert(place);
        rows.push((row.index, has, row.question()));
        Ok(())
    })?;
    let item = |(index, has, question): (u64, String, Question)| {
        let place = pictures.get(&has).cloned();
        let missing = || format!("{FILE}: {}: no row {has:?}, which is to have the picture", question.id);
        Ok((index, BenchmarkItem { pictures: vec![place.with_context(missing)?], question }))
    };
    rows.into_iter().map(item).collect()
}

#[derive(Deserialize)]
struct MmBenchRow {
    index: u64,
    question: String,
    /// What is to be known for the answer; may be empty.
    hint: String,
    #[serde(rename = "A")]
    a: String,
    #[serde(rename = "B")]
    b: String,
    #[serde(rename = "C")]
    c: String,
    #[serde(rename = "D")]
    d: String,
    answer: String,
    category: String,
    image: String,
}

impl MmBenchRow {
    fn question(self) -> Question {
        let Self { question, hint, .. } = self;
        Question {
            id: format!("mmbench/dev/{}", self.index),
            category: self.category,
            text: if hint.is_empty() { question } else { format!("{hint}\n{question}") },
            answers: vec![self.answer],
            choices: [self.a, self.b, self.c, self.d]
                .into_iter()
                .filter(|choice| !choice.is_empty())
                .collect(),
            ..Question::default()
        }
    }
}
