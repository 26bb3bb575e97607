//! Which runs, and which first stages of runs, come to the same digits: by a hash of all that they depend on.

use anyhow::Result;
use mm1_model::connector::{AveragePoolConfig, ConnectorConfig};
use mm1_model::export::ExportForm;
use xxhash_rust::xxh3::xxh3_64;

use crate::recipe::{Recipe, Stage};

/// A hash of the whole recipe but for its name, and for what follows from the rest. `store` is not in it,
/// since no digit depends on how files are reached.
pub(crate) fn run_key(recipe: &Recipe) -> Result<String> {
    let mut recipe = recipe.clone();
    recipe.name.clear();
    // It follows from the tokenizer and from `model.lm.from`, and is filled in when they are opened.
    recipe.model.lm.vocab = None;
    Ok(format!("{:016x}", xxh3_64(toml::to_string(&recipe)?.as_bytes())))
}

/// The recipe of the first `count` stages of `recipe` alone, in a form that all runs have in common whose
/// first stages are sure to come to the same digits. `None` where it is not sure, or nothing is left to do
/// after them.
///
/// What is left out: the stages behind; and the connector, where there are only stages that train or
/// measure the encoder and don't pack rows, since rows are packed by the number of image tokens. The decoder
/// stays: the text tower of `clip` has its shape. All sources stay: the tokenizer is trained on them.
pub(crate) fn shared_prefix(recipe: &Recipe, count: usize) -> Option<Recipe> {
    // The marks that an export asks for are those of all stages, and are a part of the tokenizer.
    if count == 0 || count >= recipe.stage.len() || recipe.export != ExportForm::Own {
        return None;
    }
    let mut prefix = recipe.clone();
    prefix.stage.truncate(count);
    // What an evaluation says of overlap depends on the mixtures of later stages.
    if prefix.stage.iter().any(|stage| matches!(stage, Stage::Eval(_))) {
        return None;
    }
    let needs_no_connector = |stage: &Stage| match stage {
        Stage::Encoder(s) => !s.objective.packs(),
        Stage::Probe(_) => true,
        Stage::Pretrain(_) | Stage::Sft(_) | Stage::Eval(_) | Stage::Recaption(_) => false,
    };
    if recipe.model.from.is_none() && prefix.stage.iter().all(needs_no_connector) {
        prefix.model.connector = ConnectorConfig::AveragePool(AveragePoolConfig { tokens: 1, bias: true });
    }
    let names: Vec<&str> = prefix.stage.iter().map(Stage::name).collect();
    prefix.name = format!("shared: {}", names.join(", "));
    Some(prefix)
}
