//! `mm1 schema`: the JSON Schema of recipes, from the very types that read them.

use anyhow::Result;
use mm1_lab::grid::Ablation;
use schemars::Schema;
use schemars::generate::SchemaSettings;
use schemars::transform::RecursiveTransform;
use serde_json::{Value, json};

use crate::output;
use crate::recipe::Recipe;

/// Prints the schema (draft 2020-12).
///
/// # Errors
/// A schema that can't be written as JSON.
pub(crate) fn schema() -> Result<()> {
    let text = serde_json::to_string_pretty(&of_recipes())? + "\n";
    output::print(text.as_bytes())
}

/// What `mm1 run` and `mm1 ablate` read: the fields of [`Recipe`], and `ablation` beside them.
fn of_recipes() -> Schema {
    let tidy = RecursiveTransform(tidy);
    let mut generator = SchemaSettings::draft2020_12().with_transform(tidy).into_generator();
    let mut ablation = generator.subschema_for::<Ablation>();
    let mut schema = generator.into_root_schema_for::<Recipe>();
    ablation.insert(
        "description".to_owned(),
        json!(
            "Many runs of this recipe, for `mm1 ablate`; without it, one run. A study with an axis of whole \
             recipes (`path = \"recipe\"`) needs `name` alone beside it."
        ),
    );
    if let Some(Value::Object(fields)) = schema.get_mut("properties") {
        fields.insert("ablation".to_owned(), ablation.to_value());
    }
    // A study may take whole recipes, and then has a name and its axes alone.
    if let Some(Value::Array(mut required)) = schema.remove("required") {
        required.retain(|name| name != "name");
        schema.insert("required".to_owned(), json!(["name"]));
        schema.insert("anyOf".to_owned(), json!([{ "required": ["ablation"] }, { "required": required }]));
    }
    schema.insert("title".to_owned(), json!("mm1 recipe"));
    schema
}

/// Makes a schema of Rust's types one of TOML, for people.
fn tidy(schema: &mut Schema) {
    without_null(schema);
    // Names of Rust's numbers, such as `uint32`, are no formats of JSON Schema.
    schema.remove("format");
    if let Some(Value::String(text)) = schema.get_mut("description") {
        *text = prose(text);
    }
}

/// TOML has no null: what may be missing is left out.
fn without_null(schema: &mut Schema) {
    if schema.get("default") == Some(&Value::Null) {
        schema.remove("default");
    }
    if let Some(Value::Array(types)) = schema.get_mut("type") {
        types.retain(|name| name != "null");
        if let [only] = types.as_slice() {
            let only = only.clone();
            schema.insert("type".to_owned(), only);
        }
    }
    if let Some(Value::Array(choices)) = schema.get_mut("anyOf") {
        choices.retain(|choice| choice.get("type") != Some(&json!("null")));
        if let [Value::Object(only)] = choices.as_slice() {
            let only = only.clone();
            schema.remove("anyOf");
            let object = schema.ensure_object();
            only.into_iter().for_each(|(key, value)| {
                object.entry(key).or_insert(value);
            });
        }
    }
}

/// A doc comment as running text: a line for each paragraph, names of types without the brackets of links.
fn prose(comment: &str) -> String {
    let paragraphs = comment.split("\n\n").map(|paragraph| paragraph.replace('\n', " "));
    paragraphs.collect::<Vec<_>>().join("\n\n").replace("[`", "`").replace("`]", "`")
}
