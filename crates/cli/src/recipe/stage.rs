//! The [`Stage`]s of a recipe and their settings.

use mm1_eval::protocol::Protocol;
use schemars::JsonSchema;
use serde::de::Error as _;
use serde::{Deserialize, Deserializer, Serialize};
use toml::Table;

use super::TrainStage;

/// A stage of the run, `[[stage]]`. Each starts with the model as the stages before have left it.
#[derive(Clone, Debug, PartialEq, Serialize, Deserialize, JsonSchema)]
#[serde(tag = "kind", rename_all = "kebab-case")]
pub(crate) enum Stage {
    /// Train the image encoder alone.
    Encoder(TrainStage),
    /// Measure the image encoder alone: k-NN, linear and attentive probe, zero-shot classification,
    /// retrieval.
    Probe(ProbeStage),
    /// Next-token prediction on a mixture of documents.
    Pretrain(TrainStage),
    /// Supervised fine-tuning on conversations: the same loop, loss on the answers only.
    Sft(TrainStage),
    /// Evaluate on tasks with 0, 4, 8 … demonstrations (shots).
    Eval(EvalStage),
    /// Write the captions of a source anew: synthetic captions, as VeCap's (Lai et al. 2023). The model as it
    /// is then describes the images, and the mixtures of later stages name the result by this stage's name.
    Recaption(RecaptionStage),
}

impl Stage {
    /// The settings of a stage that trains.
    pub(crate) fn training(&self) -> Option<&TrainStage> {
        match self {
            Self::Encoder(s) | Self::Pretrain(s) | Self::Sft(s) => Some(s),
            Self::Probe(_) | Self::Eval(_) | Self::Recaption(_) => None,
        }
    }

    pub(crate) fn name(&self) -> &str {
        match self {
            Self::Encoder(s) | Self::Pretrain(s) | Self::Sft(s) => &s.name,
            Self::Probe(s) => &s.name,
            Self::Eval(s) => &s.name,
            Self::Recaption(s) => &s.name,
        }
    }

    /// The settings of a stage that writes captions.
    pub(crate) fn recaption(&self) -> Option<&RecaptionStage> {
        if let Self::Recaption(s) = self { Some(s) } else { None }
    }
}

/// A stage in which the model, as the stages before have left it, writes the captions of a source anew. They
/// lie in `recaptioned/NAME` of the run folder, as shards. No caption depends on batch size or threads.
#[derive(Clone, Debug, PartialEq, Serialize, Deserialize, JsonSchema)]
#[serde(deny_unknown_fields)]
pub(crate) struct RecaptionStage {
    /// The stage's name, by which `--set`, reports and the mixtures of later stages know it: letters, digits,
    /// `-` and `_`, and no name of a source.
    #[schemars(pattern("^[A-Za-z0-9_-]+$"))]
    pub(crate) name: String,
    /// The source of images with captions whose images are described.
    pub(crate) source: String,
    /// Images that are described: the first training documents of the source. What it holds out is not read.
    /// Unit: images.
    #[schemars(range(min = 1))]
    pub(crate) images: u64,
    /// What a tuned model is asked; the words with which the caption of a model begins that was only
    /// pre-trained. By default what evaluations ask: `"Describe the picture."`, and `"A photo of"`.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    #[schemars(length(min = 1))]
    pub(crate) prompt: Option<String>,
    /// Whether the model is shown the alt-text, the caption that the image has.
    #[serde(default)]
    pub(crate) with_alt_text: bool,
    /// Whether the new caption begins with the alt-text, and has of the description the sentences with a word
    /// that was not said yet. Otherwise it is the description alone.
    #[serde(default = "yes")]
    pub(crate) keep_alt_text: bool,
    /// Words that a description must have. One with fewer is refused: it is counted, and its image left out.
    /// Unit: words.
    #[serde(default = "recaption_min_words")]
    #[schemars(range(min = 1))]
    pub(crate) min_words: usize,
    /// Tokens within which a description must have ended. One that does not is refused likewise.
    /// Unit: tokens.
    #[serde(default = "recaption_max_tokens")]
    #[schemars(range(min = 1))]
    pub(crate) max_tokens: usize,
    /// Temperature of the sampling: 0 takes the likeliest token. Draws follow from the recipe's seed, the
    /// stage's name and the image's number.
    /// Unit: none.
    #[serde(default)]
    #[schemars(range(min = 0))]
    pub(crate) temperature: f64,
    /// Nucleus sampling: only the fewest likeliest tokens that have this probability together are drawn.
    /// Unit: probability.
    #[serde(default = "all_tokens")]
    #[schemars(range(max = 1), extend("exclusiveMinimum" = 0))]
    pub(crate) top_p: f64,
    /// Images that are described side by side.
    /// Unit: images.
    #[serde(default = "recaption_batch")]
    #[schemars(range(min = 1))]
    pub(crate) batch: usize,
    /// Largest share of documents, of at least 20, that may be damaged or without a caption.
    /// Unit: fraction.
    #[serde(default = "recaption_skipped")]
    #[schemars(range(min = 0), extend("exclusiveMaximum" = 1))]
    pub(crate) max_skipped_share: f64,
    /// Size at which a shard is closed. After a kill at most this much is written again.
    /// Unit: MiB.
    #[serde(default = "recaption_shard_mib")]
    #[schemars(range(min = 0.001, max = 1e6))]
    pub(crate) shard_mib: f64,
}

