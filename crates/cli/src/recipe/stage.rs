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
}

impl Stage {
    /// The settings of a stage that trains.
    pub(crate) fn training(&self) -> Option<&TrainStage> {
        match self {
            Self::Encoder(s) | Self::Pretrain(s) | Self::Sft(s) => Some(s),
            Self::Probe(_) | Self::Eval(_) => None,
        }
    }

    pub(crate) fn name(&self) -> &str {
        match self {
            Self::Encoder(s) | Self::Pretrain(s) | Self::Sft(s) => &s.name,
            Self::Probe(s) => &s.name,
            Self::Eval(s) => &s.name,
        }
    }
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
