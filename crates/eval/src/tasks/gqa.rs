//! GQA (Hudson and Manning 2019, arXiv 1902.09506): compositional questions with one answer; scores by
//! structure. The balanced test-dev split is asked, the balanced validation split demonstrated.
//!
//! The score is an exact match in the normal form of VQA: the official evaluator compares lower-case words,
//! and what a model writes may begin with a capital or end with a full stop.
//!
//! - `testdev_balanced_questions.json`, `val_balanced_questions.json`: of `questions1.2.zip` from
//!   cs.stanford.edu/people/dorarad/gqa.
//! - `images/`: the pictures.

use std::collections::BTreeMap;
use std::path::Path;

use anyhow::Result;
use mm1_data::question::Question;
use serde::Deserialize;

use super::benchmark::{Benchmark, BenchmarkItem};
use super::picture::PictureLocation;
use super::reader::BenchmarkFolder;
use crate::metric::Metric;

const LAYOUT: &str =
    "testdev_balanced_questions.json, val_balanced_questions.json (of questions1.2.zip) and images/";

/// Opens the set.
///
/// # Errors
/// A file that is missing or has another form.
pub fn open(root: &Path) -> Result<Benchmark> {
    let folder = BenchmarkFolder::new(root, LAYOUT);
    let pictures = folder.path("images")?;
    let items = |split: &str| -> Result<Vec<BenchmarkItem>> {
        let entries: BTreeMap<String, GqaQuestion> =
            folder.json(&format!("{split}_balanced_questions.json"))?;
        let item = |(id, entry): (String, GqaQuestion)| BenchmarkItem {
            question: Question {
                id: format!("gqa/{split}/{id}"),
                category: entry.types.structural,
                text: entry.question,
                answers: vec![entry.answer],
                ..Question::default()
            },
            pictures: vec![PictureLocation::File(pictures.join(format!("{}.jpg", entry.image_id)))],
        };
        Ok(entries.into_iter().map(item).collect())
    };
    Ok(Benchmark::new("gqa", Metric::VqaAccuracy, items("testdev")?, items("val")?))
}

#[derive(Deserialize)]
#[serde(rename_all = "camelCase")]
struct GqaQuestion {
    image_id: String,
    question: String,
    answer: String,
    types: GqaTypes,
}

#[derive(Deserialize)]
struct GqaTypes {
    /// `verify`, `query`, `choose`, `logical` or `compare`.
    structural: String,
}
