//! The parts of a `tokenizer.json` and their steps: what byte-level BPE and SentencePiece have in common.

use anyhow::{Context as _, Result, bail, ensure};
use serde_json::{Value, json};

/// The longest pattern by which words are cut.
const MAX_PATTERN: usize = 10_000;

/// What a part of the file is, by its `type`.
pub(crate) fn kind(part: &Value) -> &str {
    part["type"].as_str().unwrap_or("nothing")
}

/// The steps of a part: those of a `Sequence`, in its field `list`; none of a part that is not there.
pub(crate) fn steps<'a>(part: &'a Value, list: &str) -> &'a [Value] {
    match kind(part) {
        "Sequence" => part[list].as_array().map_or(&[][..], Vec::as_slice),
        "nothing" => &[],
        _ => std::slice::from_ref(part),
    }
}

/// Checks a step that cuts words; `known` are those that are read, for a message.
///
/// # Errors
/// One that drops or changes letters, or is not known.
pub(crate) fn check_cut(step: &Value, known: &str) -> Result<()> {
    match kind(step) {
        "Split" => {
            let pattern = ["Regex", "String"].iter().find_map(|form| step["pattern"][form].as_str());
            let pattern = pattern.context("pre_tokenizer: Split without a pattern")?;
            ensure!(
                pattern.len() <= MAX_PATTERN,
                "pre_tokenizer: a pattern of {} letters; the limit is {MAX_PATTERN}",
                pattern.len()
            );
            ensure!(
                step["behavior"] != json!("Removed"),
                "pre_tokenizer: Split with behavior = \"Removed\" drops parts of texts"
            );
        }
        "Digits" => {}
        other => bail!("pre_tokenizer: {other} drops or changes parts of texts; {known} are read"),
    }
    Ok(())
}
