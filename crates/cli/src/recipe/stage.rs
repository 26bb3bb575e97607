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
use serde::{Deserialize, Serialize};

/// One station of the road.
#[derive(Clone, Debug, PartialEq, Serialize, Deserialize)]
#[serde(tag = "kind", rename_all = "kebab-case")]
pub(crate) enum Stage {
    /// Trains the image encoder alone.
    Encoder(TrainStage),
    /// Measures the image encoder alone.
    Probe(ProbeStage),
    /// Next-token prediction on a mixture of documents.
    Pretrain(TrainStage),
    /// Supervised fine-tuning on conversations: the same loop, loss on the answers only.
    Sft(TrainStage),
    /// Scores with 0, 4, 8 … demonstrations.
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

/// The settings of the optimiser and its schedule, the same in every training stage.
#[derive(Clone, Debug, PartialEq, Serialize, Deserialize)]
#[serde(deny_unknown_fields, default)]
pub(crate) struct OptimizerConfig {
    /// The peak: `"law"` (paper, section 3.3) or a number.
    pub(crate) lr: LearningRate,
    /// Linear warm-up; then a cosine to a tenth of the peak.
    pub(crate) warmup_steps: u64,
    /// Decoupled, as PyTorch's `AdamW` has it: 0.1 is the paper's λ = 0.1 η.
    pub(crate) weight_decay: f64,
    /// Largest norm of all gradients together.
    pub(crate) clip_norm: f64,
    /// How the moments are kept: in `"f32"`, or in `"8bit"`, with which a trained parameter takes 10 bytes in place of 16.
    #[serde(skip_serializing_if = "is_default")]
    pub(crate) moments: MomentFormat,
    /// A factor on the learning rate for each part of the model.
    pub(crate) scale: GroupScale,
    /// Parts that stay as they are: `vision`, `connector`, `lm`.
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
#[derive(Clone, Copy, Debug, PartialEq, Serialize, Deserialize)]
#[serde(untagged)]
pub(crate) enum LearningRate {
    /// The number itself.
    Value(f64),
    /// From the number of parameters.
    Law(Law),
}

/// The one word that [`LearningRate`] knows.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "kebab-case")]
pub(crate) enum Law {
    /// η = exp(-0.4214 ln N - 0.5535).
    Law,
}

/// Factors on the learning rate.
#[derive(Clone, Copy, Debug, PartialEq, Serialize, Deserialize)]
#[serde(deny_unknown_fields, default)]
pub(crate) struct GroupScale {
    /// Of the image encoder.
    pub(crate) vision: f64,
    /// Of the connector.
    pub(crate) connector: f64,
    /// Of the language model.
    pub(crate) lm: f64,
}

impl Default for GroupScale {
    fn default() -> Self {
        Self { vision: 1.0, connector: 1.0, lm: 1.0 }
    }
}

/// When checkpoints are written and how many stay.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Serialize, Deserialize)]
#[serde(deny_unknown_fields, default)]
pub(crate) struct CheckpointConfig {
    /// Steps between two; the last step always has one.
    pub(crate) every: u64,
    /// How many of a stage are kept.
    pub(crate) keep: usize,
}

impl Default for CheckpointConfig {
    fn default() -> Self {
        Self { every: 100, keep: 2 }
    }
}

/// A training stage over packed rows.
#[derive(Clone, Debug, PartialEq, Serialize, Deserialize)]
#[serde(deny_unknown_fields)]
pub(crate) struct TrainStage {
    /// By which `--set`, folders and reports know it.
    pub(crate) name: String,
    /// What is minimised.
    #[serde(default)]
    pub(crate) objective: Objective,
    /// Weight of each source.
    pub(crate) mixture: BTreeMap<String, f64>,
    /// Optimisation steps.
    pub(crate) steps: u64,
    /// Rows in a micro-batch. For objectives `clip`, `siglip`, `dino` and `aim` a row is one picture with its caption; for the
    /// others examples are packed into it.
    pub(crate) rows: usize,
    /// Micro-batches in a step.
    #[serde(default = "one_usize")]
    pub(crate) accumulate: usize,
    /// Positions in a row.
    pub(crate) length: usize,
    /// Activation checkpointing (Chen et al. 2016): blocks are computed again on the way back. The same digits in less
    /// memory, for up to a third more time.
    #[serde(default)]
    pub(crate) recompute_blocks: bool,
    /// What an `encoder` stage cuts from each picture, and does to it.
    #[serde(default, skip_serializing_if = "is_default")]
    pub(crate) views: Views,
    /// Settings of objective `dino`.
    #[serde(default, skip_serializing_if = "is_default")]
    pub(crate) dino: DinoConfig,
    /// Settings of objective `aim`.
    #[serde(default, skip_serializing_if = "is_default")]
    pub(crate) aim: AimConfig,
    /// The optimiser.
    #[serde(default)]
    pub(crate) optimizer: OptimizerConfig,
    /// Checkpoints.
    #[serde(default)]
    pub(crate) checkpoint: CheckpointConfig,
}

/// What a training stage minimises.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "kebab-case")]
pub(crate) enum Objective {
    /// The next token of text.
    #[default]
    Language,
    /// Contrast of pictures and captions (Radford et al. 2021); for an `encoder` stage, as all that follow.
    Clip,
    /// The same with each pair by itself (Zhai et al. 2023), for small batches.
    Siglip,
    /// Self-distillation, without captions (Caron et al. 2021).
    Dino,
    /// The next patch's pixels, without captions (El-Nouby et al. 2024).
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

/// Measures of the image encoder as the stages before have left it, beside raw pixels and an encoder of random weights.
#[derive(Clone, Debug, PartialEq, Serialize, Deserialize)]
#[serde(deny_unknown_fields)]
pub(crate) struct ProbeStage {
    /// By which `--set` and reports know it.
    pub(crate) name: String,
    /// The source whose texts are the pictures' classes: for k-NN, linear probe and zero-shot classification.
    pub(crate) classes: String,
    /// The source of pictures with captions of their own, for retrieval; only where there is a text tower: after a
    /// contrastive stage, or with an imported pair.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub(crate) captions: Option<String>,
    /// Training pictures, by which the others are judged.
    #[serde(default = "probe_train")]
    pub(crate) train: u64,
    /// Held-out pictures.
    #[serde(default = "probe_test")]
    pub(crate) test: u64,
    /// Held-out pairs for retrieval.
    #[serde(default = "probe_pairs")]
    pub(crate) pairs: u64,
    /// Neighbours that vote (k).
    #[serde(default = "probe_neighbours")]
    pub(crate) neighbours: usize,
    /// Whether an attentive probe is fitted to the patches too: it keeps the features of every patch in memory.
    #[serde(default)]
    pub(crate) attentive: bool,
    /// What zero-shot classification says of a class, in the place of `{}`.
    #[serde(default = "probe_prompt")]
    pub(crate) prompt: String,
}

/// An evaluation of the model as the stages before have left it.
#[derive(Clone, Debug, PartialEq, Serialize, Deserialize)]
#[serde(deny_unknown_fields)]
pub(crate) struct EvalStage {
    /// By which `--set` and reports know it.
    pub(crate) name: String,
    /// Names of tasks; `captions:SOURCE` is captioning of a source's held-out pictures, `vqa:SOURCE`
    /// are questions about them (`vqa:SOURCE/OTHER`: demonstrated by another source).
    pub(crate) tasks: Vec<String>,
    /// Numbers of demonstrations.
    pub(crate) shots: Vec<usize>,
    /// Questions of each task.
    pub(crate) questions: usize,
    /// Questions answered side by side; no score depends on it.
    #[serde(default = "eval_batch")]
    pub(crate) batch: usize,
    /// Whether the blind score is measured too.
    #[serde(default = "yes")]
    pub(crate) blind: bool,
    /// Which training items are shown: `random`, `fixed` or `similar`.
    #[serde(default)]
    pub(crate) demonstrations: Choice,
    /// Training items among which similar ones are looked for.
    #[serde(default = "eval_pool")]
    pub(crate) pool: usize,
    /// Whether demonstrations show the way to their answer, and the model's conclusion is scored.
    #[serde(default)]
    pub(crate) chain_of_thought: bool,
    /// Pixels a side with which the demonstrations' pictures are looked at; without it as the question's.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub(crate) demonstration_size: Option<usize>,
    /// How many of the last demonstrations are looked at as the question all the same.
    #[serde(default, skip_serializing_if = "is_default")]
    pub(crate) sharp_demonstrations: usize,
    /// Training documents of each source that test items are compared with; 0: none.
    #[serde(default = "eval_contamination")]
    pub(crate) contamination: u64,
    /// The folder of the test sets on disk.
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
