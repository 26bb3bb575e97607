//! POPE (Li et al. 2023, arXiv 2305.10355): is there such an object in the picture? The objects that are not
//! there are drawn at random, or are the most frequent ones, or those that often go with what is there;
//! scores for each. There is no training split, so other questions are demonstrated.
//! [`crate::score::yes_no::figures`] has F1 and the share of `yes`.
//!
//! - `coco_pope_random.json`, `coco_pope_popular.json`, `coco_pope_adversarial.json`: of
//!   github.com/RUCAIBox/POPE, `output/coco`.
//! - `val2014/`: COCO's pictures of 2014; a link to those of `coco` will do.

use std::path::Path;

use anyhow::Result;
use mm1_data::question::Question;
use serde::Deserialize;

use super::benchmark::{Benchmark, BenchmarkItem};
use super::picture::PictureLocation;
use super::reader::BenchmarkFolder;
use crate::metric::Metric;

const LAYOUT: &str = "coco_pope_random.json, coco_pope_popular.json, coco_pope_adversarial.json and val2014/";

/// Opens the set.
///
/// # Errors
/// A file that is missing or has another form.
pub fn open(root: &Path) -> Result<Benchmark> {
    let folder = BenchmarkFolder::new(root, LAYOUT);
    let pictures = folder.path("val2014")?;
    let mut tests = Vec::new();
    for kind in ["random", "popular", "adversarial"] {
        let entries: Vec<PopeLine> = folder.lines(&format!("coco_pope_{kind}.json"))?;
        tests.extend(entries.into_iter().map(|entry| BenchmarkItem {
            question: Question {
                id: format!("pope/{kind}/{}", entry.question_id),
                category: kind.to_owned(),
                text: entry.text,
                answers: vec![entry.label],
                ..Question::default()
            },
            pictures: vec![PictureLocation::File(pictures.join(entry.image))],
        }));
    }
    Ok(Benchmark::of_tests("pope", Metric::YesNo, tests))
}

#[derive(Deserialize)]
struct PopeLine {
    question_id: u64,
    image: String,
    text: String,
    /// `yes` or `no`.
    label: String,
}
