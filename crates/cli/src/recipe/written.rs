//! A recipe as a person writes it: TOML, `--set` edits, and refusals that name the field. Nothing is opened
//! here.

use std::path::{Path, PathBuf};

use anyhow::{Context as _, Result, ensure};
use mm1_data::text_file;
use serde_path_to_error::Segment;
use toml::{Table, Value};

use super::Recipe;
use crate::error::InputError;

/// A recipe after the edits of the command line, before its fields are checked. What the encoder of
/// `model.vision.from` says of itself may still be missing.
#[derive(Clone, Debug)]
pub(crate) struct WrittenRecipe {
    /// Named by every refusal.
    file: PathBuf,
    tree: Table,
}

impl WrittenRecipe {
    /// Reads the recipe at `file` and applies the edits.
    ///
    /// # Errors
    /// [`InputError`] with the file and the edit, or the place that is no TOML.
    pub(crate) fn read(file: &Path, edits: &[String]) -> Result<Self> {
        let text = text_file::read(file)
            .map_err(|e| InputError::new(format!("{}: the recipe {e:#}", file.display())))?;
        let tree = toml::from_str(&text)
            .map_err(|e| InputError::new(format!("{}: {}", file.display(), e.to_string().trim())))?;
        Self::of_tree(file, tree, edits)
    }

    /// The recipe written in `tree`, of the file `file`, after the edits.
    ///
    /// # Errors
    /// [`InputError`] with the file and the edit; what belongs to another command.
    pub(crate) fn of_tree(file: &Path, tree: Table, edits: &[String]) -> Result<Self> {
        let mut written = Self { file: file.to_owned(), tree };
        written.change(|tree| {
            for edit in edits {
                set(tree, edit).with_context(|| format!("--set {edit}"))?;
            }
            ensure!(!tree.contains_key("ablation"), "an ablation is many runs: `mm1 ablate` does them");
            check_no_filter(tree)
        })?;
        Ok(written)
    }

    /// The same with `value` in the field `field` of the top.
    pub(crate) fn with(mut self, field: &str, value: &str) -> Self {
        self.tree.insert(field.to_owned(), Value::String(value.to_owned()));
        self
    }

    /// Lets `change` edit the recipe; what it refuses is said with the file's name.
    ///
    /// # Errors
    /// [`InputError`] with the file and what `change` refused.
    pub(crate) fn change<T>(&mut self, change: impl FnOnce(&mut Table) -> Result<T>) -> Result<T> {
        let file = self.file.display();
        change(&mut self.tree).map_err(|e| InputError::new(format!("{file}: {e:#}")).into())
    }

    /// Checks every field's name and type.
    ///
    /// # Errors
    /// [`InputError`] with the file, the field and the nearest known one.
    pub(crate) fn parse(mut self) -> Result<Recipe> {
        self.change(|tree| {
            let tree = Value::Table(std::mem::take(tree));
            serde_path_to_error::deserialize(tree.clone()).map_err(|e| {
                let (path, message) = (e.path().to_string(), e.inner().to_string());
                let message = message.trim();
                let place = if path == "." { String::new() } else { format!("{path}: ") };
                of_another_kind(&tree, e.path(), message)
                    .unwrap_or_else(|| anyhow::anyhow!("{place}{}", with_nearest(message)))
            })
        })
    }
}

/// What is said of a field that the `kind` of its table at `path` does not have, if it is no slip of the pen.
fn of_another_kind(tree: &Value, path: &serde_path_to_error::Path, message: &str) -> Option<anyhow::Error> {
    let (field, known) = unknown_field(message)?;
    let table = path.iter().try_fold(tree, |tree, segment| match segment {
        Segment::Map { key } => tree.get(key),
        Segment::Seq { index } => tree.get(*index),
        Segment::Enum { .. } | Segment::Unknown => None,
    })?;
    let kind = table.get("kind")?.as_str()?;
    nearest(field, &known)
        .is_none()
        .then(|| anyhow::anyhow!("{path}.{field}: {kind} has no such setting; it has: {}", known.join(", ")))
}

/// The parts of serde's "unknown field `x`, expected one of `y`, `z`".
fn unknown_field(message: &str) -> Option<(&str, Vec<&str>)> {
    let mut quoted = message.strip_prefix("unknown field ")?.split('`').skip(1).step_by(2);
    Some((quoted.next()?, quoted.collect()))
}

/// The known name that `wrong` was perhaps meant to be.
fn nearest<'a>(wrong: &str, known: &[&'a str]) -> Option<&'a str> {
    let alike = |name: &str| strsim::jaro(wrong, name);
    known.iter().copied().max_by(|a, b| alike(a).total_cmp(&alike(b))).filter(|best| alike(best) > 0.6)
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
    match quoted.split_first().and_then(|(wrong, known)| nearest(wrong, known)) {
        Some(best) if unknown => format!("{message}; did you mean `{best}`?"),
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
