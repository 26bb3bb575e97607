//! `docs/reference/recipe.md`: the schema of recipes as tables, in the order in which a reader meets them.

use std::collections::{BTreeMap, BTreeSet};
use std::fmt::Write as _;

use serde_json::{Map, Value};

/// The sections of the top level in their order; what is not named comes after them.
const ORDER: [&str; 7] = ["data", "world", "image", "tokenizer", "model", "stage", "store"];

const HEAD: &str = "\
# Recipes

<!-- Written by `MM1_UPDATE=1 cargo test --release -p mm1 --test it reference`: change the doc comments. -->

A recipe is a TOML file that says all of a run: the data, the model and the stages that it goes through.
`mm1 run RECIPE --out DIR` does it. `mm1 plan RECIPE` checks it and shows what it would do, without doing it.

`--set PATH=VALUE` overrides a field. A stage is addressed by its name: `--set stage.pretrain.steps=40`.
A field that is unknown or has a value of another type is refused, with the name of the nearest known field.

Editors complete and check recipes by the [JSON Schema](recipe.schema.json), which `mm1 schema` prints.
Those that use Taplo, such as VS Code with Even Better TOML, find it by the first line of a recipe:
`#:schema PATH`, relative to the recipe.

A field whose default is *required* must be written. A table whose default is *below* may be left out as a
whole. Where the default is a dash, the meaning says what happens without the field.
";

/// The page.
pub(super) fn markdown(schema: &Value) -> String {
    // Twice: tables link to sections that come after them.
    let places = Page::new(schema, BTreeMap::new()).written().places;
    let Page { contents, body, .. } = Page::new(schema, places).written();
    format!("{HEAD}\n## Contents\n\n{contents}{body}")
}

struct Page<'a> {
    schema: &'a Value,
    contents: String,
    body: String,
    /// Definitions that have a section, with its anchor.
    places: BTreeMap<String, String>,
    /// Definitions whose section is written.
    seen: BTreeSet<String>,
}

impl<'a> Page<'a> {
    fn new(schema: &'a Value, places: BTreeMap<String, String>) -> Self {
        Self { schema, contents: String::new(), body: String::new(), places, seen: BTreeSet::new() }
    }

    /// The page with all its sections.
    fn written(mut self) -> Self {
        let schema = self.schema;
        self.heading(2, "Top level", "top-level");
        self.table(&schema["properties"], schema, "");
        let fields = object(&schema["properties"]);
        let rest = fields.keys().map(String::as_str).filter(|name| !ORDER.contains(name));
        for name in ORDER.into_iter().chain(rest) {
            if let Some(field) = fields.get(name) {
                self.field(name, field, 2);
            }
        }
        self
    }

    /// What a `$ref` refers to, or the schema itself.
    fn resolve(&self, schema: &'a Value) -> &'a Value {
        match definition(schema) {
            Some(name) => &self.schema["$defs"][name],
            None => schema,
        }
    }

    fn heading(&mut self, level: usize, title: &str, anchor: &str) {
        let indent = "  ".repeat(level - 2);
        let _ = writeln!(self.contents, "{indent}- [{title}](#{anchor})");
        let _ = write!(self.body, "\n<a id=\"{anchor}\"></a>\n\n{} {title}\n\n", "#".repeat(level));
    }

    /// Sections of all tables that the field at `path` holds.
    fn field(&mut self, path: &str, field: &'a Value, level: usize) {
        let Some((brackets, inner)) = self.inner(path, field) else { return };
        if let Some(name) = definition(inner) {
            if !self.seen.insert(name.to_owned()) {
                return;
            }
            self.places.insert(name.to_owned(), anchor(path));
        }
        let inner = self.resolve(inner);
        self.heading(level, &format!("`{brackets}`"), &anchor(path));
        // Editors show where a table stands; here the heading does.
        let meaning = text(inner).replace(&format!(", `{brackets}`"), "");
        for paragraph in meaning.split("\n\n").filter(|paragraph| !paragraph.is_empty()) {
            let _ = writeln!(self.body, "{}\n", wrap(paragraph));
        }
        if let Some(kinds) = kinds(inner) {
            self.kinds(path, kinds, level);
        } else {
            self.table(&inner["properties"], inner, path);
            self.fields(path, &inner["properties"], level + 1);
        }
    }

    fn fields(&mut self, path: &str, fields: &'a Value, level: usize) {
        for (name, field) in object(fields) {
            self.field(&format!("{path}.{name}"), field, level);
        }
    }

    /// The header of a table at `path`, and its schema; `None` where the field holds a plain value.
    fn inner(&self, path: &str, field: &'a Value) -> Option<(String, &'a Value)> {
        let table = |schema: &'a Value| {
            let resolved = self.resolve(schema);
            resolved["properties"].is_object() || kinds(resolved).is_some()
        };
        let resolved = self.resolve(field);
        if table(field) {
            Some((format!("[{path}]"), field))
        } else if table(&resolved["items"]) {
            Some((format!("[[{path}]]"), &resolved["items"]))
        } else if table(&resolved["additionalProperties"]) {
            Some((format!("[{path}.NAME]"), &resolved["additionalProperties"]))
        } else {
            None
        }
    }

