//! The tokenizer inside of a GGUF file: what `mm1-model` finds there is what `mm1-data` makes a tokenizer of.
//! Neither crate knows the other; both forms are the same plain values.

use std::collections::BTreeMap;
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

/// The inverse of [`of_file`]: as a file is given it. There is one chat template.
pub(crate) fn for_file(tokenizer: GgufTokenizer) -> StoredTokenizer {
    let GgufTokenizer { model, pre, tokens, token_types, scores, .. } = tokenizer;
    let GgufTokenizer { merges, special_ids, switches, chat_template, .. } = tokenizer;
    let chat_templates = BTreeMap::new();
    StoredTokenizer {
        model,
        pre,
        tokens,
        token_types,
        scores,
        merges,
        special_ids,
        switches,
        chat_template,
        chat_templates,
    }
}
