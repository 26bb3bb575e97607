//! What is said of a recipe that can't be read: the field by its path, what it is, and what it must be.

use anyhow::{Error, anyhow};
use toml::{Table, Value};

use super::Recipe;
use super::known::KnownFields;

/// Names this much alike may be slips of the pen (Jaro's measure, 0 to 1).
const ALIKE: f64 = 0.75;

/// The refusal of `tree`. `unedited` is the recipe before the edits of the command line.
pub(super) fn of(
    tree: &Table,
    unedited: &Table,
    error: &serde_path_to_error::Error<toml::de::Error>,
) -> Error {
    // The lines after the first name a place, and not from the recipe's top.
    let message = error.inner().message().lines().next().unwrap_or_default().trim().to_owned();
    let whole = Value::Table(tree.clone());
    let place = culprit(&whole).unwrap_or_default();
    let path = place.shown(&whole);
    let found = place.of(&whole);
    if let Some((field, known)) = quoted(&message, "unknown field ") {
        return unknown_field(&whole, &place, field, &known);
    }
    if let Some((variant, known)) = quoted(&message, "unknown variant ") {
        return anyhow!("{}{message}{}", before(&path, &message), did_you_mean(variant, &known));
    }
    if let (Some(found), true) = (found, message.contains("untagged enum")) {
        return anyhow!(
            "{path} = {found}: this field takes something else; docs/reference/recipe.md says what"
        );
    }
    if let (Some(found), Some(wanted)) = (found, message.split_once("expected ").map(|(_, wanted)| wanted)) {
        let was = match place.of(&Value::Table(unedited.clone())) {
            Some(was) if was != found => format!(" (without --set it is {was})"),
            _ => String::new(),
        };
        return anyhow!("{path} = {found}: expected {}{was}", in_words(wanted));
    }
    anyhow!("{}{message}", before(&path, &message))
}

/// What comes before a `message` that may name its field itself.
fn before(path: &str, message: &str) -> String {
    if path.is_empty() || message.starts_with(path) { String::new() } else { format!("{path}: ") }
}

/// What serde calls a type, as TOML has it.
fn in_words(wanted: &str) -> &str {
    match wanted {
        "u8" | "u16" | "u32" | "u64" | "usize" => "a whole number, 0 or more",
        "i8" | "i16" | "i32" | "i64" | "isize" => "a whole number",
        "f32" | "f64" => "a number",
        "a boolean" => "a boolean: true or false",
        "a string" => "a text in quotes",
        "a sequence" => "a list in brackets",
        "a map" => "a table",
        tagged if tagged.starts_with("internally tagged enum") => {
            "a table with its kind, such as { kind = \"…\" }"
        }
        other => other,
    }
}

/// A place in a recipe: keys of tables, numbers in arrays.
#[derive(Clone, Debug, Default, PartialEq)]
struct FieldPlace(Vec<Key>);

#[derive(Clone, Debug, PartialEq)]
enum Key {
    Field(String),
    Item(usize),
}

impl FieldPlace {
    fn of<'a>(&self, tree: &'a Value) -> Option<&'a Value> {
        self.0.iter().try_fold(tree, |tree, key| match key {
            Key::Field(key) => tree.get(key),
            Key::Item(item) => tree.get(*item),
        })
    }

    /// As `--set` writes it: an item of an array by its name, where it has one.
    fn shown(&self, tree: &Value) -> String {
        let (mut at, mut parts) = (Some(tree), Vec::new());
        for key in &self.0 {
            match key {
                Key::Field(key) => {
                    at = at.and_then(|tree| tree.get(key));
                    parts.push(key.clone());
                }
                Key::Item(item) => {
                    at = at.and_then(|tree| tree.get(*item));
                    let name = at.and_then(|table| table.get("name")).and_then(Value::as_str);
                    parts.push(name.map_or_else(|| item.to_string(), str::to_owned));
                }
            }
        }
        parts.join(".")
    }

    /// Whether `message` is that the field at this place is missing.
    fn is_missed(&self, message: &str) -> bool {
        matches!(self.0.last(), Some(Key::Field(name)) if message.contains(&format!("missing field `{name}`")))
    }

    /// Whether `message` tells the value at this place.
    fn is_told(&self, tree: &Value, message: &str) -> bool {
        match self.of(tree) {
            Some(Value::String(text)) => message.contains(&format!("{text:?}")),
            Some(value) => message.contains(&format!("`{value}`")),
            None => false,
        }
    }

    fn under(&self, key: Key) -> Self {
        Self([self.0.as_slice(), &[key]].concat())
    }
}

