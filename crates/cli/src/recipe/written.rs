//! A recipe as a person writes it: TOML, `--set` edits, and refusals that name the field. Nothing is opened
//! here.

use std::path::{Path, PathBuf};

use anyhow::{Context as _, Result, ensure};
use mm1_data::text_file;
use toml::{Table, Value};

use super::Recipe;
use super::built_in::BuiltInRecipe;
use super::{limits, refusal};
use crate::error::InputError;

/// A recipe after the edits of the command line, before its fields are checked. What the encoder of
/// `model.vision.from` says of itself may still be missing.
#[derive(Clone, Debug)]
pub(crate) struct WrittenRecipe {
    /// Named by every refusal.
    file: PathBuf,
    tree: Table,
    /// Before the edits of the command line.
    unedited: Table,
}

impl WrittenRecipe {
    /// The recipe written in `tree`, of the file `file`, after the edits.
    ///
    /// # Errors
    /// [`InputError`] with the file and the edit; what belongs to another command.
    pub(crate) fn of_tree(file: &Path, tree: Table, edits: &[String]) -> Result<Self> {
        let mut written = Self { file: file.to_owned(), unedited: tree.clone(), tree };
        written.change(|tree| {
            for edit in edits {
                set(tree, edit).with_context(|| match edit.strip_suffix('=') {
                    Some(path) => format!("--unset {path}"),
                    None => format!("--set {edit}"),
                })?;
            }
            ensure!(!tree.contains_key("ablation"), "an ablation is many runs: `mm1 ablate` does them");
            check_no_filter(tree)?;
            limits::check(tree)
        })?;
        Ok(written)
    }

    /// The same with `value` in the field `field` of the top.
    pub(crate) fn with(mut self, field: &str, value: &str) -> Self {
        self.tree.insert(field.to_owned(), Value::String(value.to_owned()));
        self
    }

