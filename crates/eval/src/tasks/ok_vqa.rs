//! OK-VQA (Marino et al. 2019, arXiv 1906.00067): questions that need knowledge beyond the picture; ten
//! answers, scores by kind of knowledge. The validation split is asked, the training split demonstrated.
//!
//! An answer is accepted as people wrote it (`raw_answer`). The set's `answer` is cut to its stem (`race` for
//! `racing`), which a model can't know, so papers that use it stem their model's words too.
//!
//! - `OpenEnded_mscoco_{val,train}2014_questions.json`, `mscoco_{val,train}2014_annotations.json`: from
//!   okvqa.allenai.org.
//! - `val2014/`, `train2014/`: COCO's pictures of 2014; links to those of `coco` will do.

use std::path::Path;

use anyhow::Result;

use super::benchmark::Benchmark;
use super::vqav2::about_coco;

const LAYOUT: &str = "OpenEnded_mscoco_{val,train}2014_questions.json, \
    mscoco_{val,train}2014_annotations.json, val2014/ and train2014/ (COCO's pictures)";

/// Opens the set.
///
/// # Errors
/// A file that is missing or has another form; a question without its answers.
pub fn open(root: &Path) -> Result<Benchmark> {
    about_coco(root, ("ok-vqa", ""), LAYOUT)
}
