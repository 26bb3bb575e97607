//! How large each number of a recipe may be: beyond these, sums of sizes and the memory behind them would end
//! the program in place of an answer.

use anyhow::{Result, ensure};
use toml::{Table, Value};

/// The most that a whole number may be, by its field's name. Where a name stands in several tables the limit
/// holds in all of them.
const LIMITS: &[(&str, u64)] = &[
    // Numbers of nothing that is held.
    ("seed", u64::MAX),
    ("data_seed", u64::MAX),
    ("steps", 1_000_000_000),
    ("warmup_steps", 1_000_000_000),
    ("teacher_warmup_steps", 1_000_000_000),
    ("every", 1_000_000_000),
    ("keep", 1_000_000),
    ("questions", 1_000_000_000),
    ("documents", 1_000_000_000),
    ("contamination", 1_000_000_000),
    // A step.
    ("rows", 1 << 16),
    ("accumulate", 1 << 16),
    ("length", 1 << 20),
    // The network.
    ("image_size", 4096),
    ("patch", 4096),
    ("dim", 1 << 16),
    ("hidden", 1 << 16),
    ("bottleneck", 1 << 16),
    ("layers", 1024),
    ("head_layers", 1024),
    ("depth", 1024),
    ("heads", 1024),
    ("kv_heads", 1024),
    ("ffn", 1 << 18),
    ("head_ffn", 1 << 18),
    ("tokens", 1 << 14),
    ("prototypes", 1 << 20),
    ("feature_block", 1024),
    ("vocab", 1 << 22),
    ("rank", 1 << 16),
    ("size", 4096),
    ("views", 256),
    // The built-in pictures.
    ("picture_size", 4096),
    // Evaluation.
    ("shots", 1024),
    ("batch", 1 << 16),
    ("pool", 10_000_000),
    ("train", 10_000_000),
    ("test", 10_000_000),
    ("pairs", 1_000_000),
    ("neighbours", 100_000),
];

/// The limit of a field that is not listed.
const OTHERS: u64 = 100_000_000;

/// The most positions of a micro-batch.
const POSITIONS: u64 = 1 << 26;

/// Refuses a number above its limit, and a product of such.
///
/// # Errors
/// The field, as `--set` writes it, with its limit.
pub(super) fn check(tree: &Table) -> Result<()> {
    let tree = Value::Table(tree.clone());
    within(&tree, "", "")?;
    for stage in tree.get("stage").and_then(Value::as_array).into_iter().flatten() {
        let number = |field: &str| stage.get(field).and_then(Value::as_integer).unwrap_or(1).unsigned_abs();
        let (rows, length) = (number("rows"), number("length"));
        let name = stage.get("name").and_then(Value::as_str).unwrap_or_default();
        ensure!(
            rows.saturating_mul(length) <= POSITIONS,
            "stage.{name}: rows = {rows} of length = {length} are more than {POSITIONS} positions: \
             take fewer rows, and a larger accumulate"
        );
    }
    Ok(())
}

/// Checks what is under `path`, in the field `field`.
fn within(value: &Value, path: &str, field: &str) -> Result<()> {
    let under = |key: &str| if path.is_empty() { key.to_owned() } else { format!("{path}.{key}") };
    match value {
        Value::Table(table) => table.iter().try_for_each(|(key, value)| within(value, &under(key), key)),
        Value::Array(items) => items.iter().enumerate().try_for_each(|(i, item)| {
            let name = item.get("name").and_then(Value::as_str);
            let path = if item.is_table() {
                under(&name.map_or(i.to_string(), str::to_owned))
            } else {
                path.to_owned()
            };
            within(item, &path, field)
        }),
        Value::Integer(number) => {
            let listed = LIMITS.iter().find(|(name, _)| *name == field);
            let limit = listed.map_or(OTHERS, |(_, limit)| *limit);
            // One below 0 is refused by its type.
            let number = u64::try_from(*number).unwrap_or_default();
            ensure!(number <= limit, "{path} = {number}: give at most {limit}");
            Ok(())
        }
        _ => Ok(()),
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_number_above_its_limit_is_named() {
        let refused = |text: &str| check(&text.parse().expect("toml")).map_err(|e| e.to_string());
        assert_eq!(refused("seed = 9223372036854775807"), Ok(()));
        let stage = |field: &str| format!("[[stage]]\nname = \"a\"\n{field}");
        for (text, words) in [
            (stage("rows = 1000000000"), "stage.a.rows = 1000000000: give at most 65536"),
            (
                stage("shots = [0, 1000000000000000000]"),
                "stage.a.shots = 1000000000000000000: give at most 1024",
            ),
            (stage("rows = 65536\nlength = 1048576"), "stage.a: rows = 65536 of length = 1048576"),
            ("[model.lm]\ndim = 1000000000".to_owned(), "model.lm.dim = 1000000000"),
            ("[data.x]\nmemory_mib = 1000000000".to_owned(), "data.x.memory_mib = 1000000000"),
        ] {
            let error = refused(&text).expect_err(&text);
            assert!(error.contains(words), "{error}");
        }
    }
}
