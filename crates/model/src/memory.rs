//! What a training step holds, from the sizes alone: the bill before a run. It counts what [`crate::ops`]
//! save for the backward pass; each part of the network gives the formula of its own.

use crate::adapter::{AdapterConfig, AdapterTarget};
use crate::ops::Precision;

/// Rows whose logits exist at a time (`mm1_kernels::loss`).
const LOGIT_ROWS: usize = 512;

/// What goes through the network together.
#[derive(Clone, Copy, Debug)]
pub struct Load {
    /// Positions, padding included.
    pub positions: usize,
    /// Pictures.
    pub images: usize,
    /// Whether blocks are recomputed in the backward pass (activation checkpointing).
    pub recompute: bool,
    /// That of matrix products.
    pub precision: Precision,
}

/// What is trained of a part of the network.
#[derive(Clone, Copy, Debug, PartialEq)]
pub enum Training<'a> {
    /// Every parameter.
    Whole,
    /// The adapters beside frozen weights.
    Adapters(&'a AdapterConfig),
    /// Nothing.
    Frozen,
}

/// What is trained of each part of the network.
#[derive(Clone, Copy, Debug)]
pub struct TrainedParts<'a> {
    /// Of the image encoder.
    pub vision: Training<'a>,
    /// Of the connector.
    pub connector: Training<'a>,
    /// Of the decoder.
    pub lm: Training<'a>,
}

impl TrainedParts<'_> {
    /// All of every part.
    pub const ALL: Self = Self { vision: Training::Whole, connector: Training::Whole, lm: Training::Whole };

    /// Whether gradients reach the encoder.
    pub(crate) fn reach_vision(&self) -> bool {
        self.vision != Training::Frozen
    }

    /// Whether gradients reach the connector.
    pub(crate) fn reach_connector(&self) -> bool {
        self.connector != Training::Frozen || self.reach_vision()
    }
}

impl Load {
    /// The size, in floats, of so many values that are stored in the precision of products.
    pub(crate) fn rounded(&self, values: usize) -> usize {
        match self.precision {
            Precision::F32 => values,
            Precision::Bf16 => values / 2,
        }
    }
}

/// Activations of a part of the network in a step, in floats (4 bytes).
#[derive(Clone, Copy, Debug)]
pub(crate) struct Activations {
    /// Saved for the backward pass.
    pub(crate) saved: usize,
    /// Temporary: those of two parts never exist together.
    pub(crate) temporary: usize,
}

/// Bytes at the peak, which is where the backward pass begins: all that is saved, and the largest temporary.
pub(crate) fn peak_bytes<const N: usize>(parts: [Activations; N]) -> u64 {
    let saved: usize = parts.iter().map(|part| part.saved).sum();
    let temporary = parts.iter().map(|part| part.temporary).max().unwrap_or(0);
    4 * (saved + temporary) as u64
}

/// A stack of transformer blocks, by its widths.
pub(crate) struct BlockStack {
    pub(crate) layers: usize,
    /// Of the residual stream.
    pub(crate) dim: usize,
    /// Of the heads' outputs side by side.
    pub(crate) attended: usize,
    /// Of queries, keys and values side by side.
    pub(crate) qkv: usize,
    /// Whether their heads are normed: they are then saved before and after it.
    pub(crate) qk_norm: bool,
    /// Of the MLP before its activation.
    pub(crate) hidden: usize,
    /// Of the MLP after its activation.
    pub(crate) activated: usize,
}

impl Activations {
    /// Of a part that no gradient reaches: nothing is saved.
    pub(crate) fn unsaved(self) -> Self {
        Self { saved: 0, temporary: self.temporary }
    }
}

impl BlockStack {
    /// What the blocks and the norm behind them save, and the temporaries of one block's backward pass.
    pub(crate) fn activations(&self, positions: usize, load: Load, training: Training<'_>) -> Activations {
        let qkv = if self.qk_norm { 2 * self.qkv } else { self.qkv };
        let Activations { saved, temporary: of_adapters } = self.of_adapters(load, training);
        let block = load.rounded(2 * self.dim + self.attended + qkv + self.hidden) + saved;
        // With activation checkpointing a block saves its input alone; one block at a time is whole again.
        let blocks = if load.recompute { self.layers * self.dim + block } else { self.layers * block };
        // The largest in a block's backward pass: the MLP's gradients before and after its activation.
        let temporary = 2 * self.dim + load.rounded(self.hidden + self.activated) + of_adapters;
        Activations { saved: positions * (blocks + load.rounded(self.dim)), temporary: positions * temporary }
    }

    /// What the adapters of a block add for a position.
    fn of_adapters(&self, load: Load, training: Training<'_>) -> Activations {
        let Training::Adapters(config) = training else { return Activations { saved: 0, temporary: 0 } };
        let any = |targets: &[AdapterTarget]| targets.iter().any(|&target| config.has(target));
        let inputs = usize::from(any(&[AdapterTarget::Q, AdapterTarget::K, AdapterTarget::V]))
            + usize::from(any(&[AdapterTarget::Gate, AdapterTarget::Up]));
        // What is behind the norm is saved for the adapters; in bfloat16 what is before it once more.
        let copies = match load.precision {
            Precision::F32 => 1,
            Precision::Bf16 => 2,
        };
        // Of what is seen its gradient, and what dropout has left of it; behind an activation what is before.
        let temporary =
            if any(&[AdapterTarget::Down]) { self.hidden + 2 * self.activated } else { 2 * self.dim };
        let low = config.rank * config.targets.len();
        Activations { saved: load.rounded(inputs * copies * self.dim) + low, temporary }
    }
}

/// The fused linear map and cross-entropy. The gradients of its input and of its weight are made in the
/// forward pass, from the logits of some rows at a time; where the last block's learned positions were
/// gathered, their gradients are scattered among zeros. All positions count as learned. A frozen head has no
/// gradient.
pub(crate) fn cross_entropy(
    positions: usize,
    [dim, vocab]: [usize; 2],
    training: Training<'_>,
) -> Activations {
    let logits = LOGIT_ROWS.min(positions) * vocab;
    let head = if training == Training::Whole { vocab } else { 0 };
    Activations { saved: (positions + head) * dim, temporary: 2 * positions * dim + 2 * logits }
}
