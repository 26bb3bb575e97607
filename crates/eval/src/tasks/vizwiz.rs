//! VizWiz (Gurari et al. 2018, arXiv 1802.08218): photos and questions of blind people, ten answers each, `unanswerable` among them;
//! scores by type of answer. The validation split is asked (the answers of test-dev, which the paper reports, are secret), the training
//! split demonstrated.
//!
//! - `val.json`, `train.json`: of `Annotations.zip` from vizwiz.org.
//! - `val/`, `train/`: the pictures.

use std::path::Path;

use anyhow::Result;
use mm1_data::question::Question;
use serde::Deserialize;

use super::benchmark::{Benchmark, Item, Place};
use super::reader::Folder;
use crate::task::Metric;

const LAYOUT: &str = "val.json, train.json, val/ and train/ (the pictures)";

/// Opens the set.
///
/// # Errors
/// A file that is missing or has another form.
pub fn open(root: &Path) -> Result<Benchmark> {
    let folder = Folder::new(root, LAYOUT);
    folder.path("val")?;
    let items = |split: &str| -> Result<Vec<Item>> {
        let asked: Vec<Asked> = folder.json(&format!("{split}.json"))?;
        let item = |asked: Asked| Item {
            question: Question {
                id: format!("vizwiz/{split}/{}", asked.image),
                category: asked.answer_type,
                text: asked.question,
                answers: asked.answers.into_iter().map(|given| given.answer).collect(),
                ..Question::default()
            },
            pictures: vec![Place::File(root.join(split).join(asked.image))],
        };
        Ok(asked.into_iter().map(item).collect())
    };
    Ok(Benchmark::new("vizwiz", Metric::VqaAccuracy, items("val")?, items("train")?))
}

#[derive(Deserialize)]
struct Asked {
    image: String,
    question: String,
    answers: Vec<Answer>,
    answer_type: String,
}

#[derive(Deserialize)]
struct Answer {
    answer: String,
}
