//! AI2D (Kembhavi et al. 2016, arXiv 1603.07396): questions with four options about diagrams of school books.
//! The test split is asked, as lmms-eval has it and MM1.5 reports it; that file has no training split, so
//! other test questions are demonstrated.
//!
//! - `data/test-*.parquet`: of huggingface.co/datasets/lmms-lab/ai2d, the pictures inside.

use std::path::Path;
use std::sync::Arc;

use anyhow::{Result, ensure};
use mm1_data::question::Question;
use mm1_data::source::cells::Cells;
use serde::Deserialize;

use super::benchmark::{Benchmark, BenchmarkItem};
use super::picture::PictureLocation;
use super::reader::{BenchmarkFolder, rows};
use crate::metric::Metric;
use crate::template::letter;

const LAYOUT: &str = "data/test-*.parquet (of huggingface.co/datasets/lmms-lab/ai2d)";

/// Opens the set.
///
/// # Errors
/// A file that is missing or has another form; an answer that is no option.
pub fn open(root: &Path) -> Result<Benchmark> {
    let files = BenchmarkFolder::new(root, LAYOUT).parquet("data", "test-")?;
    let pictures = Arc::new(Cells::open(&files, &["image"])?);
    let entries: Vec<Ai2dRow> = rows(&Cells::open(&files, &["question", "options", "answer"])?)?;
    let item = |(row, entry): (usize, Ai2dRow)| {
        let answer = entry.answer.parse().unwrap_or(usize::MAX);
        ensure!(
            answer < entry.options.len(),
            "{}: the answer {:?} is none of {} options",
            pictures.place(row),
            entry.answer,
            entry.options.len()
        );
        Ok(BenchmarkItem {
            question: Question {
                id: format!("ai2d/test/{row}"),
                category: "question".to_owned(),
                text: entry.question,
                answers: vec![letter(answer)],
                choices: entry.options,
                ..Question::default()
            },
            pictures: vec![PictureLocation::Parquet {
                cells: pictures.clone(),
                row,
                column: "image".to_owned(),
            }],
        })
    };
    let tests = entries.into_iter().enumerate().map(item).collect::<Result<_>>()?;
    Ok(Benchmark::of_tests("ai2d", Metric::Letter, tests))
}

#[derive(Deserialize)]
struct Ai2dRow {
    question: String,
    options: Vec<String>,
    /// The number of an option, from 0.
    answer: String,
}
