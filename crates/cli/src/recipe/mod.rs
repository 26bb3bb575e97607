//! The [`Recipe`]: what a run is to do, every field with its name and type.

pub(crate) mod check;
mod stage;
mod written;

use std::collections::BTreeMap;
use std::path::{Path, PathBuf};

use anyhow::{Context as _, Result, ensure};
use mm1_data::image::{Filter, Fit, ImageSpec};
use mm1_data::source::SourceConfig;
use mm1_data::store::StoreSpec;
#[cfg(feature = "emoji")]
use mm1_data::world::WorldConfig;
use mm1_model::config::Mm1Config;
use mm1_model::device::DeviceKind;
use mm1_model::ops;
use serde::{Deserialize, Serialize};
use toml::Table;

pub(crate) use self::stage::{
    EvalStage, LearningRate, Objective, OptimizerConfig, ProbeStage, Stage, TrainStage, eval_pool,
};
pub(crate) use self::written::{Written, put};

/// A whole run: the data, the model and the stages that it goes through.
#[derive(Clone, Debug, PartialEq, Serialize, Deserialize)]
#[serde(deny_unknown_fields)]
pub(crate) struct Recipe {
    /// What the run is called in its report.
    pub(crate) name: String,
    /// From which every random choice follows.
    #[serde(default = "one")]
    pub(crate) seed: u64,
    /// Of matrix products; in training weights, sums, norms, softmax and loss are always f32.
    #[serde(default)]
    pub(crate) precision: Precision,
    /// Where tensors are computed: `"cpu"`, or `"cuda"` in a program that was built with that feature.
    #[serde(default, skip_serializing_if = "stage::is_default")]
    pub(crate) device: DeviceKind,
    /// The built-in world of pictures.
    #[cfg(feature = "emoji")]
    #[serde(default)]
    pub(crate) world: WorldConfig,
    /// How text becomes tokens.
    pub(crate) tokenizer: TokenizerConfig,
    /// How a picture is brought to the model's size and range.
    #[serde(default)]
    pub(crate) image: ImageConfig,
    /// The network.
    pub(crate) model: Mm1Config,
    /// How files are reached and kept. No digit depends on it, so it is no part of what a run settles.
    #[serde(default, skip_serializing)]
    pub(crate) store: StoreSpec,
    /// The sources by the name that mixtures use.
    pub(crate) data: BTreeMap<String, SourceConfig>,
    /// What is done, in order.
    pub(crate) stage: Vec<Stage>,
}

/// What the inputs of matrix products are rounded to.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "lowercase")]
pub(crate) enum Precision {
    /// Nothing.
    #[default]
    F32,
    /// bfloat16.
    Bf16,
}

impl From<Precision> for ops::Precision {
    fn from(precision: Precision) -> Self {
        match precision {
            Precision::F32 => Self::F32,
            Precision::Bf16 => Self::Bf16,
        }
    }
}

/// Where the tokenizer comes from.
#[derive(Clone, Debug, PartialEq, Serialize, Deserialize)]
#[serde(tag = "kind", rename_all = "kebab-case", deny_unknown_fields)]
pub(crate) enum TokenizerConfig {
    /// A byte-level BPE trained on the first `documents` training documents of every source.
    Bpe {
        /// Entries in all, special tokens included.
        vocab: usize,
        /// Documents read from each source.
        documents: u64,
    },
    /// A `tokenizer.json` of this program.
    File {
        /// The file.
        path: PathBuf,
    },
}

/// How a picture is prepared; its size is the model's.
#[derive(Clone, Debug, PartialEq, Serialize, Deserialize)]
#[serde(deny_unknown_fields, default)]
pub(crate) struct ImageConfig {
    /// What is done with a picture that is not square.
    pub(crate) mode: Fit,
    /// How levels between pixels are found.
    #[serde(skip_serializing_if = "stage::is_default")]
    pub(crate) filter: Filter,
    /// Subtracted from each channel in 0..=1.
    pub(crate) mean: [f32; 3],
    /// Then divided by.
    pub(crate) std: [f32; 3],
    /// What lies under transparent pixels: red, green, blue of 0..=255.
    pub(crate) background: [u8; 3],
}

impl Default for ImageConfig {
    fn default() -> Self {
        Self {
            mode: Fit::default(),
            filter: Filter::default(),
            mean: [0.5; 3],
            std: [0.5; 3],
            background: [255; 3],
        }
    }
}

fn one() -> u64 {
    1
}

impl Recipe {
    /// How pictures are prepared for the model.
    pub(crate) fn image_spec(&self) -> ImageSpec {
        let ImageConfig { mode, filter, mean, std, background } = self.image;
        ImageSpec { size: self.model.vision.image_size, mode, filter, mean, std, background }
    }

    /// Refuses the name of a source that `[data]` does not have, in the setting `field`.
    ///
    /// # Errors
    /// The names that are known.
    pub(crate) fn check_source(&self, field: &str, name: &str) -> Result<()> {
        let known: Vec<&str> = self.data.keys().map(String::as_str).collect();
        ensure!(self.data.contains_key(name), "{field}: no [data.{name}]; known: {}", known.join(", "));
        Ok(())
    }

    /// The last stage before `stage` that trains.
    pub(crate) fn trained_before(&self, stage: &str) -> Option<&Stage> {
        let before = self.stage.iter().take_while(|s| s.name() != stage);
        before.filter(|s| s.training().is_some()).last()
    }

    /// The recipe that a run folder has settled.
    ///
    /// # Errors
    /// A folder without a whole `plan.toml`.
    pub(crate) fn of_run(root: &Path) -> Result<Self> {
        let text = std::fs::read_to_string(root.join("plan.toml"))?;
        let mut plan: Table = text.parse()?;
        let settled = plan.remove("settled").and_then(|settled| settled.get("recipe").cloned());
        Ok(settled.context("plan.toml has no recipe")?.try_into()?)
    }
}

impl From<ImageSpec> for ImageConfig {
    fn from(spec: ImageSpec) -> Self {
        let ImageSpec { mode, filter, mean, std, background, size: _ } = spec;
        Self { mode, filter, mean, std, background }
    }
}
