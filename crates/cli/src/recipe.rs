//! The [`Recipe`] as a person writes it: TOML, `--set` edits, and refusals that name the field.

use std::collections::BTreeMap;
use std::path::{Path, PathBuf};

use anyhow::{Context, Result};
use mm1_data::image::{Fit, ImageSpec};
use mm1_data::source::SourceConfig;
use mm1_data::store::StoreSpec;
#[cfg(feature = "emoji")]
use mm1_data::world::WorldConfig;
use mm1_eval::shots::Choice;
use mm1_model::config::Mm1Config;
use mm1_model::ops;
use serde::{Deserialize, Serialize};
use toml::{Table, Value};

use crate::error::InputError;

/// A whole run: the data, the model and the stages that it goes through.
#[derive(Clone, Debug, PartialEq, Serialize, Deserialize)]
#[serde(deny_unknown_fields)]
pub(crate) struct Recipe {
    /// What the run is called in its report.
    pub(crate) name: String,
    /// From which every random choice follows.
    #[serde(default = "one")]
    pub(crate) seed: u64,
    /// Of matrix products; weights, sums, norms, softmax and loss are always f32.
    #[serde(default)]
    pub(crate) precision: Precision,
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

impl Precision {
    /// Runs `f` with products in this precision.
    pub(crate) fn of<R>(self, f: impl FnOnce() -> R) -> R {
        let precision = match self {
            Self::F32 => ops::Precision::F32,
            Self::Bf16 => ops::Precision::Bf16,
        };
        ops::with_precision(precision, f)
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
    /// Subtracted from each channel in 0..=1.
    pub(crate) mean: [f32; 3],
    /// Then divided by.
    pub(crate) std: [f32; 3],
    /// What lies under transparent pixels: red, green, blue of 0..=255.
    pub(crate) background: [u8; 3],
}

impl Default for ImageConfig {
    fn default() -> Self {
        Self { mode: Fit::default(), mean: [0.5; 3], std: [0.5; 3], background: [255; 3] }
    }
}

/// One station of the road.
#[derive(Clone, Debug, PartialEq, Serialize, Deserialize)]
#[serde(tag = "kind", rename_all = "kebab-case")]
pub(crate) enum Stage {
    /// Trains the image encoder alone.
    Encoder(TrainStage),
    /// Next-token prediction on a mixture of documents.
    Pretrain(TrainStage),
    /// Supervised fine-tuning on conversations: the same loop, loss on the answers only.
    Sft(TrainStage),
    /// Scores with 0, 4, 8 … demonstrations.
    Eval(EvalStage),
}

impl Stage {
    pub(crate) fn name(&self) -> &str {
        match self {
            Self::Encoder(s) | Self::Pretrain(s) | Self::Sft(s) => &s.name,
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
    /// Packed rows in a micro-batch.
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
    /// Contrast of pictures and captions (Radford et al. 2021); for an `encoder` stage.
    Clip,
    /// Tokens of the caption as the picture's classes (Huang et al. 2024); for an `encoder` stage. It learns faster than
    /// a contrast of small batches.
    Superclass,
}

impl Objective {
    /// As a recipe writes it.
    pub(crate) fn name(self) -> &'static str {
        match self {
            Self::Language => "language",
            Self::Clip => "clip",
            Self::Superclass => "superclass",
        }
    }
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
    /// Training documents of each source that test items are compared with; 0: none.
    #[serde(default = "eval_contamination")]
    pub(crate) contamination: u64,
    /// The folder of the test sets on disk.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub(crate) data: Option<PathBuf>,
}

fn one() -> u64 {
    1
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

impl Recipe {
    /// How pictures are prepared for the model.
    pub(crate) fn image_spec(&self) -> ImageSpec {
        let ImageConfig { mode, mean, std, background } = self.image;
        ImageSpec { mode, mean, std, background, ..ImageSpec::new(self.model.vision.image_size) }
    }

    /// Reads `path`, applies the `--set` edits and checks every field's name and type.
    ///
    /// # Errors
    /// [`InputError`] with the file, the field and the nearest known one.
    pub(crate) fn read(path: &Path, edits: &[String]) -> Result<Self> {
        let text = std::fs::read_to_string(path)
            .map_err(|e| InputError::new(format!("{}: the recipe can't be read: {e}", path.display())))?;
        Self::parse(&text, edits).map_err(|e| InputError::new(format!("{}: {e:#}", path.display())).into())
    }

    fn parse(text: &str, edits: &[String]) -> Result<Self> {
        let mut tree: Table =
            toml::from_str(text).map_err(|e| anyhow::anyhow!("{}", e.to_string().trim()))?;
        for edit in edits {
            set(&mut tree, edit).with_context(|| format!("--set {edit}"))?;
        }
        check_no_filter(&tree)?;
        serde_path_to_error::deserialize(Value::Table(tree)).map_err(|e| {
            let (path, message) = (e.path().to_string(), e.inner().to_string());
            let place = if path == "." { String::new() } else { format!("{path}: ") };
            anyhow::anyhow!("{place}{}", with_nearest(message.trim()))
        })
    }
}

/// Refuses filters, by which data is cleaned once, before training.
fn check_no_filter(tree: &Table) -> Result<()> {
    let mut sources = tree.get("data").and_then(Value::as_table).into_iter().flatten();
    let in_source =
        |(name, source): (&String, &Value)| source.get("filter").map(|_| format!("data.{name}.filter"));
    let written = tree.get("filter").map(|_| "filter".to_owned());
    match written.or_else(|| sources.find_map(in_source)) {
        Some(field) => anyhow::bail!(
            "{field}: a recipe has no filters; data is filtered when it is imported: `mm1 data import` writes what stays as shards"
        ),
        None => Ok(()),
    }
}

/// Applies one `path=value`. A table of an array is addressed by its `name`; the value is TOML, or else a string.
fn set(tree: &mut Table, edit: &str) -> Result<()> {
    let (path, written) =
        edit.split_once('=').context("write it as path=value, such as model.lm.layers=4")?;
    let value = format!("value = {written}")
        .parse::<Table>()
        .ok()
        .and_then(|mut t| t.remove("value"))
        .unwrap_or_else(|| Value::String(written.to_string()));
    let parts: Vec<&str> = path.trim().split('.').collect();
    let (last, parents) = parts.split_last().context("the path is empty")?;
    let mut table = tree;
    let mut rest = parents;
    while let Some((part, after)) = rest.split_first() {
        rest = after;
        let next = table.entry(*part).or_insert_with(|| Value::Table(Table::new()));
        table = match next {
            Value::Table(inner) => inner,
            Value::Array(items) => {
                let (name, after) = rest.split_first().unwrap_or((last, &[]));
                rest = after;
                named(items, name).with_context(|| format!("no [[{part}]] is named \"{name}\""))?
            }
            other => anyhow::bail!("{part} is a {}, not a table", other.type_str()),
        };
    }
    table.insert((*last).to_string(), value);
    Ok(())
}

fn named<'a>(items: &'a mut [Value], name: &str) -> Option<&'a mut Table> {
    items
        .iter_mut()
        .filter_map(Value::as_table_mut)
        .find(|t| t.get("name").and_then(Value::as_str) == Some(name))
}

/// Adds the nearest known name to serde's "unknown field `x`, expected one of `y`, `z`".
fn with_nearest(message: &str) -> String {
    let quoted: Vec<&str> = message.split('`').skip(1).step_by(2).collect();
    let unknown = message.starts_with("unknown field") || message.starts_with("unknown variant");
    match quoted.split_first() {
        Some((wrong, known)) if unknown => {
            let nearest =
                known.iter().max_by(|a, b| strsim::jaro(wrong, a).total_cmp(&strsim::jaro(wrong, b)));
            match nearest {
                Some(best) if strsim::jaro(wrong, best) > 0.6 => {
                    format!("{message}; did you mean `{best}`?")
                }
                _ => message.to_string(),
            }
        }
        _ => message.to_string(),
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn tree(text: &str) -> Table {
        text.parse().expect("toml")
    }

    #[test]
    fn set_addresses_tables_and_named_stages() {
        let mut t = tree(
            "[model.lm]\nlayers = 2\n[[stage]]\nname = \"a\"\nsteps = 1\n[[stage]]\nname = \"b\"\nsteps = 1",
        );
        set(&mut t, "model.lm.layers=5").expect("set");
        set(&mut t, "stage.b.steps=40").expect("set");
        set(&mut t, "stage.b.optimizer.lr=1e-3").expect("set");
        set(&mut t, "name=hello there").expect("set");
        assert_eq!(t["model"]["lm"]["layers"].as_integer(), Some(5));
        assert_eq!(t["stage"][0]["steps"].as_integer(), Some(1));
        assert_eq!(t["stage"][1]["steps"].as_integer(), Some(40));
        assert_eq!(t["stage"][1]["optimizer"]["lr"].as_float(), Some(1e-3));
        assert_eq!(t["name"].as_str(), Some("hello there"));
        let e = set(&mut t, "stage.c.steps=4").expect_err("unknown stage").to_string();
        assert_eq!(e, "no [[stage]] is named \"c\"");
        assert!(set(&mut t, "model.lm.layers.deep=4").is_err());
        assert!(set(&mut t, "nothing").is_err());
    }

    #[test]
    fn unknown_fields_name_their_nearest() {
        assert_eq!(
            with_nearest("unknown field `stepz`, expected one of `name`, `steps`, `rows`"),
            "unknown field `stepz`, expected one of `name`, `steps`, `rows`; did you mean `steps`?"
        );
        assert_eq!(with_nearest("invalid type: string"), "invalid type: string");
    }
}
