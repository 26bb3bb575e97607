//! The [`Stage`]s of a recipe and their settings.

use std::collections::BTreeMap;
use std::path::PathBuf;

use anyhow::{Result, ensure};
use mm1_data::augment::Views;
use mm1_eval::shots::Choice;
use mm1_model::aim::AimConfig;
use mm1_model::clip::Contrast;
use mm1_model::dino::DinoConfig;
use mm1_train::MomentFormat;
use schemars::JsonSchema;
use serde::{Deserialize, Serialize};

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

/// AdamW and its learning-rate schedule, `optimizer`, in every stage that trains.
#[derive(Clone, Debug, PartialEq, Serialize, Deserialize, JsonSchema)]
#[serde(deny_unknown_fields, default)]
pub(crate) struct OptimizerConfig {
    /// Peak learning rate: a number, or `"law"` for the paper's law (section 3.3).
    /// Unit: none.
    pub(crate) lr: LearningRate,
    /// Linear warm-up; a cosine to a tenth of the peak follows.
    /// Unit: steps.
    pub(crate) warmup_steps: u64,
    /// Decoupled weight decay, as in PyTorch's `AdamW`; 0.1 is the paper's λ = 0.1 η.
    /// Unit: factor.
    #[schemars(range(min = 0))]
    pub(crate) weight_decay: f64,
    /// Largest norm of all gradients together; a larger one is scaled down to it.
    /// Unit: none.
    #[schemars(extend("exclusiveMinimum" = 0))]
    pub(crate) clip_norm: f64,
    /// How AdamW's moments are stored. With `"8bit"` a trained parameter takes 10 bytes, with `"f32"` 16.
    #[serde(skip_serializing_if = "is_default")]
    #[schemars(extend("default" = MomentFormat::default()))]
    pub(crate) moments: MomentFormat,
    /// Factors on the learning rate, for each part of the model.
    pub(crate) scale: GroupScale,
    /// Frozen parts of the model: `vision`, `connector`, `lm`.
    #[schemars(inner(pattern("^(vision|connector|lm)$")))]
    pub(crate) freeze: Vec<String>,
}

impl Default for OptimizerConfig {
    fn default() -> Self {
        Self {
            lr: LearningRate::Law(Law::Law),
            warmup_steps: 100,
            weight_decay: 0.1,
            clip_norm: 1.0,
            moments: MomentFormat::F32,
            scale: GroupScale::default(),
            freeze: Vec::new(),
        }
    }
}

