//! Flickr30k (Young et al. 2014) in Karpathy's split: 1,000 test pictures with five captions each are asked,
//! the training ones demonstrated.
//!
//! - `dataset_flickr30k.json`: of Karpathy's `caption_datasets.zip`.
//! - `flickr30k-images/`: the pictures.

use std::path::Path;

use anyhow::Result;

use super::benchmark::Benchmark;
use super::coco::karpathy;
use super::reader::BenchmarkFolder;

const LAYOUT: &str = "dataset_flickr30k.json (Karpathy's split) and flickr30k-images/";

/// Opens the set.
///
/// # Errors
/// A file that is missing or has another form.
pub fn open(root: &Path) -> Result<Benchmark> {
    let folder = BenchmarkFolder::new(root, LAYOUT);
    karpathy("flickr30k", &folder, &folder.path("flickr30k-images")?)
}
