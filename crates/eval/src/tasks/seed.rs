//! SEED-Bench (Li et al. 2023, arXiv 2307.16125), its questions about pictures: four options, scores by kind.
//! Those about videos are not asked. There is no training split, so other questions are demonstrated.
//!
//! - `SEED-Bench.json`, `SEED-Bench-image/`: of huggingface.co/datasets/AILab-CVC/SEED-Bench; the pictures'
//!   names have no ending.

use std::collections::BTreeMap;
use std::path::Path;

use anyhow::{Context as _, Result};
use mm1_data::question::Question;
use serde::Deserialize;

use super::benchmark::{Benchmark, BenchmarkItem};
use super::picture::PictureLocation;
use super::reader::BenchmarkFolder;
use crate::metric::Metric;

const LAYOUT: &str =
    "SEED-Bench.json and SEED-Bench-image/ (of huggingface.co/datasets/AILab-CVC/SEED-Bench)";

/// Opens the set.
///
/// # Errors
/// A file that is missing or has another form; a kind of question without a name.
pub fn open(root: &Path) -> Result<Benchmark> {
    let folder = BenchmarkFolder::new(root, LAYOUT);
    let pictures = folder.path("SEED-Bench-image")?;
    let SeedFile { questions, question_type } = folder.json("SEED-Bench.json")?;
    let names: BTreeMap<u64, String> = question_type.into_iter().map(|(name, kind)| (kind, name)).collect();
    let of_pictures = questions.into_iter().filter(|entry| entry.data_type == "image");
    let item = |entry: SeedQuestion| {
        let kind = names.get(&entry.question_type_id);
        let unnamed = || format!("SEED-Bench.json: question_type has no {}", entry.question_type_id);
        Ok(BenchmarkItem {
            pictures: vec![PictureLocation::File(pictures.join(&entry.data_id))],
            question: Question {
                id: format!("seed/{}", entry.question_id),
                category: kind.with_context(unnamed)?.clone(),
                text: entry.question,
                answers: vec![entry.answer],
                choices: vec![entry.choice_a, entry.choice_b, entry.choice_c, entry.choice_d],
                ..Question::default()
            },
        })
    };
    let tests = of_pictures.map(item).collect::<Result<_>>()?;
    Ok(Benchmark::of_tests("seed", Metric::Letter, tests))
}

#[derive(Deserialize)]
struct SeedFile {
    questions: Vec<SeedQuestion>,
    /// The number of each kind.
    question_type: BTreeMap<String, u64>,
}

#[derive(Deserialize)]
struct SeedQuestion {
    question_id: String,
    question_type_id: u64,
    /// `image` or `video`.
    data_type: String,
    /// The picture.
    data_id: String,
    question: String,
    choice_a: String,
    choice_b: String,
    choice_c: String,
    choice_d: String,
    /// A letter.
    answer: String,
}
