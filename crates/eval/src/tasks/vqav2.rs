//! VQAv2 (Goyal et al. 2017, arXiv 1612.00837): ten answers to each question, scores by type of answer. The
//! validation split is asked (the answers of test-dev, which the paper reports, are secret), the training
//! split demonstrated.
//!
//! - `v2_OpenEnded_mscoco_{val,train}2014_questions.json`, `v2_mscoco_{val,train}2014_annotations.json`: from
//!   visualqa.org.
//! - `val2014/`, `train2014/`: COCO's pictures of 2014; links to those of `coco` will do.

use std::collections::BTreeMap;
use std::path::Path;

use anyhow::{Context as _, Result, ensure};
use mm1_data::question::Question;
use serde::Deserialize;

use super::benchmark::{Benchmark, BenchmarkItem};
use super::picture::PictureLocation;
use super::reader::BenchmarkFolder;
use crate::metric::Metric;

const LAYOUT: &str = "v2_OpenEnded_mscoco_{val,train}2014_questions.json, \
    v2_mscoco_{val,train}2014_annotations.json, val2014/ and train2014/ (COCO's pictures)";

/// Opens the set.
///
/// # Errors
/// A file that is missing or has another form; a question without its answers.
pub fn open(root: &Path) -> Result<Benchmark> {
    about_coco(root, ("vqav2", "v2_"), LAYOUT)
}

/// A set of questions about COCO's pictures, in files with a prefix.
pub(super) fn about_coco(
    root: &Path,
    (name, prefix): (&str, &str),
    layout: &'static str,
) -> Result<Benchmark> {
    let folder = BenchmarkFolder::new(root, layout);
    folder.path("val2014")?;
    let items = |split| items(name, prefix, split, (&folder, root));
    Ok(Benchmark::new(name, Metric::VqaAccuracy, items("val")?, items("train")?))
}

fn items(
    name: &str,
    prefix: &str,
    split: &str,
    (folder, root): (&BenchmarkFolder, &Path),
) -> Result<Vec<BenchmarkItem>> {
    let VqaQuestionFile { questions } =
        folder.json(&format!("{prefix}OpenEnded_mscoco_{split}2014_questions.json"))?;
    let file = format!("{prefix}mscoco_{split}2014_annotations.json");
    let VqaAnnotationFile { annotations, question_types } = folder.json(&file)?;
    let mut answered: BTreeMap<u64, VqaAnnotation> =
        annotations.into_iter().map(|answered| (answered.question_id, answered)).collect();
    let items = questions.into_iter().map(|entry| {
        let id = entry.question_id;
        let answered =
            answered.remove(&id).with_context(|| format!("{file}: no answers to question {id}"))?;
        let category = question_types.get(&answered.question_type).unwrap_or(&answered.answer_type);
        let picture = format!("{split}2014/COCO_{split}2014_{:012}.jpg", entry.image_id);
        Ok(BenchmarkItem {
            question: Question {
                id: format!("{name}/{split}/{id}"),
                category: category.clone(),
                text: entry.question,
                answers: answered.answers.into_iter().map(|a| a.raw_answer.unwrap_or(a.answer)).collect(),
                ..Question::default()
            },
            pictures: vec![PictureLocation::File(root.join(picture))],
        })
    });
    let items = items.collect::<Result<Vec<_>>>()?;
    ensure!(answered.is_empty(), "{file}: answers to {} questions that are not asked", answered.len());
    Ok(items)
}

#[derive(Deserialize)]
struct VqaQuestionFile {
    questions: Vec<VqaQuestion>,
}

#[derive(Deserialize)]
struct VqaQuestion {
    question_id: u64,
    image_id: u64,
    question: String,
}

#[derive(Deserialize)]
struct VqaAnnotationFile {
    annotations: Vec<VqaAnnotation>,
    /// What the types of OK-VQA stand for.
    #[serde(default)]
    question_types: BTreeMap<String, String>,
}

#[derive(Deserialize)]
struct VqaAnnotation {
    question_id: u64,
    question_type: String,
    /// `yes/no`, `number` or `other`.
    answer_type: String,
    answers: Vec<VqaAnswer>,
}

#[derive(Deserialize)]
struct VqaAnswer {
    answer: String,
    /// OK-VQA: as it was written, before its words were cut to their stems.
    raw_answer: Option<String>,
}
