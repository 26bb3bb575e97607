//! [`Grammars`]: answers of a form, JSON by a schema.

use std::sync::Arc;

use anyhow::{Context as _, Result, anyhow, bail};
use llguidance::api::TopLevelGrammar;
use llguidance::toktrie::{ApproximateTokEnv, InferenceCapabilities, TokRxInfo, TokTrie};
use llguidance::{Matcher, ParserFactory};
use mm1_data::tokenizer::Tokenizer;
use serde_json::{Value, json};

/// Makes grammars for the tokens of one tokenizer.
pub struct Grammars(ParserFactory);

impl Grammars {
    /// For answers that are written with `tokenizer`.
    ///
    /// # Errors
    /// A vocabulary that can't be laid out as a tree of bytes.
    pub fn new(tokenizer: &Tokenizer) -> Result<Self> {
        let info = TokRxInfo::new(tokenizer.vocab() as u32, tokenizer.turn_end());
        // Control tokens are no text: a mark that no UTF-8 has sets them apart.
        let token = |id: u32| match tokenizer.control_name(id) {
            Some(name) => [&[TokTrie::SPECIAL_TOKEN_MARKER], name.as_bytes()].concat(),
            None => tokenizer.bytes(id).to_vec(),
        };
        let tokens: Vec<Vec<u8>> = (0..info.vocab_size).map(token).collect();
        let tokens = Arc::new(ApproximateTokEnv::new(TokTrie::from(&info, &tokens)));
        let mut factory = ParserFactory::new(&(tokens as _), InferenceCapabilities::default(), &[])
            .context("laying out the vocabulary for grammars")?;
        factory.quiet();
        Ok(Self(factory))
    }

    /// The grammar of JSON that a schema allows, with a space after commas and colons and no other. A small
    /// model that may write spaces ends in nothing but them.
    ///
    /// # Errors
    /// One line: a schema that is no object, damaged, too large, or has what is not supported.
    pub fn json(&self, mut schema: Value) -> Result<AnswerGrammar> {
        let Some(fields) = schema.as_object_mut() else { bail!("the schema is no JSON object") };
        let spaces = json!({ "whitespace_flexible": false, "item_separator": ", ", "key_separator": ": " });
        fields.insert("x-guidance".to_owned(), spaces);
        let parser = self.0.create_parser(TopLevelGrammar::from_json_schema(schema))?;
        Ok(AnswerGrammar(Matcher::new(Ok(parser))))
    }
}

/// What an answer may go on with.
#[derive(Clone)]
pub struct AnswerGrammar(Matcher);

impl AnswerGrammar {
    /// The logits `[v]`, without the tokens that may not come next.
    ///
    /// # Errors
    /// A grammar that takes too long.
    pub(crate) fn apply(&mut self, logits: &[f32]) -> Result<Vec<f32>> {
        let mask = self.0.compute_mask_or_eos().map_err(|e| anyhow!("the answer's form: {e}"))?;
        let allowed = |(id, &logit): (usize, &f32)| {
            if mask.is_allowed(id as u32) { logit } else { f32::NEG_INFINITY }
        };
        Ok(logits.iter().enumerate().map(allowed).collect())
    }

    /// The answer goes on with `id`.
    ///
    /// # Errors
    /// As [`Self::apply`].
    pub(crate) fn take(&mut self, id: u32) -> Result<()> {
        self.0.consume_token(id).map_err(|e| anyhow!("the answer's form: {e}"))
    }
}
