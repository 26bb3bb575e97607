//! AI2D (Kembhavi et al. 2016, arXiv 1603.07396): questions with four options about diagrams of school books. The test split is asked, as
//! lmms-eval has it and MM1.5 reports it; that file has no training split, so other test questions are demonstrated.
//!
//! - `data/test-*.parquet`: of huggingface.co/datasets/lmms-lab/ai2d, the pictures inside.

use std::path::Path;
use std::sync::Arc;

use anyhow::{Result, ensure};
use mm1_data::question::Question;
use mm1_data::source::cells::Cells;
use serde::Deserialize;

use super::benchmark::{Benchmark, Item, Place};
use super::reader::{Folder, rows};
use crate::task::Metric;
use crate::template::letter;

const LAYOUT: &str = "data/test-*.parquet (of huggingface.co/datasets/lmms-lab/ai2d)";

/// Opens the set.
///
/// # Errors
/// A file that is missing or has another form; an answer that is no option.
pub fn open(root: &Path) -> Result<Benchmark> {
    let files = Folder::new(root, LAYOUT).parquet("data", "test-")?;
    let pictures = Arc::new(Cells::open(&files, &["image"])?);
    let asked: Vec<Asked> = rows(&Cells::open(&files, &["question", "options", "answer"])?)?;
    let item = |(row, asked): (usize, Asked)| {
        let answer = asked.answer.parse().unwrap_or(usize::MAX);
        ensure!(
            answer < asked.options.len(),
            "{}: the answer {:?} is none of {} options",
            pictures.place(row),
            asked.answer,
            asked.options.len()
        );
        Ok(Item {
            question: Question {
                id: format!("ai2d/test/{row}"),
                category: "question".to_owned(),
                text: asked.question,
                answers: vec![letter(answer)],
                choices: asked.options,
                ..Question::default()
            },
            pictures: vec![Place::Cell(pictures.clone(), row, "image".to_owned())],
        })
    };
    let tests = asked.into_iter().enumerate().map(item).collect::<Result<_>>()?;
    Ok(Benchmark::of_tests("ai2d", Metric::Letter, tests))
}

#[derive(Deserialize)]
struct Asked {
    question: String,
    options: Vec<String>,
    /// The number of an option, from 0.
    answer: String,
}
