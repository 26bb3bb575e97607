//! TextCaps (Sidorov et al. 2020, arXiv 2003.12462): captions of pictures with text in them. The validation
//! split is asked, the training split demonstrated.
//!
//! - `TextCaps_0.1_val.json`, `TextCaps_0.1_train.json`: from textvqa.org/textcaps; an entry for each
//!   caption.
//! - `train_images/`: TextVQA's `train_val_images.zip`, with the pictures of both splits.

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
    "TextCaps_0.1_val.json, TextCaps_0.1_train.json and train_images/ (TextVQA's pictures of both splits)";

/// Opens the set.
///
/// # Errors
/// A file that is missing or has another form.
pub fn open(root: &Path) -> Result<Benchmark> {
    let folder = BenchmarkFolder::new(root, LAYOUT);
    let pictures = folder.path("train_images")?;
    let items = |split: &str| -> Result<Vec<BenchmarkItem>> {
        let TextCapsFile { data } = folder.json(&format!("TextCaps_0.1_{split}.json"))?;
        // The captions of a picture need not stand side by side.
        let (mut items, mut seen) = (Vec::new(), BTreeMap::new());
        for TextCapsCaption { image_id, caption_str } in data {
            let at = *seen.entry(image_id.clone()).or_insert(items.len());
            if at == items.len() {
                items.push(BenchmarkItem {
                    question: Question {
                        id: format!("textcaps/{split}/{image_id}"),
                        category: "caption".to_owned(),
                        ..Question::default()
                    },
                    pictures: vec![PictureLocation::File(pictures.join(format!("{image_id}.jpg")))],
                });
            }
            items[at].question.answers.push(caption_str.trim().to_owned());
        }
        Ok(items)
    };
    Ok(Benchmark::new("textcaps", Metric::Cider, items("val")?, items("train")?))
}

#[derive(Deserialize)]
struct TextCapsFile {
    data: Vec<TextCapsCaption>,
}

#[derive(Deserialize)]
struct TextCapsCaption {
    image_id: String,
    caption_str: String,
}
