//! What a training step holds, from the sizes alone: the bill before a run. It counts floats as [`crate::ops`] keep
//! them for the way back.

use crate::config::{ConnectorConfig, LmConfig, Mm1Config, Stem, VisionConfig};
use crate::ops::Precision;

/// Bytes of a trained parameter: weight and gradient in f32, and two moments in `moments`.
pub fn state_bytes(moments: Precision) -> u64 {
    4 + 4
        + 2 * match moments {
            Precision::F32 => 4,
            Precision::Bf16 => 2,
        }
}

/// Rows whose logits exist at a time (`mm1_kernels::loss`).
const LOGIT_ROWS: usize = 512;

/// What goes through the network together.
#[derive(Clone, Copy, Debug)]
pub struct Load {
    /// Positions, padding included.
    pub positions: usize,
    /// Pictures.
    pub images: usize,
    /// Whether blocks are computed again on the way back.
    pub recompute: bool,
}

impl Mm1Config {
    /// Bytes of the values that a step of the whole model keeps or makes on its way, at most.
    pub fn activation_bytes(&self, load: Load) -> u64 {
        4 * (self.vision.floats(load) + self.connector_floats(load.images) + self.lm.floats(load)) as u64
    }

    /// The same of the image encoder and a classifier with an output for each token of the vocabulary.
    pub fn encoder_bytes(&self, load: Load) -> u64 {
        4 * (self.vision.floats(load) + head(load.positions, self.vision.dim, self.lm.vocab)) as u64
    }

    fn connector_floats(&self, images: usize) -> usize {
        let (patches, dim, out) = (self.vision.grid().pow(2), self.vision.dim, self.lm.dim);
        images
            * match self.connector {
                ConnectorConfig::AveragePool { tokens } => tokens * (dim + out),
                ConnectorConfig::AttentionPool { tokens, .. } => patches * 3 * dim + tokens * (9 * dim + out),
                // A block keeps its input and seven maps of its width, and makes two on the way back.
                ConnectorConfig::CAbstractor { tokens, dim: width, depth } => {
                    10 * depth * width * (patches + tokens) + tokens * (width + 3 * out)
                }
            }
    }
}

impl LmConfig {
    fn floats(&self, Load { positions, recompute, .. }: Load) -> usize {
        let width = self.dim / self.heads;
        let blocks = Blocks {
            layers: self.layers,
            dim: self.dim,
            attention: (2 * self.heads + 2 * self.kv_heads) * width,
            hidden: 2 * self.ffn,
            activated: self.ffn,
        };
        positions * (blocks.floats(recompute) + 2 * self.dim) + head(positions, self.dim, self.vocab)
    }
}

impl VisionConfig {
    fn floats(&self, Load { images, recompute, .. }: Load) -> usize {
        let patches = self.grid().pow(2) + usize::from(self.class_token);
        let pixels = self.image_size.pow(2) * 3;
        let blocks = Blocks {
            layers: self.blocks(),
            dim: self.dim,
            attention: 4 * self.dim,
            hidden: self.ffn,
            activated: self.ffn,
        };
        let stem = match self.stem {
            Stem::Patch => pixels,
            // Stage i halves the side and has dim / 2^(stages - i) channels, before and after its norm, and their
            // slopes.
            Stem::Conv => (1..=self.patch.ilog2())
                .map(|i| (self.image_size >> i).pow(2) * (self.dim >> (self.patch.ilog2() - i)) * 4)
                .sum(),
        };
        let ends = (2 + usize::from(self.pre_norm)) * self.dim;
        images * (pixels + stem + patches * (blocks.floats(recompute) + ends))
    }
}

/// A transformer, by its widths.
struct Blocks {
    layers: usize,
    dim: usize,
    /// Queries, keys, values and what attention makes of them.
    attention: usize,
    /// Before the activation.
    hidden: usize,
    /// After it.
    activated: usize,
}

impl Blocks {
    /// Floats of a position: what each block keeps, and what one block makes on the way back.
    fn floats(&self, recompute: bool) -> usize {
        let block = 2 * self.dim + self.attention + self.hidden;
        let kept = if recompute { self.layers * self.dim + block } else { self.layers * block };
        kept + 2 * self.dim + self.hidden + self.activated
    }
}

/// The loss: rows of the input, their gradients, and logits of some rows.
fn head(positions: usize, dim: usize, vocab: usize) -> usize {
    2 * positions * dim + LOGIT_ROWS.min(positions) * vocab
}
