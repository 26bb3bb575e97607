//! How files call the tensors of a decoder.

/// Names of a kind of file.
#[derive(Debug)]
pub(crate) struct LmNames {
    pub(crate) embedding: &'static str,
    /// The last norm.
    pub(crate) norm: &'static str,
    pub(crate) head: &'static str,
    /// Before the number of a block; all that follows is in one.
    blocks: &'static str,
    /// Before attention, and before the MLP.
    pub(crate) norms: [&'static str; 2],
    pub(crate) qkv: [&'static str; 3],
    /// Of query and key heads.
    pub(crate) qk_norms: [&'static str; 2],
    pub(crate) out: &'static str,
    pub(crate) gate_up: [&'static str; 2],
    pub(crate) down: &'static str,
}

impl LmNames {
    /// The module `part` in block `layer`.
    pub(crate) fn module(&self, layer: usize, part: &str) -> String {
        format!("{}.{layer}.{part}", self.blocks)
    }

    /// Its weight.
    pub(crate) fn weight(&self, layer: usize, part: &str) -> String {
        format!("{}.{layer}.{part}.weight", self.blocks)
    }

    /// Its bias.
    pub(crate) fn bias(&self, layer: usize, part: &str) -> String {
        format!("{}.{layer}.{part}.bias", self.blocks)
    }
}

/// Those of Hugging Face: all four families have the same.
pub(crate) const HUGGING_FACE: LmNames = LmNames {
    embedding: "model.embed_tokens.weight",
    norm: "model.norm.weight",
    head: "lm_head.weight",
    blocks: "model.layers",
    norms: ["input_layernorm", "post_attention_layernorm"],
    qkv: ["self_attn.q_proj", "self_attn.k_proj", "self_attn.v_proj"],
    qk_norms: ["self_attn.q_norm", "self_attn.k_norm"],
    out: "self_attn.o_proj",
    gate_up: ["mlp.gate_proj", "mlp.up_proj"],
    down: "mlp.down_proj",
};

/// Those of Idefics3, and of SmolVLM.
pub(crate) const IDEFICS3: LmNames = LmNames {
    embedding: "model.text_model.embed_tokens.weight",
    norm: "model.text_model.norm.weight",
    blocks: "model.text_model.layers",
    ..HUGGING_FACE
};

/// Those of LLaVA.
pub(crate) const LLAVA: LmNames = LmNames {
    embedding: "model.language_model.embed_tokens.weight",
    norm: "model.language_model.norm.weight",
    blocks: "model.language_model.layers",
    ..HUGGING_FACE
};

/// Those of a whole language model as a part of a model that has its own form.
pub(crate) const BELOW_LANGUAGE_MODEL: LmNames = LmNames {
    embedding: "language_model.model.embed_tokens.weight",
    norm: "language_model.model.norm.weight",
    head: "language_model.lm_head.weight",
    blocks: "language_model.model.layers",
    ..HUGGING_FACE
};

/// Those of GGUF.
pub(crate) const GGUF: LmNames = LmNames {
    embedding: "token_embd.weight",
    norm: "output_norm.weight",
    head: "output.weight",
    blocks: "blk",
    norms: ["attn_norm", "ffn_norm"],
    qkv: ["attn_q", "attn_k", "attn_v"],
    qk_norms: ["attn_q_norm", "attn_k_norm"],
    out: "attn_output",
    gate_up: ["ffn_gate", "ffn_up"],
    down: "ffn_down",
};

/// In GGUF, by what the angles of RoPE are divided.
pub(crate) const ROPE_FACTORS: &str = "rope_freqs.weight";
