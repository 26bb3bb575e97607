//! A validator of the keywords that the recipe's schema uses; any other keyword fails the test.
//!
//! A crate for it costs more than it saves: `boon` and `jsonschema` change the features of `idna` and
//! `serde_json`, so that tests and builds would each compile half of the workspace.

use regex_automata::hybrid::regex::Regex;
use serde_json::{Map, Value};

/// Where `value` does not follow `schema`, whose definitions are those of `root`: one line.
pub(super) fn fault(root: &Value, schema: &Value, value: &Value) -> Option<String> {
    let Some(keywords) = schema.as_object() else {
        return (schema == false).then(|| format!("{value} is not allowed"));
    };
    keywords.iter().find_map(|(keyword, rule)| keyword_fault(root, (keywords, keyword, rule), value))
}

fn keyword_fault(
    root: &Value,
    (schema, keyword, rule): (&Map<String, Value>, &str, &Value),
    value: &Value,
) -> Option<String> {
    let below = |schema: &Value, value: &Value| fault(root, schema, value);
    let alternatives = || rule.as_array().unwrap().iter().map(|choice| below(choice, value));
    let (items, fields) = (value.as_array(), value.as_object());
    match keyword {
        "$ref" => {
            let name = rule.as_str().unwrap().strip_prefix("#/$defs/").unwrap();
            below(&root["$defs"][name], value)
        }
        "type" => (!is(value, rule.as_str().unwrap())).then(|| format!("{value} is no {rule}")),
        "const" => (value != rule).then(|| format!("{value} is not {rule}")),
        "enum" => (!rule.as_array().unwrap().contains(value)).then(|| format!("{value} is none of {rule}")),
        "oneOf" | "anyOf" => {
            let faults: Vec<Option<String>> = alternatives().collect();
            let fitting = faults.iter().filter(|fault| fault.is_none()).count();
            let right = if keyword == "oneOf" { fitting == 1 } else { fitting > 0 };
            (!right).then(|| {
                format!(
                    "{fitting} alternatives fit: {}",
                    faults.into_iter().flatten().collect::<Vec<_>>().join("; ")
                )
            })
        }
        "required" => {
            let names = rule.as_array().unwrap().iter().map(|name| name.as_str().unwrap());
            let mut missing = names.filter(|name| fields.is_some_and(|fields| !fields.contains_key(*name)));
            missing.next().map(|name| format!("{name} is missing"))
        }
        "properties" => rule.as_object().unwrap().iter().find_map(|(name, schema)| {
            fields?.get(name).and_then(|value| below(schema, value)).map(|fault| format!("{name}: {fault}"))
        }),
        "additionalProperties" => fields.into_iter().flatten().find_map(|(name, value)| {
            let known = schema.get("properties").is_some_and(|known| known.get(name).is_some());
            let fault = if known { None } else { below(rule, value) };
            fault.map(|fault| format!("{name}: {fault}"))
        }),
        "not" => below(rule, value).is_none().then(|| format!("{value} is not allowed")),
        "dependentSchemas" => rule.as_object().unwrap().iter().find_map(|(name, schema)| {
            fields?.get(name).and_then(|_| below(schema, value)).map(|fault| format!("with {name}: {fault}"))
        }),
        "items" => items.into_iter().flatten().find_map(|item| below(rule, item)),
        "pattern" => {
            let pattern = Regex::new(rule.as_str().unwrap()).unwrap();
            let text = value.as_str().filter(|text| !pattern.is_match(&mut pattern.create_cache(), *text));
            text.map(|text| format!("{text} does not match {rule}"))
        }
        "$schema" | "$defs" | "title" | "description" | "default" => None,
        bound => bound_fault(bound, rule, value),
    }
}

/// Where a number, or how much a list or table holds, is outside of a bound.
fn bound_fault(keyword: &str, bound: &Value, value: &Value) -> Option<String> {
    let size = || value.as_array().map(Vec::len).or_else(|| value.as_object().map(Map::len));
    let (measure, holds): (Option<f64>, fn(f64, f64) -> bool) = match keyword {
        "minItems" | "minProperties" => (size().map(|n| n as f64), |n, least| n >= least),
        "maxItems" => (size().map(|n| n as f64), |n, most| n <= most),
        "minimum" => (value.as_f64(), |x, least| x >= least),
        "maximum" => (value.as_f64(), |x, most| x <= most),
        "exclusiveMinimum" => (value.as_f64(), |x, least| x > least),
        "exclusiveMaximum" => (value.as_f64(), |x, most| x < most),
        unknown => panic!("the validator does not know {unknown}"),
    };
    let outside = measure.filter(|measure| !holds(*measure, bound.as_f64().unwrap()));
    outside.map(|measure| format!("{measure}: {keyword} {bound}"))
}

fn is(value: &Value, kind: &str) -> bool {
    match kind {
        "object" => value.is_object(),
        "array" => value.is_array(),
        "string" => value.is_string(),
        "boolean" => value.is_boolean(),
        "integer" => value.is_i64() || value.is_u64(),
        "number" => value.is_number(),
        unknown => panic!("the validator does not know the type {unknown}"),
    }
}
