//! What a tokenizer of others must hold to: every byte has a token, and texts stay texts.

use anyhow::{Result, anyhow, bail, ensure};
use tokenizers::{NormalizedString, Normalizer as _};

use super::Tokenizer;
use crate::token_form::{TextPlace, TokenForm};

/// A text that comes back as it is, if nothing changes texts: capitals, two kinds of accents, spaces, lines,
/// and what spells a byte of SentencePiece.
const SAMPLE: &str = " A Caf\u{e9} cafe\u{301},  \u{fb01}ve\n\t\u{1f469} <0x41>.";

impl Tokenizer {
    /// Refuses a tokenizer that lacks bytes, or changes texts.
    pub(super) fn check(&self) -> Result<()> {
        self.check_bytes()?;
        self.check_texts()
    }

    /// Refuses a tokenizer by which text becomes another text or a special token.
    fn check_texts(&self) -> Result<()> {
        for control in self.controls.iter() {
            let name = &control.name;
            for text in [name.clone(), format!("a {name} b")] {
                let ids = self.encode(&text);
                let spelt = ids.iter().any(|&id| self.control_name(id).is_some());
                ensure!(!spelt, "text that spells {name} becomes that token: a caption could end a document");
            }
        }
        let mut sample = NormalizedString::from(SAMPLE);
        // SentencePiece's writes spaces otherwise, which its tokens undo.
        if let (TokenForm::ByteLevel, Some(normalizer)) = (self.form, self.inner.get_normalizer()) {
            normalizer.normalize(&mut sample).map_err(|e| anyhow!(e))?;
        }
        let back = self.text(&self.encode_at(SAMPLE, TextPlace::AfterText));
        let sample = sample.get();
        ensure!(back == sample, "it changes texts: {SAMPLE:?} comes back as {back:?}");
        Ok(())
    }

    /// Refuses a tokenizer that lacks a byte.
    fn check_bytes(&self) -> Result<()> {
        let missing = (0..=u8::MAX)
            .filter(|&byte| self.form.needs(byte))
            .find(|&byte| self.byte_ids[usize::from(byte)].is_none());
        if let Some(byte) = missing {
            let kind = match self.form {
                TokenForm::ByteLevel => "not a byte-level BPE",
                TokenForm::SentencePiece { .. } => "model.byte_fallback needs a token for each byte",
            };
            bail!("{kind}: some bytes have no token, such as {byte:#04x}");
        }
        Ok(())
    }
}
