//! MathVista (Lu et al. 2023, arXiv 2310.02255): mathematics in pictures, with options or without; scores by
//! task. `testmini` is asked (the answers of `test` are secret); there is no training split, so other
//! questions of it are demonstrated.
//!
//! An answer with options is right by its letter, one without where it is the accepted number or words. The
//! official evaluator lets GPT-4 extract these from a longer answer.
//!
//! - `data/testmini-*.parquet`: of huggingface.co/datasets/AI4Math/MathVista, the pictures inside.

use std::path::Path;
use std::sync::Arc;

use anyhow::{Context as _, Result};
use mm1_data::question::Question;
use mm1_data::source::cells::Cells;
use serde::Deserialize;

use super::benchmark::{Benchmark, BenchmarkItem};
use super::picture::PictureLocation;
use super::reader::{BenchmarkFolder, rows};
use crate::metric::Metric;
use crate::template::letter;

const LAYOUT: &str = "data/testmini-*.parquet (of huggingface.co/datasets/AI4Math/MathVista)";

const PICTURE: &str = "decoded_image";

/// Opens the set.
///
/// # Errors
/// A file that is missing or has another form; an answer that is no option.
pub fn open(root: &Path) -> Result<Benchmark> {
    let files = BenchmarkFolder::new(root, LAYOUT).parquet("data", "testmini-")?;
    let pictures = Arc::new(Cells::open(&files, &[PICTURE])?);
    let texts = Cells::open(&files, &["pid", "question", "unit", "choices", "answer", "metadata"])?;
    let item = |(row, entry): (usize, MathVistaRow)| {
        let question = entry.question().with_context(|| texts.place(row))?;
        let picture = PictureLocation::Parquet { cells: pictures.clone(), row, column: PICTURE.to_owned() };
        Ok(BenchmarkItem { question, pictures: vec![picture] })
    };
    let tests = rows(&texts)?.into_iter().enumerate().map(item).collect::<Result<_>>()?;
    Ok(Benchmark::of_tests("mathvista", Metric::Letter, tests))
}

#[derive(Deserialize)]
struct MathVistaRow {
    pid: String,
    question: String,
    unit: Option<String>,
    choices: Option<Vec<String>>,
    /// The text of an option, or what is to be written.
    answer: String,
    metadata: MathVistaMetadata,
}

#[derive(Deserialize)]
struct MathVistaMetadata {
    task: String,
}

impl MathVistaRow {
    fn question(self) -> Result<Question> {
        let choices = self.choices.unwrap_or_default();
        let answer = if choices.is_empty() {
            self.answer
        } else {
            let right = choices.iter().position(|choice| *choice == self.answer);
            letter(right.with_context(|| format!("the answer {:?} is none of {choices:?}", self.answer))?)
        };
        // As in the official `query`.
        let unit = self.unit.filter(|unit| !unit.is_empty());
        let unit = unit.map(|unit| format!(" (Unit: {unit})")).unwrap_or_default();
        Ok(Question {
            id: format!("mathvista/testmini/{}", self.pid),
            category: self.metadata.task,
            text: self.question + &unit,
            answers: vec![answer],
            choices,
            ..Question::default()
        })
    }
}
