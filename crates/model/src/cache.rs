//! The keys and values of what has been read, by sequence.

use crate::config::Mm1Config;
use crate::ops::Rope;

/// Keys and values of one layer. Positions of a sequence follow one another, so that appending moves nothing else.
#[derive(Clone, Debug, Default)]
pub struct LayerCache {
    /// For each sequence `[len, g, c]`, keys already turned by their positions.
    pub keys: Vec<Vec<f32>>,
    /// For each sequence `[len, g, c]`.
    pub values: Vec<Vec<f32>>,
}

/// What several sequences have read so far. Sequences are numbered from 0 and independent of one another.
#[derive(Clone, Debug)]
pub struct Cache {
    pub(crate) layers: Vec<LayerCache>,
    pub(crate) lens: Vec<usize>,
    pub(crate) rope: Rope,
}

impl Cache {
    /// Empty, for `sequences` sequences of a network of this shape.
    pub fn new(config: &Mm1Config, sequences: usize) -> Self {
        let lm = &config.lm;
        let empty = LayerCache { keys: vec![Vec::new(); sequences], values: vec![Vec::new(); sequences] };
        Self {
            layers: vec![empty; lm.layers],
            lens: vec![0; sequences],
            rope: Rope::new(lm.rope_base, lm.dim / lm.heads, 0),
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
            sift(&mut layer.keys, &keep);
            sift(&mut layer.values, &keep);
        }
        sift(&mut self.lens, &keep);
    }

    /// Adds a sequence that has read what `sequence` has, and gives its number: several answers to one prompt.
    pub fn fork(&mut self, sequence: usize) -> usize {
        for layer in &mut self.layers {
            layer.keys.push(layer.keys[sequence].clone());
            layer.values.push(layer.values[sequence].clone());
        }
        self.lens.push(self.lens[sequence]);
        self.lens.len() - 1
    }

    /// Adds an empty sequence and gives its number.
    pub fn push(&mut self) -> usize {
        for layer in &mut self.layers {
            layer.keys.push(Vec::new());
            layer.values.push(Vec::new());
        }
        self.lens.push(0);
        self.lens.len() - 1
    }
}
