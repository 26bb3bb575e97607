//! The reference in `docs/reference/` says what the program does, and recipes follow the schema.

mod commands;
mod files;
mod recipe;
mod validate;

use std::fs;
use std::path::{Path, PathBuf};

use crate::refuse::refused;
use crate::{TINY, mm1, succeeds};
use serde_json::Value;

/// The repository's root.
const ROOT: &str = concat!(env!("CARGO_MANIFEST_DIR"), "/../..");

/// What `mm1 schema` prints.
fn schema() -> (String, Value) {
    let printed = mm1(&["schema"]).output().unwrap();
    succeeds(&printed);
    let text = String::from_utf8(printed.stdout).unwrap();
    let value = serde_json::from_str(&text).unwrap();
    (text, value)
}

/// A file of `docs/reference/` is `text`; with `MM1_UPDATE` set it is written.
fn agrees(name: &str, text: &str) {
    let file = Path::new(ROOT).join("docs/reference").join(name);
    if std::env::var_os("MM1_UPDATE").is_some() {
        fs::write(&file, text).unwrap();
    }
    let written = fs::read_to_string(&file).unwrap_or_default();
    let line = written.lines().zip(text.lines()).position(|(written, now)| written != now);
    let line = 1 + line.unwrap_or(written.lines().count().min(text.lines().count()));
    assert!(
        written == text,
        "docs/reference/{name} is not what the program says, from line {line} on; to write it again:\n\
         MM1_UPDATE=1 cargo test --release -p mm1 --test it reference"
    );
}

/// Every recipe of `recipes/`.
fn recipes() -> Vec<PathBuf> {
    fn below(folder: &Path, found: &mut Vec<PathBuf>) {
        for entry in fs::read_dir(folder).unwrap() {
            let path = entry.unwrap().path();
            match path.is_dir() {
                true if !path.ends_with("tasks") => below(&path, found),
                false if path.extension().is_some_and(|end| end == "toml") => found.push(path),
                _ => {}
            }
        }
    }
    let mut found = Vec::new();
    below(&Path::new(ROOT).join("recipes"), &mut found);
    found.sort();
    found
}

#[test]
fn the_reference_is_what_the_program_says() {
    let (text, schema) = schema();
    agrees("recipe.schema.json", &text);
    agrees("recipe.md", &recipe::markdown(&schema));
    agrees("commands.md", &commands::markdown());
}

#[test]
fn every_recipe_follows_the_schema() {
    let (_, schema) = schema();
    let recipes = recipes();
    assert!(recipes.len() >= 7, "{recipes:?}");
    for path in recipes.iter().chain(&[PathBuf::from(TINY)]) {
        let fault = validate::fault(&schema, &schema, &tree(path));
        assert_eq!(fault, None, "{}", path.display());
    }
    // By their first line editors find it.
    for path in recipes {
        let text = fs::read_to_string(&path).unwrap();
        let named = text.lines().next().and_then(|line| line.strip_prefix("#:schema "));
        let named = named.map(|named| path.parent().unwrap().join(named));
        assert!(named.is_some_and(|file| file.exists()), "{}: no #:schema line", path.display());
    }
}

/// A recipe as JSON.
fn tree(path: &Path) -> Value {
    let table: toml::Table = fs::read_to_string(path).unwrap().parse().unwrap();
    serde_json::to_value(table).unwrap()
}

