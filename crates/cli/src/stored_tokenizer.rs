//! The tokenizer inside of a GGUF file: what `mm1-model` finds there is what `mm1-data` makes a tokenizer of.

use std::path::Path;

use anyhow::{Context as _, Result};
use mm1_data::gguf_tokenizer::GgufTokenizer;
use mm1_model::gguf::{GgufFile, StoredTokenizer};

/// The tokenizer of a GGUF file.
///
/// # Errors
/// One line with the file and the key: a file that can't be read, a key that is missing, unknown or of
/// another type.
pub(crate) fn of_file(file: &Path) -> Result<GgufTokenizer> {
    let found = StoredTokenizer::of(&GgufFile::open(file)?).with_context(|| file.display().to_string())?;
    let StoredTokenizer { model, pre, tokens, token_types, scores, .. } = found;
    let StoredTokenizer { merges, special_ids, switches, chat_template, .. } = found;
    Ok(GgufTokenizer {
        model,
        pre,
        tokens,
        token_types,
        scores,
        merges,
        special_ids,
        switches,
        chat_template,
    })
}
