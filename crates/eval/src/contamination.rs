//! Whether training has seen what is asked: pictures by what they show and by a perceptual hash, texts by
//! their words.

use std::collections::{BTreeMap, HashSet};
use std::f64::consts::PI;

use anyhow::Result;
use image::imageops::{FilterType, resize};
use image::{ImageBuffer, Luma};
use mm1_data::document::{Document, Image, Picture, Segment};
use mm1_data::image::{PictureKey, PictureSet, open};
use mm1_data::question::{Question, normalised_question};
use serde::{Deserialize, Serialize};
use xxhash_rust::xxh3::{Xxh3, xxh3_64};

use crate::task::Task;

/// Bits of 64 in which the hashes of two renderings of one picture may differ.
const NEAR: u32 = 4;
/// The perceptual hash of a picture of one colour.
const FLAT: u64 = 0;
/// Words that two texts share in a row only where one was copied (Brown et al. 2020, appendix C).
const GRAM: usize = 13;

/// Hashes of training documents.
#[derive(Default)]
pub struct TrainingHashes {
    documents: u64,
    /// Of each picture's pixels.
    pixels: HashSet<u64>,
    /// By which a picture is found again in another format or size.
    pictures: PictureSet,
    /// Perceptual ones, as many as pictures: every question is compared with all of them.
    perceptual: Vec<u64>,
    /// Of all 13 words in a row.
    texts: HashSet<u64>,
    /// Of each text as a whole, normalised: short questions are found by them.
    whole_texts: HashSet<u64>,
}

/// Test items that training has seen, as far as its documents were hashed.
#[derive(Clone, Debug, Default, PartialEq, Eq, Serialize, Deserialize)]
pub struct Contamination {
    /// Training documents that were hashed.
    pub documents: u64,
    /// Test items that were compared with them.
    pub items: u64,
    /// Items with a picture that is the same, in whatever file format and size.
    pub same_pictures: u64,
    /// Items with a picture whose perceptual hash differs in 4 bits of 64 at most, the same ones among them.
    pub near_pictures: u64,
    /// Items whose question or an answer of at least 13 words, or of which 13 words in a row, are in a
    /// training text; without pictures also those whose whole question is one.
    pub texts: u64,
    /// Ids of the first 20 of all these, each with what was seen.
    pub examples: BTreeMap<String, String>,
}

/// Examples that are named.
const NAMED: usize = 20;

impl TrainingHashes {
    /// Adds a training document; a damaged picture is left out, as training leaves out its document.
    pub fn add(&mut self, document: &Document) {
        self.documents += 1;
        for segment in &document.segments {
            match segment {
                Segment::Text { text, .. } => {
                    self.texts.extend(grams(text));
                    self.whole_texts.extend(whole(text));
                }
                Segment::Image(image) => {
                    if let Ok(picture) = open(image) {
                        self.pixels.insert(pixel_hash(&picture));
                        // What has no edges is told by its pixels alone.
                        if let Ok(key) = PictureKey::of(&picture.clone().into())
                            && !key.is_blank()
                        {
                            self.pictures.number(key);
                        }
                        self.perceptual.push(perceptual_hash(&picture));
                    }
                }
                Segment::Token { .. } => {}
            }
        }
    }

    /// Compares the first `n` test items of a task.
    pub fn check(&self, task: &dyn Task, n: u64) -> Contamination {
        let mut found = Contamination { documents: self.documents, ..Contamination::default() };
        for index in 0..task.tests().min(n) {
            // An item that can't be read is skipped by the evaluation, and named there.
            let Ok(question) = task.test(index) else { continue };
            found.items += 1;
            let (same, near) = self.pictures(&question.pictures).unwrap_or_default();
            let copied = |text: &str| grams(text).iter().any(|gram| self.texts.contains(gram));
            let seen = |hash: u64| self.whole_texts.contains(&hash);
            let asked = question.pictures.is_empty() && whole(&question.text).is_some_and(seen);
            let text = texts(&question).any(copied) || asked;
            found.same_pictures += u64::from(same);
            found.near_pictures += u64::from(near);
            found.texts += u64::from(text);
            let what = [(same, "same picture"), (near && !same, "similar picture"), (text, "text")];
            let what: Vec<&str> = what.into_iter().filter(|(seen, _)| *seen).map(|(_, what)| what).collect();
            if !what.is_empty() && found.examples.len() < NAMED {
                found.examples.insert(question.id, what.join(", "));
            }
        }
        found
    }

