//! The decoder in other programs: what its parameters become, and its settings in Hugging Face's words.

use anyhow::{Context as _, Result, bail};
use serde_json::{Value, json};

use super::part::{ExportedPart, columns, joined, whole};
use crate::import::lm_names::LmNames;
use crate::lm::LmConfig;
use crate::rope::RopeScaling;

/// How a file calls the tensors of a decoder and orders them.
#[derive(Clone, Copy, Debug)]
pub(crate) struct LmForm {
    pub(crate) names: &'static LmNames,
    /// Whether what RoPE turns together follows each other in the maps of queries and keys; ours are half a
    /// head apart.
    pub(crate) pairs: bool,
}

impl LmForm {
    /// What the decoder's parameter at `path` of this shape becomes, in the order of its columns.
    ///
    /// # Errors
    /// A parameter that has no place.
    pub(crate) fn places(self, path: &str, shape: &[usize], config: &LmConfig) -> Result<Vec<ExportedPart>> {
        let block = path.strip_prefix("blocks.").and_then(|rest| rest.split_once('.'));
        if let Some((layer, rest)) = block {
            let layer = layer.parse().context("its block has no number")?;
            return self.places_in_block(layer, rest, shape, config);
        }
        let names = self.names;
        Ok(match path {
            "embedding" => whole(names.embedding.to_owned(), shape),
            "norm.gamma" => whole(names.norm.to_owned(), shape),
            "head" => columns(shape[0], vec![(names.head.to_owned(), shape[1], None)]),
            _ => bail!("it has no place in the file"),
        })
    }

    /// The same of one in a block.
    fn places_in_block(
        self,
        layer: usize,
        path: &str,
        shape: &[usize],
        config: &LmConfig,
    ) -> Result<Vec<ExportedPart>> {
        let (names, heads) = (self.names, config.attention_heads());
        let (q, kv) = (heads.out_width(), heads.kv_heads * heads.width);
        let head = self.pairs.then_some(heads.width);
        let weight = |name: &str| names.weight(layer, name);
        let map = |name: &str, outputs: usize, head: Option<usize>| (weight(name), outputs, head);
        let [query, key, value] = names.qkv;
        let maps = match path {
            "attention.norm.gamma" => return Ok(whole(weight(names.norms[0]), shape)),
            "mlp.norm.gamma" => return Ok(whole(weight(names.norms[1]), shape)),
            "attention.qk_norm.q_gamma" => return Ok(whole(weight(names.qk_norms[0]), shape)),
            "attention.qk_norm.k_gamma" => return Ok(whole(weight(names.qk_norms[1]), shape)),
            "attention.qkv_bias" => {
                let bias = |(name, width)| (names.bias(layer, name), width);
                return Ok(joined([(query, q), (key, kv), (value, kv)].map(bias).into()));
            }
            "attention.qkv" => vec![map(query, q, head), map(key, kv, head), map(value, kv, None)],
            "attention.out" => vec![map(names.out, config.dim, None)],
            "mlp.up" => names.gate_up.map(|name| map(name, config.ffn, None)).into(),
            "mlp.down" => vec![map(names.down, config.dim, None)],
            _ => bail!("it has no place in the file"),
        };
        Ok(columns(shape[0], maps))
    }
}

/// `config.json` of the decoder in Hugging Face's words; `context` is the longest text that it was trained
/// on, in tokens.
///
/// # Errors
/// A decoder that none of its families is.
pub(crate) fn settings(config: &LmConfig, context: usize) -> Result<Value> {
    let (family, class) = match (config.qkv_bias, config.qk_norm) {
        (false, false) => ("llama", "LlamaForCausalLM"),
        (true, false) => ("qwen2", "Qwen2ForCausalLM"),
        (false, true) => ("qwen3", "Qwen3ForCausalLM"),
        (true, true) => bail!("transformers has no decoder with model.lm.qkv_bias and model.lm.qk_norm"),
    };
    Ok(json!({
        "model_type": family,
        "architectures": [class],
        "vocab_size": config.vocab(),
        "hidden_size": config.dim,
        "num_hidden_layers": config.layers,
        "num_attention_heads": config.heads,
        "num_key_value_heads": config.kv_heads,
        "head_dim": config.attention_heads().width,
        "intermediate_size": config.ffn,
        "hidden_act": "silu",
        "rms_norm_eps": config.norm_eps,
        "rope_theta": config.rope_base,
        "rope_scaling": rope_scaling(config.rope_scaling),
        "tie_word_embeddings": config.tied,
        "max_position_embeddings": context,
    }))
}

fn rope_scaling(scaling: RopeScaling) -> Value {
    match scaling {
        RopeScaling::None => Value::Null,
        RopeScaling::Linear { factor } => json!({"rope_type": "linear", "factor": factor}),
        RopeScaling::Llama3 { factor, low_freq_factor, high_freq_factor, original_length } => json!({
            "rope_type": "llama3",
            "factor": factor,
            "low_freq_factor": low_freq_factor,
            "high_freq_factor": high_freq_factor,
            "original_max_position_embeddings": original_length,
        }),
    }
}