/// A learning rate: a number or `"law"`.
#[derive(Clone, Copy, Debug, PartialEq, Serialize, Deserialize, JsonSchema)]
#[serde(untagged)]
pub(crate) enum LearningRate {
    /// The number itself.
    Value(#[schemars(extend("exclusiveMinimum" = 0))] f64),
    /// From the number of parameters.
    Law(Law),
}

/// The one word that [`LearningRate`] knows.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Serialize, Deserialize, JsonSchema)]
#[serde(rename_all = "kebab-case")]
pub(crate) enum Law {
    /// η = exp(-0.4214 ln N - 0.5535), with N the number of trained parameters.
    Law,
}

/// Factors on the learning rate, `optimizer.scale`.
#[derive(Clone, Copy, Debug, PartialEq, Serialize, Deserialize, JsonSchema)]
#[serde(deny_unknown_fields, default)]
pub(crate) struct GroupScale {
    /// Factor of the image encoder.
    /// Unit: factor.
    #[schemars(range(min = 0))]
    pub(crate) vision: f64,
    /// Factor of the connector.
    /// Unit: factor.
    #[schemars(range(min = 0))]
    pub(crate) connector: f64,
    /// Factor of the language model.
    /// Unit: factor.
    #[schemars(range(min = 0))]
    pub(crate) lm: f64,
}

impl Default for GroupScale {
    fn default() -> Self {
        Self { vision: 1.0, connector: 1.0, lm: 1.0 }
    }
}

/// When checkpoints are written and how many are kept, `checkpoint`.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Serialize, Deserialize, JsonSchema)]
#[serde(deny_unknown_fields, default)]
pub(crate) struct CheckpointConfig {
    /// Steps from one checkpoint to the next; the last step always has one.
    /// Unit: steps.
    #[schemars(range(min = 1))]
    pub(crate) every: u64,
    /// The newest checkpoints of a stage that are kept; older ones are removed.
    /// Unit: checkpoints.
    #[schemars(range(min = 1))]
    pub(crate) keep: usize,
}

impl Default for CheckpointConfig {
    fn default() -> Self {
        Self { every: 100, keep: 2 }
    }
}

/// A stage that trains.
#[derive(Clone, Debug, PartialEq, Serialize, Deserialize, JsonSchema)]
#[serde(deny_unknown_fields)]
pub(crate) struct TrainStage {
    /// The stage's name, by which `--set`, folders and reports know it: letters, digits, `-` and `_`.
    #[schemars(pattern("^[A-Za-z0-9_-]+$"))]
    pub(crate) name: String,
    /// What is minimised: `language` in stages of kind `pretrain` and `sft`, another one in kind `encoder`.
    #[serde(default)]
    pub(crate) objective: Objective,
    /// Sources and their weights: documents are drawn in these proportions, which need not add up to 1.
    /// Unit: weight.
    #[schemars(extend("minProperties" = 1))]
    pub(crate) mixture: BTreeMap<String, f64>,
    /// Optimisation steps of the stage.
    /// Unit: steps.
    #[schemars(range(min = 1))]
    pub(crate) steps: u64,
    /// Rows in a micro-batch. For objectives `clip`, `siglip`, `dino` and `aim` a row is one picture with its
    /// caption; for the others examples are packed into it.
    /// Unit: rows.
    #[schemars(range(min = 1))]
    pub(crate) rows: usize,
    /// Micro-batches in a step (gradient accumulation).
    /// Unit: micro-batches.
    #[serde(default = "one_usize")]
    #[schemars(range(min = 1))]
    pub(crate) accumulate: usize,
    /// Positions in a row, image tokens included.
    /// Unit: positions.
    #[schemars(range(min = 1))]
    pub(crate) length: usize,
    /// Activation checkpointing (Chen et al. 2016): the backward pass recomputes each block's activations.
    /// The same digits in less memory, for up to a third more time.
    #[serde(default)]
    pub(crate) recompute_blocks: bool,
    /// The augmented views that a stage of kind `encoder` takes of each picture.
    #[serde(default, skip_serializing_if = "is_default")]
    pub(crate) views: Views,
    /// Settings of objective `dino`.
    #[serde(default, skip_serializing_if = "is_default")]
    pub(crate) dino: DinoConfig,
    /// Settings of objective `aim`.
    #[serde(default, skip_serializing_if = "is_default")]
    pub(crate) aim: AimConfig,
    /// AdamW and its learning-rate schedule.
    #[serde(default)]
    pub(crate) optimizer: OptimizerConfig,
    /// When checkpoints are written and how many are kept.
    #[serde(default)]
    pub(crate) checkpoint: CheckpointConfig,
}

/// What a training stage minimises.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq, Serialize, Deserialize, JsonSchema)]
#[serde(rename_all = "kebab-case")]
pub(crate) enum Objective {
    /// Cross-entropy of the next token.
    #[default]
    Language,
    /// Contrastive loss of pictures and captions (Radford et al. 2021). This and all that follow are for an
    /// `encoder` stage.
    Clip,
    /// The contrastive loss with a sigmoid for each pair (Zhai et al. 2023), for small batches.
    Siglip,
    /// Self-distillation, without captions (Caron et al. 2021).
    Dino,
    /// Autoregressive prediction of the next patch's pixels, without captions (El-Nouby et al. 2024).
    Aim,
    /// Tokens of the caption as the picture's classes (Huang et al. 2024). It learns faster than
    /// a contrast of small batches.
    Superclass,
}

impl Objective {
    /// Those of an `encoder` stage.
    pub(crate) const OF_ENCODERS: [Self; 5] =
        [Self::Clip, Self::Siglip, Self::Dino, Self::Aim, Self::Superclass];

    /// Whether a row holds as many examples as fit.
    pub(crate) fn packs(self) -> bool {
        matches!(self, Self::Language | Self::Superclass)
    }

    /// The loss among pairs, if it is one.
    pub(crate) fn contrast(self) -> Option<Contrast> {
        match self {
            Self::Clip => Some(Contrast::Softmax),
            Self::Siglip => Some(Contrast::Sigmoid),
            _ => None,
        }
    }

    /// As a recipe writes it.
    pub(crate) fn name(self) -> &'static str {
        match self {
            Self::Language => "language",
            Self::Clip => "clip",
            Self::Siglip => "siglip",
            Self::Dino => "dino",
            Self::Aim => "aim",
            Self::Superclass => "superclass",
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

fn one_usize() -> usize {
    1
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
pub(super) fn is_default<T: Default + PartialEq>(value: &T) -> bool {
    *value == T::default()
}