    /// A table of the kinds, then a section for each group of kinds with the same fields.
    fn kinds(&mut self, path: &str, kinds: &'a [Value], level: usize) {
        let mut groups: Vec<Vec<&'a Value>> = Vec::new();
        for kind in kinds {
            let same = |group: &&mut Vec<&Value>| fields_of(group[0]) == fields_of(kind);
            match groups.iter_mut().find(same) {
                Some(group) => group.push(kind),
                None => groups.push(vec![kind]),
            }
        }
        let _ = writeln!(self.body, "| `kind` | Meaning |\n|---|---|");
        for kind in kinds {
            let name = kind_of(kind);
            let group = groups.iter().find(|group| group.contains(&kind));
            let link = group.filter(|group| !fields_of(group[0]).is_empty());
            let shown = link.map_or(format!("`\"{name}\"`"), |group| {
                format!("[`\"{name}\"`](#{})", anchor(&format!("{path}.{}", kind_of(group[0]))))
            });
            let _ = writeln!(self.body, "| {shown} | {} |", cell(&text(kind)));
        }
        for group in groups.iter().filter(|group| !fields_of(group[0]).is_empty()) {
            let names: Vec<String> = group.iter().map(|kind| format!("\"{}\"", kind_of(kind))).collect();
            let first = format!("{path}.{}", kind_of(group[0]));
            self.heading(level + 1, &format!("`kind = {}`", names.join("`, `")), &anchor(&first));
            self.table(&group[0]["properties"], group[0], &first);
            self.fields(path, &group[0]["properties"], level + 2);
        }
    }

    /// A row for each of `fields` but the kind, of the object `parent` at `path`.
    fn table(&mut self, fields: &'a Value, parent: &Value, path: &str) {
        let _ = writeln!(self.body, "| Field | Type | Unit | Default | Meaning |\n|---|---|---|---|---|");
        for (name, field) in object(fields).iter().filter(|(_, field)| field.get("const").is_none()) {
            let own = if path.is_empty() { name.clone() } else { format!("{path}.{name}") };
            let (meaning, unit) = meaning_and_unit(field);
            let default = default(name, field, parent);
            let _ = writeln!(
                self.body,
                "| <a id=\"field-{}\"></a>`{name}` | {} | {} | {default} | {}{} |",
                anchor(&own),
                self.kind_of_value(name, field),
                unit.unwrap_or("–"),
                cell(&meaning),
                if self.inner(name, field).is_some() { String::new() } else { self.choices(field) }
            );
        }
    }

    /// The type of a field, as the cell of a table.
    fn kind_of_value(&self, name: &str, field: &'a Value) -> String {
        if let Some((brackets, inner)) = self.inner(name, field) {
            let what = if brackets.starts_with("[[") { "array of tables" } else { "table" };
            let what = if brackets.ends_with(".NAME]") { "tables by name" } else { what };
            return match definition(inner).and_then(|name| self.places.get(name)) {
                Some(place) => format!("[{what}](#{place})"),
                None => what.to_owned(),
            };
        }
        self.plain(self.resolve(field))
    }

