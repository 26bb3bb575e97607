//! What a training step holds, from the sizes alone: the bill before a run. It counts what [`crate::ops`]
//! save for the backward pass; each part of the network gives the formula of its own.

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

impl BlockStack {
    /// What the blocks and the norm behind them save, and the temporaries of one block's backward pass.
    pub(crate) fn activations(&self, positions: usize, load: Load) -> Activations {
        let qkv = if self.qk_norm { 2 * self.qkv } else { self.qkv };
        let block = load.rounded(2 * self.dim + self.attended + qkv + self.hidden);
        // With activation checkpointing a block saves its input alone; one block at a time is whole again.
        let blocks = if load.recompute { self.layers * self.dim + block } else { self.layers * block };
        // The largest in a block's backward pass: the MLP's gradients before and after its activation.
        let temporary = 2 * self.dim + load.rounded(self.hidden + self.activated);
        Activations { saved: positions * (blocks + load.rounded(self.dim)), temporary: positions * temporary }
    }
}

/// The fused linear map and cross-entropy. The gradients of its input and of its weight are made in the
/// forward pass, from the logits of some rows at a time; where the last block's learned positions were
/// gathered, their gradients are scattered among zeros. All positions count as learned.
pub(crate) fn cross_entropy(positions: usize, dim: usize, vocab: usize) -> Activations {
    let logits = LOGIT_ROWS.min(positions) * vocab;
    Activations { saved: (positions + vocab) * dim, temporary: 2 * positions * dim + 2 * logits }
}
