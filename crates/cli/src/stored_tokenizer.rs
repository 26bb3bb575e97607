//! The tokenizer inside of a GGUF file: what `mm1-model` finds there is what `mm1-data` makes a tokenizer of.
//! Neither crate knows the other; both forms are the same plain values.

use std::collections::BTreeMap;
use std::path::Path;

use anyhow::{Context as _, Result};
use mm1_data::gguf_tokenizer::GgufTokenizer;
use mm1_model::gguf::{GgufFile, StoredTokenizer};

/// The struct `$into` with the fields of `$found` that both forms have, and `$own` besides.
macro_rules! same_fields {
    ($found:expr => $into:ident $(, $own:ident: $value:expr)?) => {{
        let found = $found;
        $into {
            model: found.model,
            pre: found.pre,
            tokens: found.tokens,
            token_types: found.token_types,
            scores: found.scores,
            merges: found.merges,
            special_ids: found.special_ids,
            switches: found.switches,
            chat_template: found.chat_template,
            $($own: $value,)?
        }
    }};
}

/// The tokenizer of a GGUF file.
///
/// # Errors
/// One line with the file and the key: a file that can't be read, a key that is missing, unknown or of
/// another type.
pub(crate) fn of_file(file: &Path) -> Result<GgufTokenizer> {
    let found = StoredTokenizer::of(&GgufFile::open(file)?).with_context(|| file.display().to_string())?;
    Ok(same_fields!(found => GgufTokenizer))
}

/// The inverse of [`of_file`]: as a file is given it. There is one chat template.
pub(crate) fn for_file(tokenizer: GgufTokenizer) -> StoredTokenizer {
    same_fields!(tokenizer => StoredTokenizer, chat_templates: BTreeMap::new())
}
