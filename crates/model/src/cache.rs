//! The keys and values of what has been read (KV cache), by sequence.

use mm1_kernels::attention::KvCache;

use crate::ops::{Heads, Rope};

/// What several sequences of one network have read so far; see [`crate::Mm1::cache`]. Sequences are numbered
/// from 0 and independent of one another.
#[derive(Clone, Debug)]
pub struct Cache {
    /// For each layer those of each sequence.
    pub(crate) layers: Vec<Vec<KvCache>>,
    /// Positions of each sequence: as many as each of its layers holds.
    pub(crate) lens: Vec<usize>,
    /// It reaches at least as far as the longest sequence.
    pub(crate) rope: Rope,
}

impl Cache {
    /// Empty, for `sequences` sequences of a decoder of so many `layers`.
    pub(crate) fn new(layers: usize, heads: Heads, rope: Rope, sequences: usize) -> Self {
        Self { layers: vec![vec![KvCache::new(heads); sequences]; layers], lens: vec![0; sequences], rope }
    }

    /// Number of sequences.
    pub fn sequences(&self) -> usize {
        self.lens.len()
    }

    /// Positions that sequence `sequence` holds.
    pub fn len(&self, sequence: usize) -> usize {
        self.lens[sequence]
    }

    /// Whether there is no sequence.
    pub fn is_empty(&self) -> bool {
        self.lens.is_empty()
    }

    /// Keeps the sequences for which `keep` is true; those behind a removed one move up.
    pub fn retain(&mut self, keep: impl Fn(usize) -> bool) {
        fn sift<T>(items: &mut Vec<T>, keep: &impl Fn(usize) -> bool) {
            let mut index = 0..items.len();
            items.retain(|_| index.next().is_some_and(keep));
        }
        for layer in &mut self.layers {
            sift(layer, &keep);
        }
        sift(&mut self.lens, &keep);
    }

    /// Adds a sequence that has read what `sequence` has, and gives its number: several answers to one
    /// prompt.
    pub fn fork(&mut self, sequence: usize) -> usize {
        // Keys and values are copied: sharing those of a prompt would need pages of positions behind a table.
        for layer in &mut self.layers {
            layer.push(layer[sequence].clone());
        }
        self.lens.push(self.lens[sequence]);
        self.lens.len() - 1
    }
}
