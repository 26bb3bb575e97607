//! COCO captions (Chen et al. 2015, arXiv 1504.00325) in Karpathy's split: 5,000 test pictures with five
//! captions each are asked, those of `train` and `restval` demonstrated.
//!
//! - `dataset_coco.json`: of Karpathy's `caption_datasets.zip`.
//! - `train2014/`, `val2014/`: COCO's pictures of 2014. The test pictures are all in `val2014/`.

use std::path::{Path, PathBuf};

use anyhow::Result;
use mm1_data::question::Question;
use serde::Deserialize;

use super::benchmark::{Benchmark, BenchmarkItem};
use super::picture::PictureLocation;
use super::reader::BenchmarkFolder;
use crate::metric::Metric;

const LAYOUT: &str = "dataset_coco.json (Karpathy's split), val2014/ and train2014/ (COCO's pictures)";

/// Opens the set.
///
/// # Errors
/// A file that is missing or has another form.
pub fn open(root: &Path) -> Result<Benchmark> {
    let folder = BenchmarkFolder::new(root, LAYOUT);
    folder.path("val2014")?;
    karpathy("coco", &folder, root)
}

/// A split as Karpathy wrote it, with the pictures below `pictures`.
pub(super) fn karpathy(name: &str, folder: &BenchmarkFolder, pictures: &Path) -> Result<Benchmark> {
    let KarpathyFile { images } = folder.json(&format!("dataset_{name}.json"))?;
    let (mut tests, mut demonstrations) = (Vec::new(), Vec::new());
    for image in images {
        let (split, items) = match image.split {
            KarpathySplit::Test => ("test", &mut tests),
            KarpathySplit::Train | KarpathySplit::Restval => ("train", &mut demonstrations),
            KarpathySplit::Val => continue,
        };
        items.push(BenchmarkItem {
            question: Question {
                id: format!("{name}/{split}/{}", image.filename),
                category: "caption".to_owned(),
                answers: image.sentences.into_iter().map(|caption| caption.raw.trim().to_owned()).collect(),
                ..Question::default()
            },
            pictures: vec![PictureLocation::File(pictures.join(image.filepath).join(image.filename))],
        });
    }
    Ok(Benchmark::new(name, Metric::Cider, tests, demonstrations))
}

#[derive(Deserialize)]
struct KarpathyFile {
    images: Vec<KarpathyPicture>,
}

#[derive(Deserialize)]
struct KarpathyPicture {
    split: KarpathySplit,
    /// Where COCO has the picture; Flickr30k has but one folder.
    #[serde(default)]
    filepath: PathBuf,
    filename: String,
    sentences: Vec<KarpathyCaption>,
}

/// `val` is for choosing a model; `restval` is what COCO's validation split has beyond it and `test`, and is
/// trained on.
#[derive(Deserialize)]
#[serde(rename_all = "lowercase")]
enum KarpathySplit {
    Train,
    Restval,
    Val,
    Test,
}

#[derive(Deserialize)]
struct KarpathyCaption {
    raw: String,
}
