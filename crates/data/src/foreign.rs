//! [`ForeignTokenizer`]: the tokenizer of a model that was trained elsewhere.

use std::path::Path;

use anyhow::{Context as _, Result, anyhow, ensure};
use tokenizers::{PostProcessor as _, TruncationParams};

use crate::text_file;

/// Text to the ids that another model's `tokenizer.json` gives, whatever its kind; ours is
/// [`Tokenizer`](crate::tokenizer::Tokenizer). The special tokens are those that its post-processor adds, and
/// text that spells a special token becomes that token, both as in Hugging Face's own tokenizers.
pub struct ForeignTokenizer {
    inner: tokenizers::Tokenizer,
}

impl ForeignTokenizer {
    /// Reads a `tokenizer.json`. Texts of more than `most` ids lose the last of their own, but none that is
    /// added, as with `truncation=True` in Hugging Face's tokenizers; short ones are not filled up, even
    /// where the file says so.
    ///
    /// # Errors
    /// One line with the file when it can't be read, is no tokenizer, or adds more than `most` ids to every
    /// text.
    pub fn load(path: &Path, most: usize) -> Result<Self> {
        let read = || {
            let json = text_file::read(path)?;
            let mut inner = tokenizers::Tokenizer::from_bytes(json).map_err(|e| anyhow!(e))?;
            let added = inner.get_post_processor().map_or(0, |processor| processor.added_tokens(false));
            // The library subtracts without looking.
            ensure!(added <= most, "it adds {added} tokens to every text, where there is room for {most}");
            let truncation = TruncationParams { max_length: most, ..TruncationParams::default() };
            inner.with_truncation(Some(truncation)).map_err(|e| anyhow!(e))?;
            // A file's padding is for batches of its own program.
            inner.with_padding(None);
            Ok(Self { inner })
        };
        read().with_context(|| format!("tokenizer {}", path.display()))
    }

    /// The ids of a text, with special tokens.
    ///
    /// # Errors
    /// A text that has none by this tokenizer: it lacks a token for unknown words.
    pub fn encode(&self, text: &str) -> Result<Vec<u32>> {
        let encoding = self.inner.encode_fast(text, true);
        Ok(encoding.map_err(|e| anyhow!(e).context(format!("{text:?} has no tokens")))?.get_ids().to_vec())
    }
}
