//! The stages that train: [`TrainStage`], and what each of them minimises.

use std::collections::BTreeMap;

use anyhow::{Result, bail, ensure};
use mm1_data::augment::PictureViews;
use mm1_data::image::Tiling;
use mm1_model::adapter::AdapterConfig;
use mm1_model::aim::AimConfig;
use mm1_model::clip::Contrast;
use mm1_model::dino::DinoConfig;
use mm1_train::OptimizerConfig;
use schemars::JsonSchema;
use serde::{Deserialize, Serialize};

use super::is_default;

/// A training stage over packed rows.
#[derive(Clone, Debug, PartialEq, Serialize, Deserialize, JsonSchema)]
#[serde(try_from = "TrainStageFields", into = "TrainStageFields")]
pub(crate) struct TrainStage {
    /// By which `--set`, folders and reports know it.
    pub(crate) name: String,
    /// What is minimised, with its settings.
    pub(crate) objective: ObjectiveConfig,
    /// Weight of each source.
    pub(crate) mixture: BTreeMap<String, f64>,
    /// The earlier stage with whose model it begins; `None`: the one before.
    pub(crate) after: Option<String>,
    /// Optimisation steps.
    pub(crate) steps: u64,
    /// Rows in a micro-batch.
    pub(crate) rows: usize,
    /// Micro-batches in a step.
    pub(crate) accumulate: usize,
    /// Positions in a row.
    pub(crate) length: usize,
    /// Side of the pictures from here on; `None`: as before.
    pub(crate) image_size: Option<usize>,
    /// Into which views pictures are cut from here on; `None`: as before.
    pub(crate) tiling: Option<Tiling>,
    /// Whether blocks are computed again in the backward pass.
    pub(crate) activation_checkpointing: bool,
    /// The adapters that are trained in place of a part's weights, if it has some.
    pub(crate) adapter: Option<AdapterConfig>,
    /// The optimizer and its learning rate.
    pub(crate) optimizer: OptimizerConfig,
    /// When checkpoints are written and how many stay.
    pub(crate) checkpoint: CheckpointConfig,
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

/// What a training stage minimises, with the settings that only this objective has.
#[derive(Clone, Debug, PartialEq)]
pub(crate) enum ObjectiveConfig {
    /// The next token of text.
    Language,
    /// Image tokens near the embeddings of the caption's tokens, as BLIP-2 begins (Li et al. 2023).
    Align,
    /// Contrast of images and captions, with a softmax over the batch (Radford et al. 2021).
    Clip {
        /// What is cut from each image.
        views: PictureViews,
    },
    /// Contrast of images and captions, each pair by itself (Zhai et al. 2023).
    Siglip {
        /// What is cut from each image.
        views: PictureViews,
    },
    /// Self-distillation between views, without captions (Caron et al. 2021).
    Dino {
        /// Two or more global views, and local ones.
        views: PictureViews,
        /// The head, the teacher and the losses.
        dino: DinoConfig,
    },
    /// The next patch's pixels, without captions (El-Nouby et al. 2024).
    Aim {
        /// What is cut from each image.
        views: PictureViews,
        /// The head.
        aim: AimConfig,
    },
    /// The caption's tokens as the image's classes (Huang et al. 2024).
    Superclass {
        /// What is cut from each image.
        views: PictureViews,
    },
}

impl ObjectiveConfig {
    /// As a recipe writes it.
    pub(crate) fn name(&self) -> &'static str {
        self.kind().name()
    }

    /// Which one it is.
    pub(crate) fn kind(&self) -> ObjectiveKind {
        match self {
            Self::Language => ObjectiveKind::Language,
            Self::Align => ObjectiveKind::Align,
            Self::Clip { .. } => ObjectiveKind::Clip,
            Self::Siglip { .. } => ObjectiveKind::Siglip,
            Self::Dino { .. } => ObjectiveKind::Dino,
            Self::Aim { .. } => ObjectiveKind::Aim,
            Self::Superclass { .. } => ObjectiveKind::Superclass,
        }
    }

    /// Whether a row holds as many examples as fit; otherwise it is one image with its caption.
    pub(crate) fn packs(&self) -> bool {
        matches!(self, Self::Language | Self::Align | Self::Superclass { .. })
    }

    /// The loss among pairs, if it is one.
    pub(crate) fn contrast(&self) -> Option<Contrast> {
        match self {
            Self::Clip { .. } => Some(Contrast::Softmax),
            Self::Siglip { .. } => Some(Contrast::Sigmoid),
            _ => None,
        }
    }

    /// What an encoder's objective cuts from each image; the others see the whole.
    pub(crate) fn views(&self) -> Option<&PictureViews> {
        match self {
            Self::Language | Self::Align => None,
            Self::Clip { views }
            | Self::Siglip { views }
            | Self::Dino { views, .. }
            | Self::Aim { views, .. }
            | Self::Superclass { views } => Some(views),
        }
    }
}