    /// As it stands.
    pub(crate) fn tree(&self) -> &Table {
        &self.tree
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
    /// [`InputError`] with the file, the field, what it is, and what it must be.
    pub(crate) fn parse(mut self) -> Result<Recipe> {
        let unedited = std::mem::take(&mut self.unedited);
        self.change(|tree| {
            serde_path_to_error::deserialize(Value::Table(tree.clone()))
                .map_err(|e| refusal::of(tree, &unedited, &e))
        })
    }
}

/// The recipe at `file`, which may be the plan of a run or the name of a built-in recipe.
///
/// # Errors
/// [`InputError`] with the file: one that can't be read, or the place that is no TOML.
pub(crate) fn read_tree(file: &Path) -> Result<Table> {
    let text = match BuiltInRecipe::of_argument(file) {
        Some(recipe) => recipe.text.to_owned(),
        None => read_text(file)?,
    };
    let tree = toml::from_str(&text)
        .map_err(|e| InputError::new(format!("{}: {}", file.display(), e.to_string().trim())))?;
    Ok(of_plan(tree))
}

/// The text of a recipe's file.
fn read_text(file: &Path) -> Result<String> {
    text_file::read(file).map_err(|e| {
        let remedy =
            if file.exists() { "" } else { "; `mm1 recipes` lists those that are inside of this program" };
        InputError::new(format!("{}: the recipe {e:#}{remedy}", file.display())).into()
    })
}

/// The recipe of a run's `plan.toml`, as a person would write it; any other tree as it is.
fn of_plan(mut tree: Table) -> Table {
    let settled = tree.get("settled").and_then(|settled| settled.get("recipe")).and_then(Value::as_table);
    let Some(mut recipe) = settled.cloned() else { return tree };
    // It follows from the tokenizer, which an edit may change.
    if let Some(lm) =
        recipe.get_mut("model").and_then(|model| model.get_mut("lm")).and_then(Value::as_table_mut)
    {
        lm.remove("vocab");
    }
    if let Some(store) = tree.remove("store") {
        recipe.insert("store".to_owned(), store);
    }
    recipe
}

/// Refuses filters, by which data is cleaned once, before training.
fn check_no_filter(tree: &Table) -> Result<()> {
    let mut sources = tree.get("data").and_then(Value::as_table).into_iter().flatten();
    let in_source =
        |(name, source): (&String, &Value)| source.get("filter").map(|_| format!("data.{name}.filter"));
    let written = tree.get("filter").map(|_| "filter".to_owned());
    match written.or_else(|| sources.find_map(in_source)) {
        Some(field) => anyhow::bail!(
            "{field}: a recipe has no filters; data is filtered when it is imported: `mm1 data import` \
             writes what stays as shards"
        ),
        None => Ok(()),
    }
}

/// Applies one `path=value`; the value is TOML, or else a string. Without a value the field is left out.
fn set(tree: &mut Table, edit: &str) -> Result<()> {
    let (path, written) =
        edit.split_once('=').context("write it as path=value, such as model.lm.layers=4")?;
    if written.trim().is_empty() {
        return take(tree, path);
    }
    put(tree, path, value_of(written))
}

/// The value that a command line gives a field: TOML, or else a string.
pub(crate) fn value_of(written: &str) -> Value {
    let table = format!("value = {written}").parse::<Table>().ok();
    // A line break could begin another field, which nobody would read.
    let alone = table.filter(|table| table.len() == 1);
    let value = alone.and_then(|mut table| table.remove("value"));
    value.unwrap_or_else(|| Value::String(written.to_owned()))
}

/// Takes out what is at `path`: a field, a table, or the table of an array by its `name`.
fn take(tree: &mut Table, path: &str) -> Result<()> {
    let missing = || format!("there is no {path} to leave out; an empty text is written {path}='\"\"'");
    let (parents, last) = path.trim().rsplit_once('.').unwrap_or(("", path.trim()));
    let parent = parents
        .split('.')
        .filter(|part| !part.is_empty())
        .try_fold(Place::Table(tree), |place, part| place.inner(part));
    match parent.with_context(missing)? {
        Place::Table(table) => table.remove(last).map(drop),
        Place::Array(items) => items
            .iter()
            .position(|item| item.get("name").and_then(Value::as_str) == Some(last))
            .map(|at| drop(items.remove(at))),
    }
    .with_context(missing)
}

/// A table, or an array of tables that have names.
enum Place<'a> {
    Table(&'a mut Table),
    Array(&'a mut Vec<Value>),
}

impl<'a> Place<'a> {
    /// What is under `part` of it.
    fn inner(self, part: &str) -> Option<Self> {
        match self {
            Self::Table(table) => match table.get_mut(part)? {
                Value::Table(inner) => Some(Self::Table(inner)),
                Value::Array(items) => Some(Self::Array(items)),
                _ => None,
            },
            Self::Array(items) => named(items, part).map(Self::Table),
        }
    }
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
        set(&mut t, "name=1\nseed = 2").expect("one text");
        assert_eq!(t["name"].as_str(), Some("1\nseed = 2"));
        let e = set(&mut t, "stage.c.steps=4").expect_err("unknown stage").to_string();
        assert_eq!(e, "no [[stage]] is named \"c\"");
        assert!(set(&mut t, "model.lm.layers.deep=4").is_err());
        assert!(set(&mut t, "nothing").is_err());
    }

    #[test]
    fn an_edit_without_a_value_leaves_a_field_out() {
        let mut t = tree("name = \"x\"\n[model.lm]\nlayers = 2\n[[stage]]\nname = \"a\"\nsteps = 1");
        set(&mut t, "model.lm.layers=").expect("a field");
        set(&mut t, "stage.a.steps= ").expect("a field of a stage");
        assert!(t["model"]["lm"].as_table().expect("table").is_empty());
        assert!(t["stage"][0].get("steps").is_none());
        set(&mut t, "stage.a=").expect("a stage");
        assert!(t["stage"].as_array().expect("array").is_empty());
        set(&mut t, "model=").expect("a table");
        assert_eq!(t.len(), 2);
        let e = set(&mut t, "model.lm.dim=").expect_err("not there").to_string();
        assert!(e.contains("there is no model.lm.dim to leave out"), "{e}");
        set(&mut t, "name=\"\"").expect("an empty text");
        assert_eq!(t["name"].as_str(), Some(""));
    }

    #[test]
    fn the_plan_of_a_run_is_a_recipe() {
        let plan = tree(
            "version = \"1\"\n[store]\nretries = 3\n[settled.recipe]\nname = \"x\"\n\
             [settled.recipe.model.lm]\nvocab = 300\ndim = 8\n[settled.derived]\nimage_tokens = 4",
        );
        let recipe = of_plan(plan);
        assert_eq!(recipe, tree("name = \"x\"\n[model.lm]\ndim = 8\n[store]\nretries = 3"));
        assert_eq!(of_plan(recipe.clone()), recipe);
    }
}
