//! [`AblationAxis`], an axis of a study as a recipe writes it, and [`GridAxis`], the same with all its names.

use std::fmt;

use anyhow::{Context as _, Result, bail, ensure};
use schemars::JsonSchema;
use serde::Deserialize;
use toml::{Table, Value};

/// The setting whose axis repeats every other setting.
const SEED: &str = "seed";

/// An axis of a study, `[[ablation.axis]]`: one setting with several values (`path` and `values`), or named
/// values that change several settings together (`name` and `value`).
#[derive(Clone, Debug, Deserialize, JsonSchema)]
#[serde(deny_unknown_fields)]
pub struct AblationAxis {
    /// What is changed, as tables and sentences call it. By default the last two names of `path`, such as
    /// `connector kind`.
    #[serde(default)]
    name: Option<String>,
    /// The setting that takes the `values`, as `--set` has it: `"model.connector.kind"`. The path `"seed"`
    /// makes the axis one of repeats: scores are means over it, and intervals hold its chance. The path
    /// `"recipe"` takes whole recipes: files, from the folder of the study's own, in whose place they are.
    /// An axis without a path has a name and its own `value`s.
    #[serde(default)]
    path: Option<String>,
    /// The values of the setting.
    #[serde(default)]
    #[schemars(with = "Vec<serde_json::Value>")]
    values: Vec<Value>,
    /// Values that change several settings together, of an axis without `path` and `values`.
    #[serde(default)]
    value: Vec<AxisValue>,
    /// The claim that this axis does not matter: its values' mean scores differ by less than this.
    /// Differences are looked for without it.
    /// Unit: that of the score.
    #[serde(default)]
    #[schemars(extend("exclusiveMinimum" = 0))]
    margin: Option<f64>,
}

/// A value of an axis, `[[ablation.axis.value]]`.
#[derive(Clone, Debug, Deserialize, JsonSchema)]
#[serde(deny_unknown_fields)]
pub struct AxisValue {
    /// The value's name in tables and in the names of recipes.
    pub(crate) name: String,
    /// Settings by their path, as `--set` has them: `"stage.pretrain.steps" = 40`.
    #[schemars(with = "serde_json::Map<String, serde_json::Value>")]
    pub(crate) set: Table,
}

/// The name of a value, which may be written as the number or truth that it is.
#[derive(Clone, Debug, PartialEq, Deserialize, JsonSchema)]
#[serde(untagged, expecting = "the name of a value: a text, a number, true or false")]
pub(crate) enum ValueName {
    /// A text.
    Text(String),
    /// A whole number.
    Whole(i64),
    /// Another number.
    Number(f64),
    /// True or false.
    Truth(bool),
}

impl fmt::Display for ValueName {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            Self::Text(text) => f.write_str(text),
            Self::Whole(number) => write!(f, "{}", Value::Integer(*number)),
            Self::Number(number) => write!(f, "{}", Value::Float(*number)),
            Self::Truth(truth) => write!(f, "{truth}"),
        }
    }
}

/// An axis with all its names.
#[derive(Clone, Debug)]
pub struct GridAxis {
    /// Not that of another axis.
    pub name: String,
    /// Their names differ.
    pub values: Vec<AxisValue>,
    /// Whether it repeats every setting with other seeds, and is no setting itself.
    pub repeats: bool,
    /// Which value the others are compared with.
    pub base: usize,
    /// Within what the values are claimed to be alike, if they are.
    pub margin: Option<f64>,
}

impl AblationAxis {
    /// The axis in place `i` of the study, with all its names.
    pub(super) fn resolve(&self, i: usize) -> Result<GridAxis> {
        let named = self.name.as_ref().or(self.path.as_ref());
        let field = named.map_or_else(|| format!("axis.{i}"), |name| format!("axis \"{name}\""));
        let axis = match (&self.path, &self.name) {
            (Some(path), _) => {
                ensure!(
                    self.value.is_empty(),
                    "{field} has a path and [[ablation.axis.value]]: take path with values = […], or name \
                     with values that set paths"
                );
                ensure!(!self.values.is_empty(), "{field} needs values = […] to choose from");
                let name = self.name.clone().unwrap_or_else(|| short_name(path));
                let value = |value: &Value| AxisValue {
                    name: shown(value),
                    set: [(path.clone(), value.clone())].into_iter().collect(),
                };
                let values = self.values.iter().map(value).collect();
                let repeats = path == SEED;
                GridAxis { name, values, repeats, base: 0, margin: self.margin }
            }
            (None, Some(name)) => {
                ensure!(
                    self.values.is_empty(),
                    "{field} has values = […] and no path: say which setting takes them, such as \
                     path = \"model.connector.kind\""
                );
                ensure!(
                    !self.value.is_empty(),
                    "{field} needs values to choose from: [[ablation.axis.value]]"
                );
                let values = self.value.clone();
                let repeats = values.iter().all(|value| value.set.len() == 1 && value.set.contains_key(SEED));
                GridAxis { name: name.clone(), values, repeats, base: 0, margin: self.margin }
            }
            (None, None) => bail!("{field} needs a path with values, or a name with [[ablation.axis.value]]"),
        };
        axis.check().with_context(|| field)?;
        Ok(axis)
    }
}

impl GridAxis {
    fn check(&self) -> Result<()> {
        for (i, value) in self.values.iter().enumerate() {
            let twice = self.values[..i].iter().any(|before| before.name == value.name);
            ensure!(!twice, "the value \"{}\" comes twice: remove one, or give it another name", value.name);
            if let Some(seed) = value.set.get(SEED) {
                let whole = seed.as_integer().is_some_and(|seed| seed >= 0);
                ensure!(whole, "seed = {seed} must be a whole number, 0 or more");
            }
        }
        if let Some(margin) = self.margin {
            ensure!(margin.is_finite() && margin > 0.0, "margin = {margin} must be above 0");
            ensure!(
                !self.repeats,
                "margin: seeds are repeats of a setting and are not compared: leave it out"
            );
        }
        Ok(())
    }
}

/// `connector kind` of `model.connector.kind`.
fn short_name(path: &str) -> String {
    let parts: Vec<&str> = path.split('.').collect();
    parts[parts.len().saturating_sub(2)..].join(" ")
}

/// A value as a name: a text without its quotes.
fn shown(value: &Value) -> String {
    value.as_str().map_or_else(|| value.to_string(), str::to_owned)
}
