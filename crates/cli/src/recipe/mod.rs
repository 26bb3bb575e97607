//! The [`Recipe`]: what a run is to do, every field with its name and type.

pub(crate) mod built_in;
pub(crate) mod check;
pub(crate) mod export_form;
mod known;
mod limits;
pub(crate) mod refusal;
mod resolution;
mod stage;
mod training;
mod written;

use std::collections::BTreeMap;
use std::path::{Path, PathBuf};

use anyhow::{Context as _, Result, anyhow, ensure};
use mm1_data::image::{ImageConfig, ImageSpec};
use mm1_data::source::SourceConfig;
use mm1_data::store::StoreSpec;
use mm1_data::text_file;
#[cfg(feature = "emoji")]
use mm1_data::world::WorldConfig;
use mm1_model::config::Mm1Config;
use mm1_model::device::DeviceName;
use mm1_model::export::ExportForm;
use mm1_model::ops::Precision;
use mm1_train::OptimizerConfig;
use mm1_train::law::LearningRateLaw;
use schemars::JsonSchema;
use serde::{Deserialize, Serialize};
use toml::{Table, Value};

pub(crate) use self::stage::{EvalStage, ProbeStage, RecaptionStage, Stage};
pub(crate) use self::training::{ObjectiveConfig, ObjectiveKind, TrainStage};
pub(crate) use self::written::{WrittenRecipe, put, read_tree, value_of};

/// A whole run: the data, the model and the stages that it goes through.
#[derive(Clone, Debug, PartialEq, Serialize, Deserialize, JsonSchema)]
#[serde(deny_unknown_fields)]
pub(crate) struct Recipe {
    /// What the run is called in its report and in `plan.toml`.
    pub(crate) name: String,
    /// Seed of every random choice: initial weights, order of the data, augmentations, the built-in images.
    /// Unit: none.
    #[serde(default = "one")]
    pub(crate) seed: u64,
    /// Seed of what there is to see and to be asked: the built-in images, the order inside of each
    /// source, the demonstrations of an evaluation. Runs that differ in `seed` alone then learn from the
    /// same documents and answer the same questions; initial weights, the draw among sources and
    /// augmentations differ. By default it is `seed`.
    /// Unit: none.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    data_seed: Option<u64>,
    /// Precision of matrix products. In training, weights, sums, norms, softmax and loss are always f32
    /// (mixed precision).
    #[serde(default)]
    pub(crate) precision: Precision,
    /// Where tensors are computed: `"cpu"`, or, in a program that was built with the feature of that name,
    /// `"vulkan"`, `"cuda"`, `"metal"` or `"rocm"`. `"cuda:1"` is the second GPU of that kind. A run may be
    /// continued on another device.
    #[serde(default, skip_serializing_if = "is_default")]
    #[schemars(extend("default" = DeviceName::default()))]
    pub(crate) device: DeviceName,
    /// The form in other programs that the model is trained for. A recipe that can't become it is refused.
    #[serde(default, skip_serializing_if = "is_default")]
    #[schemars(extend("default" = ExportForm::default()))]
    pub(crate) export: ExportForm,
    /// The built-in world of images, which all `emoji-…` sources and `scene-…` tasks show.
    #[cfg(feature = "emoji")]
    #[serde(default)]
    pub(crate) world: WorldConfig,
    /// How text becomes tokens.
    pub(crate) tokenizer: TokenizerConfig,
    /// How an image is brought to the encoder's size and range.
    #[serde(default)]
    pub(crate) image: ImageConfig,
    /// The network.
    pub(crate) model: Mm1Config,
    /// The law of the learning rate for stages with `optimizer.lr = "law"`.
    #[serde(default, skip_serializing_if = "is_default")]
    #[schemars(extend("default" = LearningRateLaw::default()))]
    pub(crate) law: LearningRateLaw,
    /// How files are reached and kept. No digit depends on it, so a run may be continued with another one.
    #[serde(default, skip_serializing)]
    #[schemars(extend("default" = {}))]
    pub(crate) store: StoreSpec,
    /// The sources of documents, by the name that mixtures and tasks use.
    pub(crate) data: BTreeMap<String, SourceConfig>,
    /// What is done, in this order.
    #[schemars(length(min = 1))]
    pub(crate) stage: Vec<Stage>,
}

/// Where the tokenizer comes from, `[tokenizer]`.
#[derive(Clone, Debug, PartialEq, Serialize, Deserialize, JsonSchema)]
#[serde(tag = "kind", rename_all = "kebab-case", deny_unknown_fields)]
pub(crate) enum TokenizerConfig {
    /// A byte-level BPE trained on the first `documents` training documents of every source.
    Bpe {
        /// Size of the vocabulary, special tokens included.
        /// Unit: entries.
        vocab: usize,
        /// Training documents that are read from each source.
        /// Unit: documents.
        #[schemars(range(min = 1))]
        documents: u64,
    },
    /// A `tokenizer.json`: byte-level BPE, of this program or another.
    File {
        /// The file. A run folder has one.
        path: PathBuf,
        /// How a conversation becomes text. Left out beside `model.lm.from`: by the chat template, if
        /// there is one in the tokenizer's folder.
        #[serde(default, skip_serializing_if = "is_default")]
        #[schemars(extend("default" = ChatForm::default()))]
        chat: ChatForm,
    },
}