    fn plain(&self, schema: &'a Value) -> String {
        let resolved = self.resolve(schema);
        if let Some(choices) = choices(resolved) {
            let simple = |choice: &&Value| choice.get("const").is_some() || choice.get("enum").is_some();
            let shown = choices.iter().filter(|choice| !simple(choice)).map(|choice| self.plain(choice));
            let words = choices.iter().any(|choice| simple(&choice)).then(|| "choice".to_owned());
            return words.into_iter().chain(shown).collect::<Vec<_>>().join(" or ");
        }
        if let Some(only) = resolved.get("const") {
            return format!("`{}`", toml(only));
        }
        match resolved["type"].as_str() {
            Some("array") => {
                let item = plural(&self.plain(&resolved["items"]));
                match resolved["minItems"].as_u64().filter(|n| resolved["maxItems"].as_u64() == Some(*n)) {
                    Some(n) => format!("array of {n} {item}"),
                    None => format!("array of {item}"),
                }
            }
            Some("object") => match object(&resolved["properties"]).iter().next() {
                Some((key, value)) => format!("`{{ {key} = … }}` with {}", self.plain(value)),
                None if resolved["additionalProperties"].is_object() => {
                    format!("table of {}", plural(&self.plain(&resolved["additionalProperties"])))
                }
                None => "table".to_owned(),
            },
            Some(name) => format!("{name}{}", range(resolved)),
            None => "any".to_owned(),
        }
    }

    /// What the values of a field that is a choice mean, as lines of a table's cell.
    fn choices(&self, field: &'a Value) -> String {
        let resolved = self.resolve(field);
        let lines = |choices: &'a [Value]| -> String {
            let mut lines = String::new();
            for choice in choices {
                let choice = self.resolve(choice);
                if let Some(more) = self::choices(choice) {
                    lines.extend(more.iter().map(|choice| self.choice(choice)));
                } else {
                    lines += &self.choice(choice);
                }
            }
            lines
        };
        self::choices(resolved).map(lines).unwrap_or_default()
    }

    fn choice(&self, choice: &Value) -> String {
        let (meaning, _) = meaning_and_unit(choice);
        let names: Vec<String> = match (choice.get("const"), choice["enum"].as_array()) {
            (Some(value), _) => vec![format!("`{}`", toml(value))],
            (None, Some(values)) => values.iter().map(|value| format!("`{}`", toml(value))).collect(),
            (None, None) => match object(&choice["properties"]).keys().next() {
                Some(key) => vec![format!("`{key}`")],
                None => return String::new(),
            },
        };
        let colon = if meaning.is_empty() { "" } else { ": " };
        format!("<br>{}{colon}{}", names.join(", "), cell(&meaning))
    }
}

fn object(value: &Value) -> &Map<String, Value> {
    static NONE: std::sync::LazyLock<Map<String, Value>> = std::sync::LazyLock::new(Map::new);
    value.as_object().unwrap_or(&NONE)
}

/// The default of the field `name` of `table`, as a cell.
fn default(name: &str, field: &Value, table: &Value) -> String {
    let has = |list: &Value| list.as_array().is_some_and(|all| all.iter().any(|required| required == name));
    if has(&table["required"]) {
        return "*required*".to_owned();
    }
    // One of several lists of fields must be there.
    let lists = || table["anyOf"].as_array().into_iter().flatten().map(|choice| &choice["required"]);
    if let Some(other) =
        lists().find(|list| !has(list)).filter(|_| lists().filter(|list| !has(list)).count() == 1)
    {
        let shorter = other.as_array().is_some_and(|names| names.len() == 1);
        if let Some(Value::String(other)) = other.get(0).filter(|_| shorter) {
            return format!("*required* without `{other}`");
        }
    }
    match field.get("default") {
        Some(Value::Object(_)) => "*below*".to_owned(),
        Some(value) => format!("`{}`", toml(value)),
        None => "–".to_owned(),
    }
}

