//! The keys and values of what has been read, by sequence.

use mm1_kernels::attention::KvCache;

use crate::config::Mm1Config;
use crate::ops::{Heads, Rope};

/// What several sequences have read so far. Sequences are numbered from 0 and independent of one another.
#[derive(Clone, Debug)]
pub struct Cache {
    /// For each layer those of each sequence.
    pub(crate) layers: Vec<Vec<KvCache>>,
    pub(crate) lens: Vec<usize>,
    pub(crate) rope: Rope,
    heads: Heads,
}

impl Cache {
    /// Empty, for `sequences` sequences of a network of this shape.
    pub fn new(config: &Mm1Config, sequences: usize) -> Self {
        let lm = &config.lm;
        let heads = Heads { heads: lm.heads, kv_heads: lm.kv_heads, width: lm.dim / lm.heads };
        Self {
            layers: vec![vec![KvCache::new(heads); sequences]; lm.layers],
            lens: vec![0; sequences],
            rope: Rope::new(lm.rope_base, heads.width, 0),
            heads,
        }
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

    /// Adds a sequence that has read what `sequence` has, and gives its number: several answers to one prompt.
    pub fn fork(&mut self, sequence: usize) -> usize {
        for layer in &mut self.layers {
            layer.push(layer[sequence].clone());
        }
        self.lens.push(self.lens[sequence]);
        self.lens.len() - 1
    }

    /// Adds an empty sequence and gives its number.
    pub fn push(&mut self) -> usize {
        for layer in &mut self.layers {
            layer.push(KvCache::new(self.heads));
        }
        self.lens.push(0);
        self.lens.len() - 1
    }
}
