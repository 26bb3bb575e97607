//! What a training step holds, from the sizes alone: the bill before a run. It counts floats as [`crate::ops`] keep
//! them for the way back.

use crate::config::{ConnectorConfig, LmConfig, Mm1Config, Stem, VisionConfig};
use crate::ops::Precision;

/// Rows whose logits exist at a time (`mm1_kernels::loss`).
const LOGIT_ROWS: usize = 512;

/// Floats of a part of the model in a step.
struct Floats {
    /// Kept for the way back.
    kept: usize,
    /// Made for a while: no two parts' are there together.
    made: usize,
}

/// Bytes at the peak, which is where the way back begins.
fn bytes<const N: usize>(parts: [Floats; N]) -> u64 {
    let kept: usize = parts.iter().map(|part| part.kept).sum();
    let made = parts.iter().map(|part| part.made).max().unwrap_or(0);
    4 * (kept + made) as u64
}

/// What goes through the network together.
#[derive(Clone, Copy, Debug)]
pub struct Load {
    /// Positions, padding included.
    pub positions: usize,
    /// Pictures.
    pub images: usize,
    /// Whether blocks are computed again on the way back.
    pub recompute: bool,
    /// That of products.
    pub precision: Precision,
}

impl Load {
    /// Floats' worth of so many values that are kept or made in the precision of products.
    fn rounded(&self, values: usize) -> usize {
        match self.precision {
            Precision::F32 => values,
            Precision::Bf16 => values / 2,
        }
    }
}

impl Mm1Config {
    /// Bytes of the values that a step of the whole model keeps or makes on its way, at most.
    pub fn activation_bytes(&self, load: Load) -> u64 {
        let loss = head(load.positions, self.lm.dim, self.lm.vocab);
        bytes([self.vision.floats(load), self.connector_floats(load), self.lm.floats(load), loss])
    }

    /// The same of the image encoder and a classifier with an output for each token of the vocabulary.
    pub fn encoder_bytes(&self, load: Load) -> u64 {
        bytes([self.vision.floats(load), head(load.positions, self.vision.dim, self.lm.vocab)])
    }

    fn connector_floats(&self, load: Load) -> Floats {
        let (patches, dim, out) = (self.vision.grid().pow(2), self.vision.dim, self.lm.dim);
        let [kept, made] = match self.connector {
            ConnectorConfig::AveragePool { tokens } => [load.rounded(tokens * dim), tokens * out],
            ConnectorConfig::AttentionPool { tokens, .. } => {
                [patches * 2 * dim + tokens * 5 * dim, patches * 2 * dim]
            }
            // A block keeps its input and seven maps of its width, and makes three on the way back.
            ConnectorConfig::CAbstractor { tokens, dim: width, depth } => {
                let maps = 8 * depth * width * (patches + tokens);
                [load.rounded(maps + tokens * (width + out)), 3 * width * patches]
            }
        };
        Floats { kept: load.images * kept, made: load.images * made }
    }
}

impl LmConfig {
    fn floats(&self, load: Load) -> Floats {
        let width = self.dim / self.heads;
        let blocks = Blocks {
            layers: self.layers,
            dim: self.dim,
            attended: self.heads * width,
            qkv: (self.heads + 2 * self.kv_heads) * width,
            hidden: 2 * self.ffn,
            activated: self.ffn,
        };
        blocks.floats(load.positions, load)
    }
}

impl VisionConfig {
    fn floats(&self, load: Load) -> Floats {
        let patches = self.grid().pow(2) + usize::from(self.class_token);
        let pixels = self.image_size.pow(2) * 3;
        let blocks = Blocks {
            layers: self.blocks(),
            dim: self.dim,
            attended: self.dim,
            qkv: 3 * self.dim,
            hidden: self.ffn,
            activated: self.ffn,
        };
        let stem = match self.stem {
            Stem::Patch => load.rounded(pixels),
            // Stage i halves the side and has dim / 2^(stages - i) channels, before its norm and after it.
            Stem::Conv => (1..=self.patch.ilog2())
                .map(|i| (self.image_size >> i).pow(2) * (self.dim >> (self.patch.ilog2() - i)))
                .map(|values| load.rounded(values) + values)
                .sum(),
        };
        let ends = load.rounded(patches * usize::from(self.pre_norm) * self.dim);
        let Floats { kept, made } = blocks.floats(load.images * patches, load);
        Floats { kept: kept + load.images * (pixels + stem + ends), made }
    }
}

/// A transformer, by its widths.
struct Blocks {
    layers: usize,
    dim: usize,
    /// What attention makes.
    attended: usize,
    /// Queries, keys and values.
    qkv: usize,
    /// Before the activation.
    hidden: usize,
    /// After it.
    activated: usize,
}

impl Blocks {
    /// What the blocks and the norm behind them keep, and what one block makes on the way back.
    fn floats(&self, positions: usize, load: Load) -> Floats {
        let block = load.rounded(2 * self.dim + self.attended + self.qkv + self.hidden);
        let kept = if load.recompute { self.layers * self.dim + block } else { self.layers * block };
        let made = 2 * self.dim + load.rounded(self.hidden + self.activated);
        Floats { kept: positions * (kept + load.rounded(self.dim)), made: positions * made }
    }
}

/// The loss: the gradients of its input and of its weight are made on the way there, from logits of some rows; where the last
/// block's learned positions were gathered from, their gradients are put back among zeros. All positions count as learned.
fn head(positions: usize, dim: usize, vocab: usize) -> Floats {
    let logits = LOGIT_ROWS.min(positions) * vocab;
    Floats { kept: (positions + vocab) * dim, made: 2 * positions * dim + 2 * logits }
}
