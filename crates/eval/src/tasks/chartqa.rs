//! ChartQA (Masry et al. 2022, arXiv 2203.10244): questions about charts, written by people or made from
//! their captions; scores for each, and in all their mean, since both have 1,250. The test split is asked,
//! the training split demonstrated.
//!
//! - `test/test_human.json`, `test/test_augmented.json`, `test/png/`, and the same of `train`: of the
//!   `ChartQA Dataset` from github.com/vis-nlp/ChartQA.

use std::path::Path;

use anyhow::Result;
use mm1_data::question::Question;
use serde::Deserialize;

use super::benchmark::{Benchmark, BenchmarkItem};
use super::picture::PictureLocation;
use super::reader::BenchmarkFolder;
use crate::metric::Metric;

const LAYOUT: &str =
    "test/test_human.json, test/test_augmented.json, test/png/, and the same of train (of ChartQA Dataset)";

/// Opens the set.
///
/// # Errors
/// A file that is missing or has another form.
pub fn open(root: &Path) -> Result<Benchmark> {
    let folder = BenchmarkFolder::new(root, LAYOUT);
    folder.path("test/png")?;
    let items = |split: &str| -> Result<Vec<BenchmarkItem>> {
        let mut items = Vec::new();
        for kind in ["human", "augmented"] {
            let entries: Vec<ChartQuestion> = folder.json(&format!("{split}/{split}_{kind}.json"))?;
            items.extend(entries.into_iter().enumerate().map(|(i, entry)| BenchmarkItem {
                question: Question {
                    id: format!("chartqa/{split}/{kind}/{i}"),
                    category: kind.to_owned(),
                    text: entry.query,
                    answers: vec![entry.label],
                    ..Question::default()
                },
                pictures: vec![PictureLocation::File(root.join(split).join("png").join(entry.imgname))],
            }));
        }
        Ok(items)
    };
    Ok(Benchmark::new("chartqa", Metric::RelaxedAccuracy, items("test")?, items("train")?))
}

#[derive(Deserialize)]
struct ChartQuestion {
    imgname: String,
    query: String,
    label: String,
}