    fn pictures(&self, pictures: &[Image]) -> Result<(bool, bool)> {
        let (mut same, mut near) = (false, false);
        for image in pictures {
            let picture = open(image)?;
            // Of its pixels, as of those of training: a file would be decoded once more.
            let key = PictureKey::of(&picture.clone().into())?;
            same |= self.pixels.contains(&pixel_hash(&picture));
            same |= !key.is_blank() && self.pictures.find(&key).is_some();
            let hash = perceptual_hash(&picture);
            // A picture of one colour looks like every other such picture.
            near |= hash != FLAT && self.perceptual.iter().any(|seen| (seen ^ hash).count_ones() <= NEAR);
        }
        Ok((same, near || same))
    }
}

fn texts(question: &Question) -> impl Iterator<Item = &str> {
    std::iter::once(&question.text).chain(&question.answers).map(String::as_str)
}

/// Hash of a text without differences of case, spaces and final punctuation. None for an empty one.
fn whole(text: &str) -> Option<u64> {
    let text = normalised_question(text);
    (!text.is_empty()).then(|| xxh3_64(text.as_bytes()))
}

/// Hashes of 13 words in a row, without case and punctuation.
fn grams(text: &str) -> Vec<u64> {
    let words: Vec<String> = text
        .split(|c: char| !c.is_alphanumeric())
        .filter(|word| !word.is_empty())
        .map(str::to_lowercase)
        .collect();
    words.windows(GRAM).map(|gram| xxh3_64(gram.join(" ").as_bytes())).collect()
}

/// Hash of a picture's size and bytes.
pub(crate) fn pixel_hash(picture: &Picture) -> u64 {
    let mut hash = Xxh3::new();
    hash.update(&picture.width.to_le_bytes());
    hash.update(&picture.height.to_le_bytes());
    hash.update(&picture.rgb);
    hash.digest()
}

/// The perceptual hash (pHash): of the 64 lowest frequencies of 32 x 32 grey pixels, whether each is above
/// their median. Size, brightness and compression hardly change it.
fn perceptual_hash(picture: &Picture) -> u64 {
    const SIDE: usize = 32;
    let level = |p: &[u8]| (299 * u32::from(p[0]) + 587 * u32::from(p[1]) + 114 * u32::from(p[2])) / 1000;
    let grey: Vec<u8> = picture.rgb.chunks_exact(3).map(|p| level(p) as u8).collect();
    let Some(grey) = ImageBuffer::<Luma<u8>, _>::from_raw(picture.width, picture.height, grey) else {
        return FLAT;
    };
    let small = resize(&grey, SIDE as u32, SIDE as u32, FilterType::Triangle);
    let wave = |k: usize, i: usize| (PI * k as f64 * (i as f64 + 0.5) / SIDE as f64).cos();
    let waves: [[f64; SIDE]; 8] = std::array::from_fn(|k| std::array::from_fn(|i| wave(k, i)));
    let frequency = |at: usize| -> f64 {
        let term = |(x, y, level): (u32, u32, &Luma<u8>)| {
            f64::from(level[0]) * waves[at % 8][x as usize] * waves[at / 8][y as usize]
        };
        small.enumerate_pixels().map(term).sum()
    };
    let frequencies: Vec<f64> = (0..64).map(frequency).collect();
    let mut sorted = frequencies.clone();
    sorted.sort_by(f64::total_cmp);
    // What is left of a picture of one colour is rounding.
    if sorted[62] - sorted[0] < 1.0 {
        return FLAT;
    }
    frequencies.iter().fold(0, |hash, &f| hash << 1 | u64::from(f > sorted[32]))
}
