//! CIDEr (Vedantam et al. 2015) as pycocoevalcap computes it and papers report it: what that package calls
//! CIDEr is the paper's **CIDEr-D** (clipped counts, Gaussian length penalty with sigma 6), so both names are
//! this one number here.
//!
//! For each length n = 1..4, the n-grams of a caption are weighted by count × idf over the reference corpus;
//! the score is the cosine of prediction and reference with the prediction's weights clipped to the
//! reference's, averaged over n and over the references, × 10. We report that × 100, as papers do: a perfect
//! caption scores at most 1000, good COCO captions 100 to 140.
//!
//! The idf belongs to the set of test items: an n-gram that is in every item's references weighs nothing, and
//! with a single item every weight is log 1 = 0, so the score is 0. Scores over different test sets are not
//! comparable.

use std::collections::HashMap;

use anyhow::{Result, bail, ensure};
use rayon::prelude::*;
use rustc_hash::FxHashMap;

use super::gram::{self, Ngram, NgramCounts, ORDERS, order};
use super::ptb::PtbTokenizer;

/// Of how many items n-grams are listed before they are added up.
const ITEMS_AT_A_TIME: usize = 4096;
/// Width of the length penalty, in bigrams.
const SIGMA: f64 = 6.0;
/// pycocoevalcap's factor 10, times 100 for the unit of papers.
const SCALE: f64 = 1000.0;

/// The references of a test set, ready to score any prediction.
pub struct Cider {
    words: PtbTokenizer,
    /// Numbers of the references' words, from 1 in the order in which they first come.
    ids: FxHashMap<String, u32>,
    /// In the references of how many items each n-gram is found.
    items_with: FxHashMap<Ngram, u32>,
    log_items: f64,
    references: Vec<Vec<TfIdfVector>>,
}

/// A caption's weighted n-grams, sorted, with the norm of each order.
struct TfIdfVector {
    weights: Vec<(Ngram, f64)>,
    norms: [f64; ORDERS],
    /// The length in the penalty: pycocoevalcap counts bigrams.
    bigrams: u32,
}

impl Cider {
    /// Prepares the references, one list for each test item.
    ///
    /// # Errors
    /// No item, or an item without references.
    pub fn new(references: &[Vec<String>]) -> Result<Self> {
        ensure!(!references.is_empty(), "CIDEr needs at least one test item");
        if let Some(item) = references.iter().position(Vec::is_empty) {
            bail!("CIDEr: test item {item} has no reference caption");
        }
        let (words, mut ids) = (PtbTokenizer::new(), FxHashMap::default());
        let tokenized: Vec<Vec<String>> = references
            .par_iter()
            .map(|captions| captions.iter().map(|c| words.tokenize(c)).collect())
            .collect();
        let numbered: Vec<Vec<Vec<u32>>> = tokenized
            .iter()
            .map(|captions| captions.iter().map(|words| learn(words, &mut ids)).collect())
            .collect();
        let mut cider = Self {
            words,
            ids,
            items_with: count_items(&numbered),
            log_items: (references.len() as f64).ln(),
            references: Vec::new(),
        };
        cider.references = numbered
            .par_iter()
            .map(|captions| captions.iter().map(|ids| cider.vector(gram::count(ids))).collect())
            .collect();
        Ok(cider)
    }

    /// CIDEr × 100 of `prediction` for the test item `item`.
    ///
    /// # Panics
    /// When `item` is not below the number of items.
    pub fn score(&self, item: usize, prediction: &str) -> f64 {
        let mut unknown = HashMap::new();
        let ids: Vec<u32> = self
            .words
            .tokenize(prediction)
            .split_whitespace()
            .map(|word| match self.ids.get(word) {
                Some(&id) => id,
                None => {
                    let fresh = (self.ids.len() + unknown.len() + 1) as u32;
                    *unknown.entry(word.to_owned()).or_insert(fresh)
                }
            })
            .collect();
        let prediction = self.vector(gram::count(&ids));
        let references = &self.references[item];
        let sum: f64 = references.iter().map(|r| similarity(&prediction, r)).sum();
        SCALE * sum / (ORDERS * references.len()) as f64
    }

    fn vector(&self, counts: NgramCounts) -> TfIdfVector {
        let mut vector =
            TfIdfVector { weights: Vec::with_capacity(counts.len()), norms: [0.0; ORDERS], bigrams: 0 };
        for (gram, count) in counts {
            let items = self.items_with.get(&gram).copied().unwrap_or(1);
            let weight = f64::from(count) * (self.log_items - f64::from(items).ln());
            vector.norms[order(&gram)] += weight * weight;
            vector.bigrams += if order(&gram) == 1 { count } else { 0 };
            vector.weights.push((gram, weight));
        }
        vector.norms = vector.norms.map(f64::sqrt);
        vector
    }
}

/// The numbers of words that are separated by spaces; a new word gets the next one.
fn learn(words: &str, ids: &mut FxHashMap<String, u32>) -> Vec<u32> {
    let mut id = |word: &str| match ids.get(word) {
        Some(&id) => id,
        None => {
            let fresh = ids.len() as u32 + 1;
            ids.insert(word.to_owned(), fresh);
            fresh
        }
    };
    words.split_whitespace().map(&mut id).collect()
}

/// In the references of how many items each n-gram is found.
fn count_items(references: &[Vec<Vec<u32>>]) -> FxHashMap<Ngram, u32> {
    let distinct = |captions: &Vec<Vec<u32>>| {
        let mut grams: Vec<Ngram> =
            captions.iter().flat_map(|ids| gram::count(ids)).map(|(gram, _)| gram).collect();
        grams.sort_unstable();
        grams.dedup();
        grams
    };
    let mut items_with = FxHashMap::default();
    for items in references.chunks(ITEMS_AT_A_TIME) {
        let grams: Vec<Vec<Ngram>> = items.par_iter().map(distinct).collect();
        for gram in grams.into_iter().flatten() {
            *items_with.entry(gram).or_default() += 1;
        }
    }
    items_with
}

/// The sum over n of the clipped cosines, with the length penalty.
fn similarity(prediction: &TfIdfVector, reference: &TfIdfVector) -> f64 {
    let mut dots = [0.0; ORDERS];
    for (gram, weight) in &prediction.weights {
        if let Ok(at) = reference.weights.binary_search_by_key(gram, |&(g, _)| g) {
            let target = reference.weights[at].1;
            dots[order(gram)] += weight.min(target) * target;
        }
    }
    let delta = f64::from(prediction.bigrams) - f64::from(reference.bigrams);
    let penalty = (-delta * delta / (2.0 * SIGMA * SIGMA)).exp();
    let cosines = (0..ORDERS).map(|n| match prediction.norms[n] * reference.norms[n] {
        0.0 => 0.0,
        norms => dots[n] / norms,
    });
    penalty * cosines.sum::<f64>()
}
