//! TextVQA (Singh et al. 2019, arXiv 1904.08920): questions about text in pictures, ten answers each. The validation split is asked,
//! the training split demonstrated. The model is not told what an OCR program reads.
//!
//! - `TextVQA_0.5.1_val.json`, `TextVQA_0.5.1_train.json`: from textvqa.org.
//! - `train_images/`: of `train_val_images.zip`, with the pictures of both splits.

use std::path::Path;

use anyhow::Result;
use mm1_data::question::Question;
use serde::Deserialize;

use super::benchmark::{Benchmark, Item, Place};
use super::reader::Folder;
use crate::task::Metric;

const LAYOUT: &str =
    "TextVQA_0.5.1_val.json, TextVQA_0.5.1_train.json and train_images/ (the pictures of both splits)";

/// Opens the set.
///
/// # Errors
/// A file that is missing or has another form.
pub fn open(root: &Path) -> Result<Benchmark> {
    let folder = Folder::new(root, LAYOUT);
    let pictures = folder.path("train_images")?;
    let items = |split: &str| -> Result<Vec<Item>> {
        let Questions { data } = folder.json(&format!("TextVQA_0.5.1_{split}.json"))?;
        let item = |asked: Asked| Item {
            question: Question {
                id: format!("textvqa/{split}/{}", asked.question_id),
                category: "question".to_owned(),
                text: asked.question,
                answers: asked.answers,
                ..Question::default()
            },
            pictures: vec![Place::File(pictures.join(format!("{}.jpg", asked.image_id)))],
        };
        Ok(data.into_iter().map(item).collect())
    };
    Ok(Benchmark::new("textvqa", Metric::VqaAccuracy, items("val")?, items("train")?))
}

#[derive(Deserialize)]
struct Questions {
    data: Vec<Asked>,
}

#[derive(Deserialize)]
struct Asked {
    question_id: u64,
    image_id: String,
    question: String,
    answers: Vec<String>,
}
