//! DocVQA (Mathew et al. 2021, arXiv 2007.00398): questions about scanned pages, with one or more accepted
//! answers; scores by the first type of each question. The validation split is asked, the training split
//! demonstrated.
//!
//! - `val_v1.0_withQT.json`, `train_v1.0_withQT.json`: of `spdocvqa_qas.zip`, task 1 of
//!   rrc.cvc.uab.es/?ch=17.
//! - `spdocvqa_images/`: the pages of both splits, of `spdocvqa_images.tar.gz`.

use std::path::Path;

use anyhow::Result;
use mm1_data::question::Question;
use serde::Deserialize;

use super::benchmark::{Benchmark, BenchmarkItem};
use super::picture::PictureLocation;
use super::reader::BenchmarkFolder;
use crate::metric::Metric;

const LAYOUT: &str =
    "val_v1.0_withQT.json, train_v1.0_withQT.json and spdocvqa_images/ (the pages of both splits)";

/// Opens the set.
///
/// # Errors
/// A file that is missing or has another form.
pub fn open(root: &Path) -> Result<Benchmark> {
    let folder = BenchmarkFolder::new(root, LAYOUT);
    let pages = folder.path("spdocvqa_images")?;
    let items = |split: &str| -> Result<Vec<BenchmarkItem>> {
        let DocVqaFile { data } = folder.json(&format!("{split}_v1.0_withQT.json"))?;
        let item = |entry: DocVqaQuestion| {
            // `documents/PAGE.png`: the folder had another name once.
            let page = entry.image.rsplit('/').next().unwrap_or_default();
            BenchmarkItem {
                pictures: vec![PictureLocation::File(pages.join(page))],
                question: Question {
                    id: format!("docvqa/{split}/{}", entry.question_id),
                    category: entry.question_types.into_iter().next().unwrap_or_default(),
                    text: entry.question,
                    answers: entry.answers,
                    ..Question::default()
                },
            }
        };
        Ok(data.into_iter().map(item).collect())
    };
    Ok(Benchmark::new("docvqa", Metric::Anls, items("val")?, items("train")?))
}

#[derive(Deserialize)]
struct DocVqaFile {
    data: Vec<DocVqaQuestion>,
}

#[derive(Deserialize)]
struct DocVqaQuestion {
    #[serde(rename = "questionId")]
    question_id: u64,
    question: String,
    question_types: Vec<String>,
    image: String,
    answers: Vec<String>,
}
