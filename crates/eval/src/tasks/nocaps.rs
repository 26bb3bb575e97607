//! NoCaps (Agrawal et al. 2019, arXiv 1812.08658): 4,500 validation pictures with ten captions each; scores
//! by domain. There is no training split, so other validation pictures are demonstrated.
//!
//! - `nocaps_val_4500_captions.json`: from nocaps.org.
//! - `images/`: the validation pictures, of Open Images, named as in the file.

use std::collections::BTreeMap;
use std::path::Path;

use anyhow::{Context as _, Result};
use mm1_data::question::Question;
use serde::Deserialize;

use super::benchmark::{Benchmark, BenchmarkItem};
use super::picture::PictureLocation;
use super::reader::BenchmarkFolder;
use crate::metric::Metric;

const FILE: &str = "nocaps_val_4500_captions.json";
const LAYOUT: &str = "nocaps_val_4500_captions.json and images/ (the validation pictures)";

/// Opens the set.
///
/// # Errors
/// A file that is missing or has another form.
pub fn open(root: &Path) -> Result<Benchmark> {
    let folder = BenchmarkFolder::new(root, LAYOUT);
    let pictures = folder.path("images")?;
    let NocapsFile { images, annotations } = folder.json(FILE)?;
    let mut captions: BTreeMap<u64, Vec<String>> = BTreeMap::new();
    for NocapsCaption { image_id, caption } in annotations {
        captions.entry(image_id).or_default().push(caption.trim().to_owned());
    }
    let item = |image: NocapsPicture| {
        let captions = captions.remove(&image.id);
        Ok(BenchmarkItem {
            question: Question {
                answers: captions
                    .with_context(|| format!("{FILE}: no caption of the picture {}", image.id))?,
                id: format!("nocaps/val/{}", image.id),
                category: image.domain,
                ..Question::default()
            },
            pictures: vec![PictureLocation::File(pictures.join(image.file_name))],
        })
    };
    let tests = images.into_iter().map(item).collect::<Result<_>>()?;
    Ok(Benchmark::of_tests("nocaps", Metric::Cider, tests))
}

#[derive(Deserialize)]
struct NocapsFile {
    images: Vec<NocapsPicture>,
    annotations: Vec<NocapsCaption>,
}

#[derive(Deserialize)]
struct NocapsPicture {
    id: u64,
    file_name: String,
    /// `in-domain`, `near-domain` or `out-domain`.
    domain: String,
}

#[derive(Deserialize)]
struct NocapsCaption {
    image_id: u64,
    caption: String,
}
