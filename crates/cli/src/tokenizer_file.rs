//! The tokenizer of another program: in a Hugging Face folder, or inside of a GGUF file.

use std::path::Path;

use anyhow::{Context as _, Result};
use mm1_data::chat_template::ChatTemplate;
use mm1_data::text_file;

use crate::stored_tokenizer;

/// A tokenizer as a file has it.
pub(crate) struct TokenizerFile {
    /// The text of a `tokenizer.json`.
    pub(crate) json: String,
    /// How its model writes conversations, where it says so.
    pub(crate) template: Option<ChatTemplate>,
}

impl TokenizerFile {
    /// Reads a `tokenizer.json` with the chat template beside it, or a GGUF file.
    ///
    /// # Errors
    /// One line with the file and what can't be read.
    pub(crate) fn read(path: &Path) -> Result<Self> {
        if !path.extension().is_some_and(|end| end.eq_ignore_ascii_case("gguf")) {
            let template = ChatTemplate::load(path.parent().unwrap_or(Path::new(".")))?;
            return Ok(Self { json: text_file::read(path)?, template });
        }
        let stored = stored_tokenizer::of_file(path)?;
        let read = || -> Result<Self> {
            let template = ChatTemplate::of_settings(&stored.to_config_json(), None)?;
            Ok(Self { json: stored.to_json()?, template })
        };
        read().with_context(|| path.display().to_string())
    }
}
