//! TextVQA (Singh et al. 2019, arXiv 1904.08920): questions about text in pictures, ten answers each. The
//! validation split is asked, the training split demonstrated. The model is not told what an OCR program
//! reads.
//!
//! - `TextVQA_0.5.1_val.json`, `TextVQA_0.5.1_train.json`: from textvqa.org.
//! - `train_images/`: of `train_val_images.zip`, with the pictures of both splits.

use std::path::Path;

use anyhow::Result;
use mm1_data::question::Question;
use serde::Deserialize;

use super::benchmark::{Benchmark, BenchmarkItem};
use super::picture::PictureLocation;
use super::reader::BenchmarkFolder;
use crate::metric::Metric;

const LAYOUT: &str =
    "TextVQA_0.5.1_val.json, TextVQA_0.5.1_train.json and train_images/ (the pictures of both splits)";

/// Opens the set.
///
/// # Errors
/// A file that is missing or has another form.
pub fn open(root: &Path) -> Result<Benchmark> {
    let folder = BenchmarkFolder::new(root, LAYOUT);
    let pictures = folder.path("train_images")?;
    let items = |split: &str| -> Result<Vec<BenchmarkItem>> {
        let TextVqaFile { data } = folder.json(&format!("TextVQA_0.5.1_{split}.json"))?;
        let item = |entry: TextVqaQuestion| BenchmarkItem {
            question: Question {
                id: format!("textvqa/{split}/{}", entry.question_id),
                category: "question".to_owned(),
                text: entry.question,
                answers: entry.answers,
                ..Question::default()
            },
            pictures: vec![PictureLocation::File(pictures.join(format!("{}.jpg", entry.image_id)))],
        };
        Ok(data.into_iter().map(item).collect())
    };
    Ok(Benchmark::new("textvqa", Metric::VqaAccuracy, items("val")?, items("train")?))
}

#[derive(Deserialize)]
struct TextVqaFile {
    data: Vec<TextVqaQuestion>,
}

#[derive(Deserialize)]
struct TextVqaQuestion {
    question_id: u64,
    image_id: String,
    question: String,
    answers: Vec<String>,
}