/// How a conversation becomes text.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq, Serialize, Deserialize, JsonSchema)]
#[serde(rename_all = "kebab-case")]
pub(crate) enum ChatForm {
    /// A token of its role begins a turn, and `<|end|>` ends an answer.
    #[default]
    Own,
    /// By the Jinja template of the tokenizer's folder: of its `chat_template.jinja`, else of its
    /// `tokenizer_config.json`. What it writes of an answer, and the token after, is learned.
    Template,
}

fn one() -> u64 {
    1
}

/// A field that has its default is not written: a plan from before there was such a field stays the same.
fn is_default<T: Default + PartialEq>(value: &T) -> bool {
    *value == T::default()
}

impl Recipe {
    /// The seed of what there is to see and to be asked.
    pub(crate) fn data_seed(&self) -> u64 {
        self.data_seed.unwrap_or(self.seed)
    }

    /// The recipe as far as the work of its steps depends on it: the same for runs that differ in seeds,
    /// rates and numbers of steps.
    pub(crate) fn shape(&self) -> Self {
        let mut shape = self.clone();
        (shape.name, shape.seed, shape.data_seed) = (String::new(), 1, None);
        shape.law = LearningRateLaw::default();
        for stage in &mut shape.stage {
            if let Stage::Encoder(s) | Stage::Pretrain(s) | Stage::Sft(s) = stage {
                let OptimizerConfig { freeze, moments, .. } = s.optimizer.clone();
                s.optimizer = OptimizerConfig { freeze, moments, ..OptimizerConfig::default() };
                s.steps = 1;
            }
        }
        shape
    }

    /// How pictures are prepared for the model.
    pub(crate) fn image_spec(&self) -> ImageSpec {
        self.image.clone().of_size(self.model.vision.image_size)
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

    /// The source `name`, the one that it is made of, the one that this is made of, and so on; a circle is
    /// followed once. Of a stage that writes captions, those of its source.
    pub(crate) fn made_of<'a>(&'a self, name: &'a str) -> impl Iterator<Item = &'a SourceConfig> {
        let name = self.recaption(name).map_or(name, |stage| &stage.source);
        let next = |source: &&'a SourceConfig| source.made_of().and_then(|of| self.data.get(of));
        std::iter::successors(self.data.get(name), next).take(self.data.len())
    }

    /// The stage of that name, if it writes captions.
    pub(crate) fn recaption(&self, name: &str) -> Option<&RecaptionStage> {
        self.stage.iter().filter_map(Stage::recaption).find(|stage| stage.name == name)
    }

    /// The stages on whose model `stage` builds, in their order, and `stage` itself as the last: all before
    /// it but those that an `after` leaves aside. Empty where there is no such stage.
    pub(crate) fn line(&self, stage: &str) -> Vec<&Stage> {
        let place = |name: &str, end: usize| self.stage[..end].iter().position(|s| s.name() == name);
        let (mut line, mut at) = (Vec::new(), place(stage, self.stage.len()));
        // Every step goes down, so it ends.
        while let Some(i) = at {
            let stage = &self.stage[i];
            line.push(stage);
            at = match stage.training().and_then(|s| s.after.as_deref()) {
                Some(earlier) => place(earlier, i),
                None => i.checked_sub(1),
            };
        }
        line.reverse();
        line
    }

    /// [`Self::line`] without `stage` itself.
    pub(crate) fn before(&self, stage: &str) -> Vec<&Stage> {
        let mut line = self.line(stage);
        line.pop();
        line
    }

    /// The last stage before `stage` that trains.
    pub(crate) fn trained_before(&self, stage: &str) -> Option<&Stage> {
        self.before(stage).into_iter().rfind(|s| s.training().is_some())
    }

    /// The stage before `stage` whose adapters a stage with the same ones trains further.
    pub(crate) fn kept_adapter_before(&self, stage: &str) -> Option<&TrainStage> {
        let last = self.trained_before(stage).and_then(Stage::training)?;
        last.adapter.as_ref().is_some_and(|adapter| !adapter.merge).then_some(last)
    }

    /// A recipe that another version has written, as this one writes it.
    ///
    /// # Errors
    /// A field that this version does not know.
    pub(crate) fn reread(written: &Value) -> Result<Value> {
        let recipe: Self = written.clone().try_into()?;
        // Through text, so that numbers are those of a file that was read.
        Ok(Value::Table(toml::to_string(&recipe)?.parse()?))
    }

    /// The recipe that a run folder has settled.
    ///
    /// # Errors
    /// One line with the file: a folder without a whole `plan.toml`, or one of another version's fields.
    pub(crate) fn of_run(root: &Path) -> Result<Self> {
        let path = root.join("plan.toml");
        let told = |e: toml::de::Error| anyhow!("{}", e.message());
        let read = || -> Result<Self> {
            let mut plan: Table = text_file::read(&path)?.parse().map_err(told)?;
            let settled = plan.remove("settled").and_then(|settled| settled.get("recipe").cloned());
            settled.context("it has no [settled.recipe]")?.try_into().map_err(told)
        };
        read().with_context(|| path.display().to_string())
    }
}
