//! ScienceQA-IMG (Lu et al. 2022, arXiv 2209.09513): the questions of school science that have a picture,
//! with options, a context, and a lecture with its solution as the way to the answer; scores by subject. The
//! test split is asked, the training split demonstrated.
//!
//! - `problems.json`, `pid_splits.json`: of github.com/lupantech/ScienceQA, `data/scienceqa`.
//! - `images/test/ID/image.png`, `images/train/ID/image.png`: as its `tools/download.sh` unpacks them.

use std::collections::BTreeMap;
use std::path::Path;

use anyhow::{Context as _, Result};
use mm1_data::question::Question;
use serde::Deserialize;

use super::benchmark::{Benchmark, BenchmarkItem};
use super::picture::PictureLocation;
use super::reader::BenchmarkFolder;
use crate::metric::Metric;
use crate::template::letter;

const LAYOUT: &str = "problems.json, pid_splits.json, images/test/ and images/train/ (ID/image.png)";

/// Opens the set.
///
/// # Errors
/// A file that is missing or has another form; a problem of a split that is not there.
pub fn open(root: &Path) -> Result<Benchmark> {
    let folder = BenchmarkFolder::new(root, LAYOUT);
    folder.path("images/test")?;
    let mut problems: BTreeMap<String, ScienceQaProblem> = folder.json("problems.json")?;
    let splits: BTreeMap<String, Vec<String>> = folder.json("pid_splits.json")?;
    let mut items = |split: &str| -> Result<Vec<BenchmarkItem>> {
        let ids = splits.get(split).with_context(|| format!("pid_splits.json has no split {split:?}"))?;
        let mut items = Vec::new();
        for id in ids {
            let problem =
                problems.remove(id).with_context(|| format!("problems.json has no problem {id}"))?;
            if let Some(picture) = &problem.image {
                let picture = root.join("images").join(split).join(id).join(picture);
                let question = problem.question(format!("scienceqa/{split}/{id}"));
                items.push(BenchmarkItem { question, pictures: vec![PictureLocation::File(picture)] });
            }
        }
        Ok(items)
    };
    Ok(Benchmark::new("scienceqa", Metric::Letter, items("test")?, items("train")?))
}

#[derive(Deserialize)]
struct ScienceQaProblem {
    question: String,
    choices: Vec<String>,
    answer: usize,
    hint: String,
    image: Option<String>,
    subject: String,
    lecture: String,
    solution: String,
}

impl ScienceQaProblem {
    fn question(self, id: String) -> Question {
        Question {
            id,
            category: self.subject,
            text: if self.hint.is_empty() {
                self.question
            } else {
                format!("{}\n{}", self.hint, self.question)
            },
            answers: vec![letter(self.answer)],
            choices: self.choices,
            reasoning: [self.lecture, self.solution].join(" ").trim().to_owned(),
            ..Question::default()
        }
    }
}
