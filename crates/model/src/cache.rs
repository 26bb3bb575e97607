//! The keys and values of what has been read (KV cache), by sequence.

use std::sync::Arc;

use burn::tensor::Tensor;
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
    /// Of each sequence the pictures that it looks at beside its positions, in their order.
    pub(crate) pictures: Vec<Vec<CachedPicture>>,
    /// It reaches at least as far as the longest sequence.
    pub(crate) rope: Rope,
    heads: Heads,
}

/// A picture that a sequence has read and looks at.
#[derive(Clone, Debug)]
pub(crate) struct CachedPicture {
    /// The position that stands for it.
    pub(crate) position: usize,
    /// Its keys and values of each gated layer, `[1, k, 2D]`.
    pub(crate) keys_and_values: Arc<[Tensor<3>]>,
}

impl CachedPicture {
    fn address(&self) -> usize {
        self.keys_and_values.as_ptr() as usize
    }
}

impl Cache {
    /// Empty, for `sequences` sequences of a decoder of so many `layers`.
    pub(crate) fn new(layers: usize, heads: Heads, rope: Rope, sequences: usize) -> Self {
        let layers = vec![vec![KvCache::new(heads); sequences]; layers];
        Self { layers, lens: vec![0; sequences], pictures: vec![Vec::new(); sequences], rope, heads }
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
        sift(&mut self.pictures, &keep);
    }

    /// Adds a sequence that has read what `sequence` has, and gives its number: several answers to one
    /// prompt.
    pub fn fork(&mut self, sequence: usize) -> usize {
        // Keys and values are shared until one of both writes behind them.
        for layer in &mut self.layers {
            layer.push(layer[sequence].clone());
        }
        self.lens.push(self.lens[sequence]);
        self.pictures.push(self.pictures[sequence].clone());
        self.lens.len() - 1
    }

    /// The first `len` positions of `sequence`, by themselves. Their memory is shared.
    ///
    /// # Panics
    /// When there are not as many.
    pub fn beginning(&self, sequence: usize, len: usize) -> CachedSequence {
        assert!(len <= self.lens[sequence], "the sequence has {} positions, not {len}", self.lens[sequence]);
        let layers = self.layers.iter().map(|layer| layer[sequence].clone()).collect();
        let pictures = self.pictures[sequence].clone();
        CachedSequence { layers, len: self.lens[sequence], pictures }.beginning(len)
    }

    /// Lets `sequence` be one that begins as `beginning` does.
    ///
    /// # Panics
    /// As [`Self::push`].
    pub fn replace(&mut self, sequence: usize, beginning: &CachedSequence) {
        assert_eq!(self.layers.len(), beginning.layers.len(), "a sequence of another network");
        for (layer, beginning) in self.layers.iter_mut().zip(&beginning.layers) {
            layer[sequence] = beginning.clone();
        }
        self.lens[sequence] = beginning.len;
        self.pictures[sequence].clone_from(&beginning.pictures);
    }

    /// Adds a sequence that begins as `beginning` does, and gives its number.
    ///
    /// # Panics
    /// When it is of another number of layers.
    pub fn push(&mut self, beginning: &CachedSequence) -> usize {
        assert_eq!(self.layers.len(), beginning.layers.len(), "a sequence of another network");
        for (layer, beginning) in self.layers.iter_mut().zip(&beginning.layers) {
            layer.push(beginning.clone());
        }
        self.lens.push(beginning.len);
        self.pictures.push(beginning.pictures.clone());
        self.lens.len() - 1
    }

    /// Adds a sequence that has read nothing, and gives its number.
    pub fn push_empty(&mut self) -> usize {
        for layer in &mut self.layers {
            layer.push(KvCache::new(self.heads));
        }
        self.lens.push(0);
        self.pictures.push(Vec::new());
        self.lens.len() - 1
    }

    /// From now on it is kept where the last token of `sequence` looks: [`Self::watched`].
    pub fn watch(&mut self, sequence: usize) {
        self.layers.iter_mut().for_each(|layer| layer[sequence].watch());
    }

    /// How much the last token of a watched sequence looks at each position: attention, the mean over layers
    /// and heads, `[len]`.
    pub fn watched(&self, sequence: usize) -> Vec<f32> {
        let scale = 1.0 / (self.layers.len() * self.heads.heads) as f32;
        let mut mean = vec![0.0; self.lens[sequence]];
        for layer in &self.layers {
            let weights = layer[sequence].watched();
            mean.iter_mut().zip(weights).for_each(|(mean, weight)| *mean += weight * scale);
        }
        mean
    }

    /// An address for each block of positions that `sequence` holds: those that share one hold it once.
    pub fn block_addresses(&self, sequence: usize) -> impl Iterator<Item = usize> + '_ {
        self.layers.iter().take(1).flat_map(move |layer| layer[sequence].block_addresses())
    }

    /// An address for each picture that `sequence` looks at beside its positions; there are some where
    /// [`crate::Mm1Config::picture_cache_bytes`] is not 0. Those that share one hold it once.
    pub fn picture_addresses(&self, sequence: usize) -> impl Iterator<Item = usize> + '_ {
        self.pictures[sequence].iter().map(CachedPicture::address)
    }

    /// Memory of a block of [`Self::block_positions`] positions of one sequence, in all layers.
    /// Unit: bytes.
    pub fn block_bytes(&self) -> usize {
        self.layers.len() * KvCache::block_bytes(self.heads)
    }

    /// Positions of a block.
    pub const fn block_positions() -> usize {
        KvCache::block_tokens()
    }
}

/// What one sequence has read, by itself: a beginning that others may share, see [`Cache::push`].
#[derive(Clone, Debug)]
pub struct CachedSequence {
    /// Of each layer.
    layers: Vec<KvCache>,
    len: usize,
    pictures: Vec<CachedPicture>,
}

impl CachedSequence {
    /// Its positions.
    pub fn len(&self) -> usize {
        self.len
    }

    /// Whether it has none.
    pub fn is_empty(&self) -> bool {
        self.len == 0
    }

    /// Its first `len` positions.
    pub fn beginning(&self, len: usize) -> Self {
        let first = |layer: &KvCache| {
            let mut layer = layer.clone();
            layer.truncate(len);
            layer
        };
        let pictures = self.pictures.iter().filter(|picture| picture.position < len).cloned();
        let layers = self.layers.iter().map(first).collect();
        Self { layers, len: len.min(self.len), pictures: pictures.collect() }
    }

    /// As [`Cache::block_addresses`].
    pub fn block_addresses(&self) -> impl Iterator<Item = usize> + '_ {
        self.layers.iter().take(1).flat_map(KvCache::block_addresses)
    }

    /// As [`Cache::picture_addresses`].
    pub fn picture_addresses(&self) -> impl Iterator<Item = usize> + '_ {
        self.pictures.iter().map(CachedPicture::address)
    }
}
