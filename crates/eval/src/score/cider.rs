//! CIDEr (Vedantam et al. 2015) as pycocoevalcap computes it and papers report it: what that package calls CIDEr is the
//! paper's **CIDEr-D** (clipped counts, Gaussian length penalty with sigma 6), so both names are this one number here.
//!
//! For each length n = 1..4, the n-grams of a caption are weighted by count × idf over the reference corpus; the score is the
//! cosine of prediction and reference with the prediction's weights clipped to the reference's, averaged over n and over
//! the references, × 10. We report that × 100, as papers do: a perfect caption scores at most 1000, good COCO captions 100 to 140.
//!
//! The idf belongs to the set of test items: an n-gram that is in every item's references weighs nothing, and with a single item
//! every weight is log 1 = 0, so the score is 0. Scores over different test sets are not comparable.

use std::collections::HashMap;

use anyhow::{Result, ensure};

use super::ptb;

/// Longest n-gram.
const ORDERS: usize = 4;
/// Width of the length penalty, in bigrams.
const SIGMA: f64 = 6.0;
/// pycocoevalcap's factor 10, times 100 for the unit of papers.
const SCALE: f64 = 1000.0;

/// Up to four word ids; 0 fills the unused end.
type Gram = [u32; ORDERS];

/// The references of a test set, ready to score any prediction.
pub struct Cider {
    ids: HashMap<String, u32>,
    /// In the references of how many items each n-gram is found.
    items_with: HashMap<Gram, u32>,
    log_items: f64,
    references: Vec<Vec<Vector>>,
}

/// A caption's weighted n-grams, sorted, with the norm of each order.
struct Vector {
    weights: Vec<(Gram, f64)>,
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
        let mut cider = Self {
            ids: HashMap::new(),
            items_with: HashMap::new(),
            log_items: (references.len() as f64).ln(),
            references: Vec::new(),
        };
        let mut counted = Vec::with_capacity(references.len());
        for (item, captions) in references.iter().enumerate() {
            ensure!(!captions.is_empty(), "CIDEr: test item {item} has no reference caption");
            let captions: Vec<_> = captions.iter().map(|c| cider.learn(c)).collect();
            let mut present: Vec<Gram> = captions.iter().flatten().map(|&(gram, _)| gram).collect();
            present.sort_unstable();
            present.dedup();
            for gram in present {
                *cider.items_with.entry(gram).or_default() += 1;
            }
            counted.push(captions);
        }
        cider.references =
            counted.into_iter().map(|c| c.into_iter().map(|counts| cider.vector(counts)).collect()).collect();
        Ok(cider)
    }

    /// CIDEr × 100 of `prediction` for the test item `item`.
    ///
    /// # Panics
    /// When `item` is not below the number of items.
    pub fn score(&self, item: usize, prediction: &str) -> f64 {
        let mut unknown = HashMap::new();
        let ids: Vec<u32> = ptb::words(prediction)
            .into_iter()
            .map(|word| match self.ids.get(&word) {
                Some(&id) => id,
                None => {
                    let fresh = (self.ids.len() + unknown.len() + 1) as u32;
                    *unknown.entry(word).or_insert(fresh)
                }
            })
            .collect();
        let prediction = self.vector(count_grams(&ids));
        let references = &self.references[item];
        let sum: f64 = references.iter().map(|r| similarity(&prediction, r)).sum();
        SCALE * sum / (ORDERS * references.len()) as f64
    }

    /// Gives every word of a reference an id and counts its n-grams.
    fn learn(&mut self, caption: &str) -> Vec<(Gram, u32)> {
        let ids: Vec<u32> = ptb::words(caption)
            .into_iter()
            .map(|word| {
                let fresh = self.ids.len() as u32 + 1;
                *self.ids.entry(word).or_insert(fresh)
            })
            .collect();
        count_grams(&ids)
    }

    fn vector(&self, counts: Vec<(Gram, u32)>) -> Vector {
        let mut vector =
            Vector { weights: Vec::with_capacity(counts.len()), norms: [0.0; ORDERS], bigrams: 0 };
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

/// The index of an n-gram's length: 0 for single words.
fn order(gram: &Gram) -> usize {
    gram.iter().filter(|&&id| id != 0).count() - 1
}

/// Every n-gram with its count, sorted.
fn count_grams(ids: &[u32]) -> Vec<(Gram, u32)> {
    let mut grams: Vec<Gram> = Vec::with_capacity(ids.len() * ORDERS);
    for n in 1..=ORDERS {
        for window in ids.windows(n) {
            let mut gram = [0; ORDERS];
            gram[..n].copy_from_slice(window);
            grams.push(gram);
        }
    }
    grams.sort_unstable();
    grams.chunk_by(|a, b| a == b).map(|same| (same[0], same.len() as u32)).collect()
}

/// The sum over n of the clipped cosines, with the length penalty.
fn similarity(prediction: &Vector, reference: &Vector) -> f64 {
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
