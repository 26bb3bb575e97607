//! How files of image encoders and text towers call the parts of a block: one table for the way in and the
//! way out.

/// The names of the parts of a block, below its number.
#[derive(Clone, Copy, Debug)]
pub(crate) struct BlockNames {
    /// What is before the number.
    pub(crate) blocks: &'static str,
    /// Before attention, and before the MLP.
    pub(crate) norms: [&'static str; 2],
    /// Queries, keys, values.
    pub(crate) qkv: [&'static str; 3],
    /// Behind the heads.
    pub(crate) out: &'static str,
    /// The first map of the MLP, and the last.
    pub(crate) up: &'static str,
    pub(crate) down: &'static str,
    /// The factors of LayerScale, after `out` and after `down`.
    pub(crate) scales: Option<[&'static str; 2]>,
}

/// Those of CLIP and SigLIP at Hugging Face.
pub(crate) const CLIP: BlockNames = BlockNames {
    blocks: "encoder.layers",
    norms: ["layer_norm1", "layer_norm2"],
    qkv: ["self_attn.q_proj", "self_attn.k_proj", "self_attn.v_proj"],
    out: "self_attn.out_proj",
    up: "mlp.fc1",
    down: "mlp.fc2",
    scales: None,
};

/// Those of DINOv2 there.
pub(crate) const DINOV2: BlockNames = BlockNames {
    blocks: "encoder.layer",
    norms: ["norm1", "norm2"],
    qkv: ["attention.attention.query", "attention.attention.key", "attention.attention.value"],
    out: "attention.output.dense",
    scales: Some(["layer_scale1.lambda1", "layer_scale2.lambda1"]),
    ..CLIP
};

/// Those of our own form.
pub(crate) const OWN: BlockNames = BlockNames {
    blocks: "blocks",
    norms: ["norm1", "norm2"],
    qkv: ["attention.q", "attention.k", "attention.v"],
    out: "attention.out",
    up: "mlp.up",
    down: "mlp.down",
    scales: None,
};

/// Those of GGUF.
pub(crate) const GGUF: BlockNames = BlockNames {
    blocks: "blk",
    norms: ["ln1", "ln2"],
    qkv: ["attn_q", "attn_k", "attn_v"],
    out: "attn_out",
    up: "ffn_up",
    down: "ffn_down",
    scales: None,
};