/// The innermost place without which `tree` is refused for another reason, or not at all.
// serde knows no path inside of a table whose `kind` it reads first. Each place is left out in turn, which
// needs no knowledge of types.
fn culprit(tree: &Value) -> Option<FieldPlace> {
    let refused = |tree: &Value| tree.clone().try_into::<Recipe>().err().map(|e| e.message().to_owned());
    let reason = refused(tree)?;
    let mut found = FieldPlace::default();
    loop {
        let (mut clear, mut missed) = (None, Vec::new());
        for place in places(&found, tree) {
            let mut without = tree.clone();
            remove(&mut without, &place.0);
            match refused(&without) {
                Some(other) if other == reason => {}
                // It is needed, whether it is wrong or not.
                Some(other) if place.is_missed(&other) => missed.push(place),
                _ => {
                    clear = Some(place);
                    break;
                }
            }
        }
        let told = missed.iter().position(|place| place.is_told(tree, &reason));
        let inner = clear.or_else(|| (!missed.is_empty()).then(|| missed.swap_remove(told.unwrap_or(0))));
        let Some(inner) = inner else { break };
        found = inner;
    }
    Some(found).filter(|found| !found.0.is_empty())
}

/// The places right under `place`; a `kind`, which decides how all others are read, last.
fn places(place: &FieldPlace, tree: &Value) -> Vec<FieldPlace> {
    match place.of(tree) {
        Some(Value::Table(table)) => {
            let (kinds, others): (Vec<_>, Vec<_>) = table.keys().partition(|key| *key == "kind");
            others.into_iter().chain(kinds).map(|key| place.under(Key::Field(key.clone()))).collect()
        }
        Some(Value::Array(items)) => (0..items.len()).map(|item| place.under(Key::Item(item))).collect(),
        _ => Vec::new(),
    }
}

fn remove(tree: &mut Value, place: &[Key]) {
    match (tree, place) {
        (Value::Table(table), [Key::Field(last)]) => drop(table.remove(last)),
        (Value::Array(items), [Key::Item(last)]) => drop(items.remove(*last)),
        (Value::Table(table), [Key::Field(key), rest @ ..]) => {
            if let Some(inner) = table.get_mut(key) {
                remove(inner, rest);
            }
        }
        (Value::Array(items), [Key::Item(item), rest @ ..]) => {
            if let Some(inner) = items.get_mut(*item) {
                remove(inner, rest);
            }
        }
        _ => {}
    }
}

/// What is said of a field that is not known where it stands.
fn unknown_field(tree: &Value, place: &FieldPlace, field: &str, known: &[&str]) -> Error {
    // The place is the field itself, or the table around it where several are unknown.
    let mut table = place.clone();
    if table.0.last() == Some(&Key::Field(field.to_owned())) {
        table.0.pop();
    }
    let path = table.under(Key::Field(field.to_owned())).shown(tree);
    if let Some(best) = nearest(field, known) {
        return anyhow!("{path}: unknown field `{field}`; did you mean `{best}`?");
    }
    let elsewhere = KnownFields::of_recipes().named(field, &table.shown(tree), tree);
    // A setting of another `kind` of this table is no slip of the pen.
    if !elsewhere.is_empty() && !elsewhere.contains(&path) {
        return anyhow!("{path}: unknown field `{field}`; did you mean {}?", elsewhere.join(" or "));
    }
    let kind = table.of(tree).and_then(|table| table.get("kind")).and_then(Value::as_str);
    match kind {
        Some(kind) if known.is_empty() => anyhow!("{path}: {kind} has no such setting; it has none"),
        Some(kind) => anyhow!("{path}: {kind} has no such setting; it has: {}", known.join(", ")),
        None => anyhow!("{path}: unknown field `{field}`; there are: {}", known.join(", ")),
    }
}

/// The parts of serde's "unknown field `x`, expected one of `y`, `z`".
fn quoted<'a>(message: &'a str, start: &str) -> Option<(&'a str, Vec<&'a str>)> {
    let mut quoted = message.strip_prefix(start)?.split('`').skip(1).step_by(2);
    Some((quoted.next()?, quoted.collect()))
}

/// `; did you mean NAME?` of the known name that `wrong` was perhaps meant to be; else nothing.
pub(crate) fn did_you_mean(wrong: &str, known: &[&str]) -> String {
    nearest(wrong, known).map_or(String::new(), |best| format!("; did you mean `{best}`?"))
}

/// The known name that `wrong` was perhaps meant to be.
fn nearest<'a>(wrong: &str, known: &[&'a str]) -> Option<&'a str> {
    let alike = |name: &str| strsim::jaro(wrong, name);
    known.iter().copied().max_by(|a, b| alike(a).total_cmp(&alike(b))).filter(|best| alike(best) > ALIKE)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_name_is_taken_for_one_that_is_much_alike_only() {
        assert_eq!(nearest("stepz", &["name", "steps", "rows"]), Some("steps"));
        assert_eq!(nearest("qestions", &["questions", "shots"]), Some("questions"));
        assert_eq!(nearest("device", &["tokenizer", "seed", "data"]), None);
        assert_eq!(
            quoted("unknown field `a`, expected `b` or `c`", "unknown field "),
            Some(("a", vec!["b", "c"]))
        );
    }
}
