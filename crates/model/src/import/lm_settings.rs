//! `config.json` of a language model of Hugging Face. Every setting is read, known to change nothing, or
//! refused by its name.

use anyhow::{Context as _, Result, bail, ensure};
use serde::Deserialize;
use serde::de::DeserializeOwned;
use serde_json::{Map, Value};

use crate::lm::LmConfig;
use crate::rope::RopeScaling;

/// A family of language models, by its `model_type`.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
enum LmFamily {
    /// Llama 1 to 3, SmolLM 1 and 2 and others of that form.
    Llama,
    /// Mistral.
    Mistral,
    /// Qwen 2 and 2.5: biases of queries, keys and values.
    Qwen2,
    /// Qwen 3: norms of query and key heads.
    Qwen3,
}

impl LmFamily {
    /// All of them.
    const ALL: [Self; 4] = [Self::Llama, Self::Mistral, Self::Qwen2, Self::Qwen3];

    /// Its `model_type`.
    fn name(self) -> &'static str {
        match self {
            Self::Llama => "llama",
            Self::Mistral => "mistral",
            Self::Qwen2 => "qwen2",
            Self::Qwen3 => "qwen3",
        }
    }
}

/// Settings that change no logit of ours: notes, training, generation. `max_position_embeddings` is none of a
/// network with RoPE.
const WITHOUT_EFFECT: [&str; 24] = [
    "_model_name_or_path",
    "_name_or_path",
    "architectures",
    "attention_dropout",
    "bos_token_id",
    "chunk_size_feed_forward",
    "dtype",
    "eos_token_id",
    "id2label",
    "initializer_range",
    "is_llama_config",
    "label2id",
    "max_position_embeddings",
    "model_type",
    "output_attentions",
    "output_hidden_states",
    "pad_token_id",
    "return_dict",
    "sep_token_id",
    "torch_dtype",
    "transformers.js_config",
    "transformers_version",
    "unk_token_id",
    "use_cache",
];

/// A setting, whether a value of it is ours, and that value for messages.
type FixedSetting = (&'static str, fn(&Value) -> bool, &'static str);

/// Settings that are taken as one value only, and that value.
const FIXED: [FixedSetting; 10] = [
    ("hidden_act", |v| v == "silu", "\"silu\""),
    // Of all four maps: ours has none behind attention.
    ("attention_bias", |v| v == false, "false"),
    ("mlp_bias", |v| v == false, "false"),
    // Of the decoder of a SmolVLM, which has no such parts.
    ("qk_layer_norms", |v| v == false, "false"),
    ("use_resampler", |v| v == false, "false"),
    ("is_encoder_decoder", |v| v == false, "false"),
    ("pretraining_tp", |v| v == 1, "1"),
    ("rope_interleaved", |v| v == false, "false"),
    ("use_sliding_window", |v| v == false, "false"),
    ("layer_types", all_full, "\"full_attention\" for every layer"),
];

fn all_full(types: &Value) -> bool {
    types.as_array().is_some_and(|types| types.iter().all(|kind| kind == "full_attention"))
}

/// The largest size that is believed, so that products of sizes stay numbers.
pub(super) const MOST: usize = 1 << 24;

/// The `model_type` of each family.
pub(super) fn names() -> [&'static str; 4] {
    LmFamily::ALL.map(LmFamily::name)
}

/// Our shape, by `config.json`.
///
/// # Errors
/// One line with the setting that is unknown, missing or of a value that our decoder has not.
pub(super) fn read(config: &Value) -> Result<LmConfig> {
    let kind = config.get("model_type").unwrap_or(&Value::Null);
    let Some(family) = LmFamily::ALL.into_iter().find(|family| kind == family.name()) else {
        let known = names().join(", ");
        bail!("model_type = {kind}: only language models of these can be imported: {known}");
    };
    let mut left = Settings::of(config)?;
    left.0.retain(|name, _| !WITHOUT_EFFECT.contains(&name.as_str()));
    let windowed = left.sliding_window(family)?;
    for (name, allowed, says) in FIXED {
        if let Some(value) = left.0.remove(name) {
            ensure!(allowed(&value), "{name} = {value}: only {says} can be imported");
        }
    }
    ensure!(!windowed, "sliding_window: a window of attention can't be imported, only null");
    let shape = left.shape(family)?;
    if let Some((name, value)) = left.0.iter().next() {
        bail!("{name} = {value}: this setting is not known, so the model can't be imported");
    }
    shape.check()?;
    Ok(shape)
}

/// What is left of the settings.
struct Settings(Map<String, Value>);