/// The names of [`ObjectiveConfig`].
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq, Serialize, Deserialize, JsonSchema)]
#[serde(rename_all = "kebab-case")]
pub(crate) enum ObjectiveKind {
    /// Cross-entropy of the next token.
    #[default]
    Language,
    /// The image tokens near the embeddings of the caption's tokens, one by one.
    /// For a first `pretrain` stage behind an imported language model, which stays frozen: the connector sees
    /// many more images in the same time, as nothing goes through the decoder's blocks.
    Align,
    /// Contrastive loss of images and captions (Radford et al. 2021). This and all that follow are for an
    /// `encoder` stage.
    Clip,
    /// The contrastive loss with a sigmoid for each pair (Zhai et al. 2023), for small batches.
    Siglip,
    /// Self-distillation, without captions (Caron et al. 2021).
    Dino,
    /// Autoregressive prediction of the next patch's pixels, without captions (El-Nouby et al. 2024).
    Aim,
    /// Tokens of the caption as the image's classes (Huang et al. 2024). It learns faster than a contrast
    /// of small batches.
    Superclass,
}

impl ObjectiveKind {
    /// Those of an `encoder` stage.
    pub(crate) const OF_ENCODERS: [Self; 5] =
        [Self::Clip, Self::Siglip, Self::Dino, Self::Aim, Self::Superclass];

    /// As a recipe writes it.
    pub(crate) fn name(self) -> &'static str {
        match self {
            Self::Language => "language",
            Self::Align => "align",
            Self::Clip => "clip",
            Self::Siglip => "siglip",
            Self::Dino => "dino",
            Self::Aim => "aim",
            Self::Superclass => "superclass",
        }
    }
}

/// A stage that trains, as it is written: one optional table for the settings of each objective that has
/// some.
#[derive(Clone, Debug, Serialize, Deserialize, JsonSchema)]
#[serde(deny_unknown_fields)]
#[schemars(rename = "TrainStage")]
#[schemars(extend("dependentSchemas" = {
    "views": { "required": ["objective"], "properties": { "objective": { "not": { "enum": ["language", "align"] } } } },
    "dino": { "required": ["objective"], "properties": { "objective": { "const": "dino" } } },
    "aim": { "required": ["objective"], "properties": { "objective": { "const": "aim" } } },
    "tiling": { "properties": { "objective": { "const": "language" } } },
    "adapter": { "properties": { "objective": { "const": "language" } } },
}))]
struct TrainStageFields {
    /// The stage's name, by which `--set`, folders and reports know it: letters, digits, `-` and `_`.
    #[schemars(pattern("^[A-Za-z0-9_-]+$"))]
    name: String,
    /// What is minimised: `language` in stages of kind `pretrain` and `sft`, or `align` in kind `pretrain`;
    /// another one in kind `encoder`.
    #[serde(default)]
    objective: ObjectiveKind,
    /// Sources and their weights: documents are drawn in these proportions, which need not add up to 1.
    /// Unit: weight.
    #[schemars(extend("minProperties" = 1))]
    mixture: BTreeMap<String, f64>,
    /// The earlier stage with whose model this one begins; by default the one before. What the stages
    /// between have learned is left aside.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    after: Option<String>,
    /// Optimisation steps of the stage.
    /// Unit: steps.
    #[schemars(range(min = 1))]
    steps: u64,
    /// Rows in a micro-batch: its batch size. A row is a sequence of `length` tokens, into which documents
    /// are packed one after another; for objectives `clip`, `siglip`, `dino` and `aim` it is one image with
    /// its caption.
    /// Unit: rows.
    #[schemars(range(min = 1))]
    rows: usize,
    /// Micro-batches in a step (gradient accumulation).
    /// Unit: micro-batches.
    #[serde(default = "one")]
    #[schemars(range(min = 1))]
    accumulate: usize,
    /// Tokens in a row, image tokens among them: the length of a sequence. A step takes `rows * accumulate *
    /// length` tokens, fewer where documents do not fill their rows.
    /// Unit: tokens.
    #[schemars(range(min = 1))]
    length: usize,
    /// Side of the images in this stage and those after it: when it begins, the position tables of encoder
    /// and connector are interpolated (bicubic), and trained on. By default as before; at first
    /// `model.vision.image_size`.
    /// Unit: pixels.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    #[schemars(range(min = 1))]
    image_size: Option<usize>,
    /// Into which views images are cut in this stage and those after it; only in stages of kind `pretrain`
    /// and `sft`. By default as before; at first `image.tiling`.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    tiling: Option<Tiling>,
    /// Activation checkpointing (Chen et al. 2016): the backward pass recomputes each block's activations.
    /// The same digits in less memory, for up to a third more time.
    #[serde(default, alias = "recompute_blocks")]
    activation_checkpointing: bool,
    /// Low-rank adapters (LoRA); only in stages of kind `pretrain` and `sft`. By default there are none, and
    /// every part is trained that `optimizer.freeze` does not name.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    adapter: Option<AdapterConfig>,
    /// The augmented views that a stage of kind `encoder` takes of each image; only in such a stage. By
    /// default one view that shows the whole image as it is.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    views: Option<PictureViews>,
    /// Settings of objective `dino`; only in a stage with this objective.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    #[schemars(extend("default" = {}))]
    dino: Option<DinoConfig>,
    /// Settings of objective `aim`; only in a stage with this objective.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    #[schemars(extend("default" = {}))]
    aim: Option<AimConfig>,
    /// AdamW and its learning-rate schedule.
    #[serde(default)]
    optimizer: OptimizerConfig,
    /// When checkpoints are written and how many are kept.
    #[serde(default)]
    checkpoint: CheckpointConfig,
}