#[test]
fn the_schema_refuses_what_the_program_refuses() {
    let (_, schema) = schema();
    for edit in [
        // Misspelt, at the top, in a table, in a stage and below it.
        "sead=1",
        "model.lm.layer=4",
        "stage.pretrain.stepz=4",
        "stage.pretrain.optimizer.warmup=4",
        // Another type.
        "seed=\"1\"",
        "model.lm.dim=16.5",
        "stage.few-shot.tasks=\"scene-vqa\"",
        "stage.pretrain.recompute_blocks=1",
        // A word that is none of the choices.
        "precision=\"f16\"",
        "model.connector.kind=\"average\"",
        "stage.pretrain.optimizer.freeze=[\"head\"]",
        // A setting of another kind.
        "data.captioned.path=\"pictures\"",
        "tokenizer.path=\"tokenizer.json\"",
        "stage.few-shot.steps=4",
        "stage.pretrain.tasks=[\"scene-vqa\"]",
        "stage.pretrain.views={}",
        "stage.encoder.dino={}",
        "stage.encoder.adapter={}",
        // Out of its range.
        "stage.pretrain.steps=0",
        "stage.pretrain.optimizer.lr=0.0",
        "world.picture_size=8",
        "store.retries=101",
    ] {
        let mut recipe = tree(Path::new(TINY));
        set(&mut recipe, edit);
        assert!(validate::fault(&schema, &schema, &recipe).is_some(), "the schema takes {edit}");
        refused(&mm1(&["plan", TINY, "--set", edit]).output().unwrap(), &[]);
    }
}

/// What `--set` does.
fn set(recipe: &mut Value, edit: &str) {
    let (path, value) = edit.split_once('=').unwrap();
    let mut at = recipe;
    for part in path.split('.') {
        at = match at {
            Value::Array(items) => items.iter_mut().find(|item| item["name"] == part).unwrap(),
            table => &mut table[part],
        };
    }
    *at = serde_json::from_str(value).unwrap();
}

#[test]
fn every_field_has_a_meaning_a_unit_and_a_default() {
    let (_, schema) = schema();
    let mut fields = 0;
    let mut lacking = Vec::new();
    walk(&schema, &mut |table, name, field| {
        let inner = field["$ref"].as_str().and_then(|name| schema.pointer(&name[1..])).unwrap_or(field);
        let what = format!("{name} of \"{}\"", table["description"].as_str().unwrap_or("a table"));
        fields += 1;
        // `{ key = value }` is described as a whole.
        let said = |schema: &Value| schema["description"].as_str().unwrap_or_default().to_owned();
        let alone = table["properties"].as_object().is_some_and(|fields| fields.len() == 1);
        let meaning = if alone && said(field).is_empty() { said(table) } else { said(field) };
        if meaning.is_empty() {
            lacking.push(format!("{what} has no meaning: give it a doc comment"));
        }
        let item = inner.get("items").or(inner.get("additionalProperties")).unwrap_or(inner);
        let is_number = matches!(item["type"].as_str(), Some("integer" | "number"));
        let lists = [&table["required"], &table["anyOf"][1]["required"]];
        let required = lists.into_iter().filter_map(Value::as_array).flatten().any(|other| other == name);
        let told = ["default", "without"].iter().any(|word| meaning.contains(word));
        if !required && field.get("default").is_none() && !told {
            lacking.push(format!("{what} does not say what happens without it"));
        }
        if is_number && !meaning.contains("Unit: ") {
            lacking.push(format!("{what} has no unit: end its doc comment with a line `Unit: pixels.`"));
        }
    });
    assert!(fields > 100, "{fields} fields were looked at");
    assert!(lacking.is_empty(), "{} of {fields} fields:\n{}", lacking.len(), lacking.join("\n"));
}

/// Calls `each` with every field of every table in `schema`, the table and the field's name; not with the
/// kind.
fn walk(schema: &Value, each: &mut impl FnMut(&Value, &str, &Value)) {
    match schema {
        Value::Object(keywords) => {
            for (name, field) in keywords.get("properties").and_then(Value::as_object).into_iter().flatten() {
                if field.get("const").is_none() {
                    each(schema, name, field);
                }
            }
            let inner =
                keywords.iter().filter(|(key, _)| !["default", "dependentSchemas"].contains(&key.as_str()));
            inner.for_each(|(_, inner)| walk(inner, each));
        }
        Value::Array(items) => items.iter().for_each(|inner| walk(inner, each)),
        _ => {}
    }
}