impl Settings {
    fn of(config: &Value) -> Result<Self> {
        let all = config.as_object().context("there are no settings")?.clone();
        // `null` is how `transformers` writes a setting that was never set.
        Ok(Self(all.into_iter().filter(|(_, value)| !value.is_null()).collect()))
    }

    fn take<T: DeserializeOwned>(&mut self, name: &str) -> Result<Option<T>> {
        let value = self.0.remove(name);
        value
            .map(|value| serde_json::from_value(value.clone()).with_context(|| format!("{name} = {value}")))
            .transpose()
    }

    fn size(&mut self, name: &str) -> Result<usize> {
        let size = self.take(name)?.with_context(|| format!("{name} is missing"))?;
        ensure!((1..=MOST).contains(&size), "{name} = {size}: only 1 to {MOST} can be imported");
        Ok(size)
    }

    /// Whether attention is limited to a window. Qwen writes one beside the switch that turns it off.
    fn sliding_window(&mut self, family: LmFamily) -> Result<bool> {
        let window = self.take::<usize>("sliding_window")?;
        let (layers, switch) = (self.0.remove("max_window_layers"), self.0.get("use_sliding_window"));
        match family {
            LmFamily::Qwen2 | LmFamily::Qwen3 => Ok(switch.is_some_and(|on| on == true)),
            LmFamily::Llama | LmFamily::Mistral => Ok(window.is_some() || layers.is_some()),
        }
    }

    fn shape(&mut self, family: LmFamily) -> Result<LmConfig> {
        let (dim, heads) = (self.size("hidden_size")?, self.size("num_attention_heads")?);
        let kv_heads = if self.0.contains_key("num_key_value_heads") {
            self.size("num_key_value_heads")?
        } else {
            heads
        };
        let width = if self.0.contains_key("head_dim") { Some(self.size("head_dim")?) } else { None };
        let (rope_base, rope_scaling) = self.rope()?;
        Ok(LmConfig {
            from: None,
            vocab: Some(self.size("vocab_size")?),
            dim,
            layers: self.size("num_hidden_layers")?,
            heads,
            kv_heads,
            head_width: width.filter(|width| width * heads != dim),
            ffn: self.size("intermediate_size")?,
            rope_base,
            rope_scaling,
            qkv_bias: family == LmFamily::Qwen2,
            qk_norm: family == LmFamily::Qwen3,
            norm_eps: self.take("rms_norm_eps")?.context("rms_norm_eps is missing")?,
            tied: self.take("tie_word_embeddings")?.unwrap_or(false),
        })
    }

    /// RoPE's base and scaling: `rope_parameters` of newer files, `rope_theta` and `rope_scaling` of older.
    fn rope(&mut self) -> Result<(f64, RopeScaling)> {
        let old_base = self.take::<f64>("rope_theta")?;
        let (old, new) = (self.take::<RopeSettings>("rope_scaling")?, self.take("rope_parameters")?);
        let (name, Some(settings)) =
            (if new.is_some() { "rope_parameters" } else { "rope_scaling" }, new.or(old))
        else {
            return Ok((old_base.unwrap_or(10_000.0), RopeScaling::None));
        };
        let base = settings.rope_theta.or(old_base).unwrap_or(10_000.0);
        Ok((base, settings.scaling().context(name)?))
    }
}

/// `rope_parameters`, or the older `rope_scaling`.
#[derive(Deserialize)]
#[serde(deny_unknown_fields)]
struct RopeSettings {
    rope_theta: Option<f64>,
    #[serde(alias = "type")]
    rope_type: Option<String>,
    factor: Option<f64>,
    low_freq_factor: Option<f64>,
    high_freq_factor: Option<f64>,
    original_max_position_embeddings: Option<usize>,
}

impl RopeSettings {
    fn scaling(self) -> Result<RopeScaling> {
        let factor = || self.factor.context("factor is missing");
        match self.rope_type.as_deref() {
            None | Some("default") => Ok(RopeScaling::None),
            Some("linear") => Ok(RopeScaling::Linear { factor: factor()? }),
            Some("llama3") => Ok(RopeScaling::Llama3 {
                factor: factor()?,
                low_freq_factor: self.low_freq_factor.context("low_freq_factor is missing")?,
                high_freq_factor: self.high_freq_factor.context("high_freq_factor is missing")?,
                original_length: self
                    .original_max_position_embeddings
                    .context("original_max_position_embeddings is missing")?,
            }),
            Some(other) => {
                bail!("rope_type = {other:?}: only default, linear and llama3 can be imported")
            }
        }
    }
}