/// A stage that measures the image encoder as the stages before have left it, beside raw pixels and an
/// encoder of random weights.
#[derive(Clone, Debug, PartialEq, Serialize, Deserialize, JsonSchema)]
#[serde(deny_unknown_fields)]
pub(crate) struct ProbeStage {
    /// The stage's name, by which `--set` and reports know it: letters, digits, `-` and `_`.
    #[schemars(pattern("^[A-Za-z0-9_-]+$"))]
    pub(crate) name: String,
    /// The source whose texts are the images' classes, for k-NN, linear probe and zero-shot classification.
    pub(crate) classes: String,
    /// The source of images with captions of their own, for retrieval. It needs a text tower: a contrastive
    /// stage before, or an imported pair of towers. By default retrieval is not measured.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub(crate) captions: Option<String>,
    /// Training images to which the probes are fitted.
    /// Unit: images.
    #[serde(default = "probe_train")]
    #[schemars(range(min = 1))]
    pub(crate) train: u64,
    /// Held-out images on which the probes are scored.
    /// Unit: images.
    #[serde(default = "probe_test")]
    #[schemars(range(min = 1))]
    pub(crate) test: u64,
    /// Held-out pairs for retrieval.
    /// Unit: pairs.
    #[serde(default = "probe_pairs")]
    #[schemars(range(min = 1))]
    pub(crate) pairs: u64,
    /// Neighbours that vote in k-NN: its k.
    /// Unit: neighbours.
    #[serde(default = "probe_neighbours")]
    #[schemars(range(min = 1))]
    pub(crate) neighbours: usize,
    /// Whether an attentive probe is fitted to the patches too. It holds the features of every patch in
    /// memory.
    #[serde(default)]
    pub(crate) attentive: bool,
    /// The prompt of zero-shot classification, with `{}` for the class: `"a photo of a {}"`.
    #[serde(default = "probe_prompt")]
    pub(crate) prompt: String,
}

/// A stage that evaluates the model as the stages before have left it.
#[derive(Clone, Debug, PartialEq, Serialize, JsonSchema)]
#[schemars(deny_unknown_fields)]
pub(crate) struct EvalStage {
    /// The stage's name, by which `--set` and reports know it: letters, digits, `-` and `_`.
    #[schemars(pattern("^[A-Za-z0-9_-]+$"))]
    pub(crate) name: String,
    /// What is asked, after which demonstrations, and what stands beside the scores.
    #[serde(flatten)]
    pub(crate) protocol: Protocol,
}

/// The name and the protocol's fields stand in one table. With serde's own `flatten` a misspelt field would
/// be taken for one that is left out: it does not know which fields are left over.
impl<'de> Deserialize<'de> for EvalStage {
    fn deserialize<D: Deserializer<'de>>(deserializer: D) -> Result<Self, D::Error> {
        let mut fields = Table::deserialize(deserializer)?;
        let name = fields.remove("name").ok_or_else(|| D::Error::missing_field("name"))?;
        let name = name.try_into().map_err(|e| D::Error::custom(format!("name: {e}")))?;
        Ok(Self { name, protocol: fields.try_into().map_err(D::Error::custom)? })
    }
}

fn yes() -> bool {
    true
}
fn all_tokens() -> f64 {
    1.0
}
fn recaption_min_words() -> usize {
    1
}
fn recaption_max_tokens() -> usize {
    96
}
fn recaption_batch() -> usize {
    64
}
fn recaption_skipped() -> f64 {
    0.1
}
fn recaption_shard_mib() -> f64 {
    4.0
}
fn probe_train() -> u64 {
    4000
}
fn probe_test() -> u64 {
    1000
}
fn probe_pairs() -> u64 {
    500
}
fn probe_neighbours() -> usize {
    20
}
fn probe_prompt() -> String {
    "{}".to_owned()
}
