//! MMMU (Yue et al. 2023, arXiv 2311.16502): questions of college exams with up to seven pictures among the
//! text, most with options; scores by subject. The validation split is asked, the development split (five of
//! each subject) demonstrated.
//!
//! A picture is shown where the text or an option names it (`<image 2>`), again where it is named again; one
//! that nothing names is not shown, as in lmms-eval. A question without options is right where the answer is
//! one of the accepted ones; the official evaluator also looks for it inside a longer answer.
//!
//! - `SUBJECT/validation-*.parquet`, `SUBJECT/dev-*.parquet`: of huggingface.co/datasets/MMMU/MMMU, the
//!   pictures inside.

use std::path::Path;
use std::sync::Arc;

use anyhow::{Context as _, Result};
use mm1_data::question::Question;
use mm1_data::source::cells::Cells;
use serde::Deserialize;

use super::benchmark::{Benchmark, BenchmarkItem};
use super::picture::PictureLocation;
use super::reader::{BenchmarkFolder, python_list, rows};
use crate::metric::Metric;
use crate::template::IMAGE;

const LAYOUT: &str =
    "SUBJECT/validation-*.parquet and SUBJECT/dev-*.parquet (of huggingface.co/datasets/MMMU/MMMU)";

const TEXTS: [&str; 5] = ["id", "question", "options", "answer", "question_type"];
const PICTURES: [&str; 7] = ["image_1", "image_2", "image_3", "image_4", "image_5", "image_6", "image_7"];

/// Opens the set.
///
/// # Errors
/// A file that is missing or has another form.
pub fn open(root: &Path) -> Result<Benchmark> {
    let folder = BenchmarkFolder::new(root, LAYOUT);
    let items = |split: &str| -> Result<Vec<BenchmarkItem>> {
        let (mut files, mut subjects) = (Vec::new(), Vec::new());
        for subject in folder.folders()? {
            let of_subject = folder.parquet(&subject, split)?;
            subjects.extend(of_subject.iter().map(|_| subject.clone()));
            files.extend(of_subject);
        }
        let pictures = Arc::new(Cells::open(&files, &PICTURES)?);
        let mut items = Vec::new();
        for (file, subject) in files.into_iter().zip(subjects) {
            for entry in rows::<MmmuRow>(&Cells::open(&[file], &TEXTS)?)? {
                let id = entry.id.clone();
                items.push(entry.item(&subject, (&pictures, items.len())).with_context(|| id)?);
            }
        }
        Ok(items)
    };
    Ok(Benchmark::new("mmmu", Metric::Letter, items("validation")?, items("dev")?))
}

#[derive(Deserialize)]
struct MmmuRow {
    id: String,
    question: String,
    /// A list of texts as Python prints it.
    options: String,
    /// A letter; of an open question a text, or a list of texts as Python prints it.
    answer: String,
    /// `multiple-choice` or `open`.
    question_type: String,
}

impl MmmuRow {
    fn item(self, subject: &str, (pictures, row): (&Arc<Cells>, usize)) -> Result<BenchmarkItem> {
        let open = self.question_type == "open";
        let options = if open { Vec::new() } else { python_list(&self.options)? };
        let mut named = Vec::new();
        let text = placed(&self.question, &mut named);
        let choices = options.iter().map(|option| placed(option, &mut named)).collect();
        if named.is_empty() {
            named.push(1);
        }
        let several = open && self.answer.starts_with('[');
        let answers = if several { python_list(&self.answer)? } else { vec![self.answer] };
        let place = |number| PictureLocation::Parquet {
            cells: pictures.clone(),
            row,
            column: format!("image_{number}"),
        };
        let (id, category) = (format!("mmmu/{}", self.id), subject.to_owned());
        let question = Question { id, category, text, answers, choices, ..Question::default() };
        Ok(BenchmarkItem { question, pictures: named.into_iter().map(place).collect() })
    }
}

/// `text` with the place of each picture as templates know it; their numbers are added to `named`.
fn placed(text: &str, named: &mut Vec<u8>) -> String {
    let mut parts = text.split("<image ");
    let mut placed = parts.next().unwrap_or_default().to_owned();
    for part in parts {
        match part.split_once('>').and_then(|(number, rest)| Some((number.parse().ok()?, rest))) {
            Some((number, rest)) => {
                named.push(number);
                placed.extend([IMAGE, rest]);
            }
            None => placed.extend(["<image ", part]),
        }
    }
    placed
}