fn one() -> usize {
    1
}

impl TryFrom<TrainStageFields> for TrainStage {
    type Error = anyhow::Error;

    /// Refuses settings of another objective.
    fn try_from(fields: TrainStageFields) -> Result<Self> {
        let objective = fields.objective()?;
        let TrainStageFields { name, mixture, after, steps, rows, accumulate, length, .. } = fields;
        let TrainStageFields { image_size, tiling, activation_checkpointing, adapter, .. } = fields;
        let TrainStageFields { optimizer, checkpoint, .. } = fields;
        Ok(Self {
            name,
            objective,
            mixture,
            after,
            steps,
            rows,
            accumulate,
            length,
            image_size,
            tiling,
            activation_checkpointing,
            adapter,
            optimizer,
            checkpoint,
        })
    }
}

impl TrainStageFields {
    fn objective(&self) -> Result<ObjectiveConfig> {
        let (kind, name) = (self.objective, &self.name);
        for (table, written, owner) in [
            ("dino", self.dino.is_some(), ObjectiveKind::Dino),
            ("aim", self.aim.is_some(), ObjectiveKind::Aim),
        ] {
            ensure!(
                !written || kind == owner,
                "stage.{name}.{table} belongs to objective = \"{table}\", but this stage has objective = \
                 \"{}\": leave the table out, or change the objective",
                kind.name()
            );
        }
        ensure!(
            self.tiling.is_none() || kind == ObjectiveKind::Language,
            "stage.{name}.tiling belongs to stages of kind \"pretrain\" and \"sft\", but this stage has \
             objective = \"{}\", which sees each image as one: leave it out",
            kind.name()
        );
        ensure!(
            self.adapter.is_none() || kind == ObjectiveKind::Language,
            "stage.{name}.adapter belongs to stages of kind \"pretrain\" and \"sft\", but this stage has \
             objective = \"{}\": leave the table out",
            kind.name()
        );
        let views = self.views.clone().unwrap_or_default();
        Ok(match kind {
            ObjectiveKind::Language | ObjectiveKind::Align if self.views.is_some() => bail!(
                "stage.{name}.views belongs to a stage of kind \"encoder\"; objective \"{}\" sees whole \
                 images: leave the table out",
                kind.name()
            ),
            ObjectiveKind::Language => ObjectiveConfig::Language,
            ObjectiveKind::Align => ObjectiveConfig::Align,
            ObjectiveKind::Clip => ObjectiveConfig::Clip { views },
            ObjectiveKind::Siglip => ObjectiveConfig::Siglip { views },
            ObjectiveKind::Dino => {
                ObjectiveConfig::Dino { views, dino: self.dino.clone().unwrap_or_default() }
            }
            ObjectiveKind::Aim => ObjectiveConfig::Aim { views, aim: self.aim.clone().unwrap_or_default() },
            ObjectiveKind::Superclass => ObjectiveConfig::Superclass { views },
        })
    }
}

impl From<TrainStage> for TrainStageFields {
    /// A table that stands for nothing is not written: a plan from before there was such a table stays the
    /// same.
    fn from(stage: TrainStage) -> Self {
        let TrainStage { name, objective, mixture, after, steps, rows, accumulate, length, .. } = stage;
        let TrainStage { image_size, tiling, activation_checkpointing, adapter, .. } = stage;
        let TrainStage { optimizer, checkpoint, .. } = stage;
        let kind = objective.kind();
        let views = objective.views().filter(|views| !is_default(*views)).cloned();
        let (dino, aim) = match objective {
            ObjectiveConfig::Dino { dino, .. } => (Some(dino), None),
            ObjectiveConfig::Aim { aim, .. } => (None, Some(aim)),
            _ => (None, None),
        };
        Self {
            name,
            objective: kind,
            mixture,
            after,
            steps,
            rows,
            accumulate,
            length,
            image_size,
            tiling,
            activation_checkpointing,
            adapter,
            views,
            dino: dino.filter(|dino| !is_default(dino)),
            aim: aim.filter(|aim| !is_default(aim)),
            optimizer,
            checkpoint,
        }
    }
}
