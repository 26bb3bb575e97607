//! The [`Recipe`] as a person writes it: TOML, `--set` edits, and refusals that name the field.

pub(crate) mod check;
mod origin;
mod stage;

use std::collections::BTreeMap;
use std::path::{Path, PathBuf};

use anyhow::{Context, Result, ensure};
use mm1_data::image::{Filter, Fit, ImageSpec};
use mm1_data::source::SourceConfig;
use mm1_data::store::StoreSpec;
#[cfg(feature = "emoji")]
use mm1_data::world::WorldConfig;
use mm1_model::config::Mm1Config;
use mm1_model::ops;
use serde::{Deserialize, Serialize};
use toml::{Table, Value};

pub(crate) use self::origin::Origin;
pub(crate) use self::stage::{
    EvalStage, LearningRate, Objective, OptimizerConfig, ProbeStage, Stage, TrainStage, eval_pool,
};
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
    /// Of matrix products; in training weights, sums, norms, softmax and loss are always f32.
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

    /// The last stage before `stage` that trains.
    pub(crate) fn trained_before(&self, stage: &str) -> Option<&Stage> {
        let before = self.stage.iter().take_while(|s| s.name() != stage);
        before.filter(|s| s.training().is_some()).last()
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

    fn parse(text: &str, edits: &[String]) -> Result<Self> {
        let tree = toml::from_str(text).map_err(|e| anyhow::anyhow!("{}", e.to_string().trim()))?;
        Self::of_tree(tree, edits)
    }

    /// The recipe written in `tree`, after the `--set` edits.
    ///
    /// # Errors
    /// A field that is unknown or of another type, with the nearest known one.
    pub(crate) fn of_tree(mut tree: Table, edits: &[String]) -> Result<Self> {
        for edit in edits {
            set(&mut tree, edit).with_context(|| format!("--set {edit}"))?;
        }
        ensure!(!tree.contains_key("ablation"), "an ablation is many runs: `mm1 ablate` does them");
        check_no_filter(&tree)?;
        origin::fill(&mut tree)?;
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

impl From<ImageSpec> for ImageConfig {
    fn from(spec: ImageSpec) -> Self {
        let ImageSpec { mode, filter, mean, std, background, size: _ } = spec;
        Self { mode, filter, mean, std, background }
    }
}

/// Applies one `path=value`; the value is TOML, or else a string.
fn set(tree: &mut Table, edit: &str) -> Result<()> {
    let (path, written) =
        edit.split_once('=').context("write it as path=value, such as model.lm.layers=4")?;
    let value = format!("value = {written}")
        .parse::<Table>()
        .ok()
        .and_then(|mut t| t.remove("value"))
        .unwrap_or_else(|| Value::String(written.to_string()));
    put(tree, path, value)
}

/// Puts `value` at `path`. A table of an array is addressed by its `name`.
///
/// # Errors
/// A path through what is no table.
pub(crate) fn put(tree: &mut Table, path: &str, value: Value) -> Result<()> {
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
