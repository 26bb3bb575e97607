//! [`KnownFields`]: where each field of a recipe stands, from its schema.

use std::collections::BTreeSet;

use schemars::schema_for;
use serde_json::Value as Json;
use toml::Value;

use super::Recipe;

/// The most tables inside of each other.
const DEPTH: usize = 8;

/// The paths of all fields. An item of an array is `*` in them, and so is a name that a person chooses.
pub(super) struct KnownFields(BTreeSet<Vec<String>>);

impl KnownFields {
    pub(super) fn of_recipes() -> Self {
        let schema = schema_for!(Recipe).to_value();
        let mut found = BTreeSet::new();
        collect(&schema, &schema, &[], &mut found);
        Self(found)
    }

    /// The paths of the fields called `name`, those under `table` alone where there are some. The names of
    /// stages and sources are those of `tree`.
    pub(super) fn named(&self, name: &str, table: &str, tree: &Value) -> Vec<String> {
        let all = self.0.iter().filter(|path| path.last().is_some_and(|last| last == name));
        let mut shown: Vec<String> = all.flat_map(|path| filled(path, tree)).collect();
        shown.sort();
        shown.dedup();
        let under: Vec<String> =
            shown.iter().filter(|path| path.starts_with(&format!("{table}."))).cloned().collect();
        let mut best = if under.is_empty() { shown } else { under };
        best.truncate(3);
        best
    }
}

/// Adds the paths of the fields of `schema`, whose definitions are those of `root`.
fn collect(schema: &Json, root: &Json, path: &[String], found: &mut BTreeSet<Vec<String>>) {
    if path.len() > DEPTH {
        return;
    }
    let named = schema["$ref"].as_str().and_then(|name| root.pointer(name.trim_start_matches('#')));
    if let Some(named) = named {
        collect(named, root, path, found);
    }
    for choices in ["oneOf", "anyOf", "allOf"] {
        let choices = schema[choices].as_array();
        choices.into_iter().flatten().for_each(|choice| collect(choice, root, path, found));
    }
    for (name, field) in schema["properties"].as_object().into_iter().flatten() {
        let inner = [path, std::slice::from_ref(name)].concat();
        found.insert(inner.clone());
        collect(field, root, &inner, found);
    }
    for inside in ["items", "additionalProperties"] {
        if schema[inside].is_object() {
            collect(&schema[inside], root, &[path, &["*".to_owned()]].concat(), found);
        }
    }
}

/// The path with each `*` in the place of a name that `tree` has.
fn filled(path: &[String], tree: &Value) -> Vec<String> {
    let mut places = vec![(String::new(), Some(tree))];
    for part in path {
        places = places.into_iter().flat_map(|(shown, at)| step(&shown, at, part)).collect();
    }
    places.into_iter().map(|(shown, _)| shown).collect()
}

/// The places one part further than `shown`.
fn step<'a>(shown: &str, at: Option<&'a Value>, part: &str) -> Vec<(String, Option<&'a Value>)> {
    let join = |name: &str| if shown.is_empty() { name.to_owned() } else { format!("{shown}.{name}") };
    match (part, at) {
        ("*", Some(Value::Table(table))) => {
            table.iter().map(|(name, inner)| (join(name), Some(inner))).collect()
        }
        ("*", Some(Value::Array(items))) => {
            let name = |item: &'a Value| item.get("name").and_then(Value::as_str);
            items.iter().filter_map(|item| Some((join(name(item)?), Some(item)))).collect()
        }
        ("*", _) => Vec::new(),
        (part, at) => vec![(join(part), at.and_then(|tree| tree.get(part)))],
    }
}
