//! VizWiz (Gurari et al. 2018, arXiv 1802.08218): photos and questions of blind people, ten answers each,
//! `unanswerable` among them; scores by type of answer. The validation split is asked (the answers of
//! test-dev, which the paper reports, are secret), the training split demonstrated.
//!
//! - `val.json`, `train.json`: of `Annotations.zip` from vizwiz.org.
//! - `val/`, `train/`: the pictures.

use std::path::Path;

use anyhow::Result;
use mm1_data::question::Question;
use serde::Deserialize;

use super::benchmark::{Benchmark, BenchmarkItem};
use super::picture::PictureLocation;
use super::reader::BenchmarkFolder;
use crate::metric::Metric;

const LAYOUT: &str = "val.json, train.json, val/ and train/ (the pictures)";

/// Opens the set.
///
/// # Errors
/// A file that is missing or has another form.
pub fn open(root: &Path) -> Result<Benchmark> {
    let folder = BenchmarkFolder::new(root, LAYOUT);
    folder.path("val")?;
    let items = |split: &str| -> Result<Vec<BenchmarkItem>> {
        let entries: Vec<VizWizQuestion> = folder.json(&format!("{split}.json"))?;
        let item = |entry: VizWizQuestion| BenchmarkItem {
            question: Question {
                id: format!("vizwiz/{split}/{}", entry.image),
                category: entry.answer_type,
                text: entry.question,
                answers: entry.answers.into_iter().map(|given| given.answer).collect(),
                ..Question::default()
            },
            pictures: vec![PictureLocation::File(root.join(split).join(entry.image))],
        };
        Ok(entries.into_iter().map(item).collect())
    };
    Ok(Benchmark::new("vizwiz", Metric::VqaAccuracy, items("val")?, items("train")?))
}

#[derive(Deserialize)]
struct VizWizQuestion {
    image: String,
    question: String,
    answers: Vec<VizWizAnswer>,
    answer_type: String,
}

#[derive(Deserialize)]
struct VizWizAnswer {
    answer: String,
}
