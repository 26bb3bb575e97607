//! The [`Stage`]s of a recipe and their settings.

use std::path::PathBuf;

use anyhow::{Result, ensure};
use mm1_eval::shots::Choice;
use schemars::JsonSchema;
use serde::{Deserialize, Serialize};

use super::{TrainStage, is_default};

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
    /// The source whose texts are the pictures' classes, for k-NN, linear probe and zero-shot classification.
    pub(crate) classes: String,
    /// The source of pictures with captions of their own, for retrieval. It needs a text tower: a contrastive
    /// stage before, or an imported pair of towers. By default retrieval is not measured.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub(crate) captions: Option<String>,
    /// Training pictures to which the probes are fitted.
    /// Unit: pictures.
    #[serde(default = "probe_train")]
    #[schemars(range(min = 1))]
    pub(crate) train: u64,
    /// Held-out pictures on which the probes are scored.
    /// Unit: pictures.
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
#[derive(Clone, Debug, PartialEq, Serialize, Deserialize, JsonSchema)]
#[serde(deny_unknown_fields)]
pub(crate) struct EvalStage {
    /// The stage's name, by which `--set` and reports know it: letters, digits, `-` and `_`.
    #[schemars(pattern("^[A-Za-z0-9_-]+$"))]
    pub(crate) name: String,
    /// Names of tasks. `captions:SOURCE` is captioning of a source's held-out pictures, `vqa:SOURCE` are
    /// questions about them; `vqa:SOURCE/OTHER` takes the demonstrations from another source.
    #[schemars(length(min = 1))]
    pub(crate) tasks: Vec<String>,
    /// Numbers of demonstrations (shots) with which each task is asked.
    /// Unit: demonstrations.
    #[schemars(length(min = 1))]
    pub(crate) shots: Vec<usize>,
    /// Questions of each task.
    /// Unit: questions.
    #[schemars(range(min = 1))]
    pub(crate) questions: usize,
    /// Questions answered in one batch; no score depends on it.
    /// Unit: questions.
    #[serde(default = "eval_batch")]
    #[schemars(range(min = 1))]
    pub(crate) batch: usize,
    /// Whether the blind baseline is measured too: the same questions with grey pictures.
    #[serde(default = "yes")]
    pub(crate) blind: bool,
    /// Which training items are shown as demonstrations.
    #[serde(default)]
    pub(crate) demonstrations: Choice,
    /// Training items among which `similar` demonstrations are looked for.
    /// Unit: items.
    #[serde(default = "eval_pool")]
    pub(crate) pool: usize,
    /// Whether demonstrations show a chain of thought before their answer, and the model's conclusion is
    /// scored.
    #[serde(default)]
    pub(crate) chain_of_thought: bool,
    /// Side with which the demonstrations' pictures are encoded, in whole patches; by default as the
    /// question's.
    /// Unit: pixels.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    #[schemars(range(min = 1, max = 4096))]
    pub(crate) demonstration_size: Option<usize>,
    /// The last demonstrations that are encoded at full resolution all the same.
    /// Unit: demonstrations.
    #[serde(default, skip_serializing_if = "is_default")]
    #[schemars(extend("default" = 0))]
    pub(crate) sharp_demonstrations: usize,
    /// Training documents of each source with which test items are compared, to find what training has seen;
    /// 0: none.
    /// Unit: documents.
    #[serde(default = "eval_contamination")]
    pub(crate) contamination: u64,
    /// The folder of the test sets on disk, for tasks of real benchmarks.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub(crate) data: Option<PathBuf>,
}

impl EvalStage {
    /// Whether demonstrations can be looked at in the resolution that is asked for.
    ///
    /// # Errors
    /// One line that names the field.
    pub(crate) fn check_demonstration_size(&self, patch: usize) -> Result<()> {
        let Some(size) = self.demonstration_size else { return Ok(()) };
        ensure!(
            (patch..=4096).contains(&size) && size.is_multiple_of(patch),
            "demonstration_size = {size}: give {patch} to 4096 pixels in whole patches of {patch}"
        );
        Ok(())
    }
}

pub(crate) fn eval_batch() -> usize {
    64
}
fn eval_contamination() -> u64 {
    1000
}
pub(crate) fn eval_pool() -> usize {
    1000
}
fn yes() -> bool {
    true
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