/// The name of the definition that a schema refers to.
fn definition(schema: &Value) -> Option<&str> {
    schema["$ref"].as_str()?.strip_prefix("#/$defs/")
}

/// The alternatives of a table with a `kind`.
fn kinds(schema: &Value) -> Option<&[Value]> {
    let kinds = schema["oneOf"].as_array()?;
    kinds.iter().all(|kind| kind["properties"]["kind"].get("const").is_some()).then_some(kinds)
}

/// The alternatives of a plain value.
fn choices(schema: &Value) -> Option<&[Value]> {
    match (&schema["oneOf"], &schema["anyOf"]) {
        (Value::Array(choices), _) | (_, Value::Array(choices)) => {
            schema.get("properties").is_none().then_some(choices)
        }
        _ if schema.get("enum").is_some() => Some(std::slice::from_ref(schema)),
        _ => None,
    }
}

fn kind_of(kind: &Value) -> &str {
    kind["properties"]["kind"]["const"].as_str().unwrap_or_default()
}

/// The fields of a kind but the kind itself.
fn fields_of(kind: &Value) -> Vec<(&String, &Value)> {
    object(&kind["properties"]).iter().filter(|(_, field)| field.get("const").is_none()).collect()
}

fn text(schema: &Value) -> String {
    schema["description"].as_str().unwrap_or_default().to_owned()
}

/// A description without its last sentence, `Unit: …`, and that unit.
pub(super) fn meaning_and_unit(field: &Value) -> (String, Option<&str>) {
    let whole = field["description"].as_str().unwrap_or_default();
    match whole.rsplit_once("Unit: ") {
        Some((meaning, unit)) => {
            let unit = unit.trim_end_matches('.');
            (meaning.trim_end().to_owned(), (unit != "none").then_some(unit))
        }
        None => (whole.to_owned(), None),
    }
}

/// `number > 0` as `numbers > 0`.
fn plural(kind: &str) -> String {
    let (word, rest) = kind.split_at(kind.find(' ').unwrap_or(kind.len()));
    format!("{word}s{rest}")
}

fn range(schema: &Value) -> String {
    let (min, max) = (schema["minimum"].as_f64(), schema["maximum"].as_f64());
    let (above, below) = (schema["exclusiveMinimum"].as_f64(), schema["exclusiveMaximum"].as_f64());
    if let (Some(min), Some(max)) = (min, max) {
        return format!(" {min} to {max}");
    }
    let low = min.map(|x| format!(" ≥ {x}")).or(above.map(|x| format!(" > {x}")));
    let high = max.map(|x| format!(" ≤ {x}")).or(below.map(|x| format!(" < {x}")));
    match (low, high) {
        (Some(low), Some(high)) => format!("{low},{high}"),
        (low, high) => low.or(high).unwrap_or_default(),
    }
}

/// A value as TOML writes it.
fn toml(value: &Value) -> String {
    match value {
        Value::Array(items) => format!("[{}]", items.iter().map(toml).collect::<Vec<_>>().join(", ")),
        Value::Object(fields) => {
            let fields: Vec<String> =
                fields.iter().map(|(key, value)| format!("{key} = {}", toml(value))).collect();
            format!("{{ {} }}", fields.join(", "))
        }
        plain => plain.to_string(),
    }
}

fn anchor(path: &str) -> String {
    path.replace('.', "-")
}

/// Text in a cell of a table.
fn cell(text: &str) -> String {
    text.replace("\n\n", "<br>").replace('\n', " ").replace('|', "\\|")
}

/// Text in lines of at most 110 columns.
fn wrap(text: &str) -> String {
    let (mut lines, mut line) = (String::new(), String::new());
    for word in text.split_whitespace() {
        if !line.is_empty() && line.chars().count() + 1 + word.chars().count() > 110 {
            lines += &line;
            lines.push('\n');
            line.clear();
        }
        if !line.is_empty() {
            line.push(' ');
        }
        line += word;
    }
    lines + &line
}
