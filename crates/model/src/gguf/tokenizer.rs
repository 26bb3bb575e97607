//! The tokenizer inside of a file, as it is stored there.

use std::collections::BTreeMap;

use anyhow::{Context as _, Result, bail, ensure};

use super::file::GgufFile;
use super::metadata::MetadataValue;

/// What all of its keys begin with.
const PREFIX: &str = "tokenizer.";

/// Keys that change no id of a text: a whole `tokenizer.json` that says the same again, the number of
/// segments.
const WITHOUT_EFFECT: [&str; 3] =
    ["tokenizer.huggingface.json", "tokenizer.ggml.token_type_count", "tokenizer.chat_templates"];

/// A tokenizer as it is stored: plain values, of which `mm1_data::gguf_tokenizer` makes a tokenizer.
#[derive(Clone, Debug, Default, PartialEq)]
pub struct StoredTokenizer {
    /// What it is (`tokenizer.ggml.model`): `gpt2` is a byte-level BPE, `llama` one of SentencePiece.
    pub model: String,
    /// How texts are cut into words, by llama.cpp's name (`tokenizer.ggml.pre`).
    pub pre: Option<String>,
    /// Each token, by its id.
    pub tokens: Vec<String>,
    /// What each is: 1 normal, 2 unknown, 3 control, 4 user-defined, 5 unused, 6 byte. Empty where it is not
    /// said.
    pub token_types: Vec<i64>,
    /// The score of each. Empty where it is not said.
    pub scores: Vec<f32>,
    /// Pairs of tokens that become one, the first first; a space between both.
    pub merges: Vec<String>,
    /// Ids of tokens with a meaning, by its name: `bos`, `eos`, `unknown`, `padding`, ….
    pub special_ids: BTreeMap<String, u32>,
    /// Switches by their names: `add_bos_token`, `add_eos_token`, `add_space_prefix`, ….
    pub switches: BTreeMap<String, bool>,
    /// How a conversation is written, in Jinja.
    pub chat_template: Option<String>,
    /// Other ways to write one, by name.
    pub chat_templates: BTreeMap<String, String>,
}

impl StoredTokenizer {
    /// The one of a file.
    ///
    /// # Errors
    /// One line with the key that is missing, unknown, or of another type.
    pub fn of(file: &GgufFile) -> Result<Self> {
        let mut found = Self::default();
        let keys = file.metadata.iter().filter(|(key, _)| key.starts_with(PREFIX));
        for (key, value) in keys.filter(|(key, _)| !WITHOUT_EFFECT.contains(&key.as_str())) {
            found.take(key, value).with_context(|| key.clone())?;
        }
        ensure!(!found.model.is_empty(), "tokenizer.ggml.model is missing: the file has no tokenizer");
        ensure!(!found.tokens.is_empty(), "tokenizer.ggml.tokens is missing: the file has no vocabulary");
        for (what, count) in [("token_type", found.token_types.len()), ("scores", found.scores.len())] {
            let tokens = found.tokens.len();
            ensure!(
                count == 0 || count == tokens,
                "tokenizer.ggml.{what} has {count} values for {tokens} tokens"
            );
        }
        let outside = found.special_ids.iter().find(|(_, id)| **id as usize >= found.tokens.len());
        if let Some((name, id)) = outside {
            bail!("tokenizer.ggml.{name}_token_id = {id}, but there are {} tokens", found.tokens.len());
        }
        Ok(found)
    }

    fn take(&mut self, key: &str, value: &MetadataValue) -> Result<()> {
        let own = key.strip_prefix("tokenizer.ggml.").unwrap_or(key);
        match own {
            "model" => value.text()?.clone_into(&mut self.model),
            "pre" => self.pre = Some(value.text()?.to_owned()),
            "tokens" => self.tokens = value.texts()?.to_vec(),
            "merges" => self.merges = value.texts()?.to_vec(),
            "token_type" => self.token_types = value.integers()?,
            "scores" => self.scores = value.floats()?.into_iter().map(|score| score as f32).collect(),
            "tokenizer.chat_template" => self.chat_template = Some(value.text()?.to_owned()),
            "add_bos_token"
            | "add_eos_token"
            | "add_sep_token"
            | "add_space_prefix"
            | "remove_extra_whitespaces" => {
                self.switches.insert(own.to_owned(), value.bool()?);
            }
            _ => {
                if let Some(name) = key.strip_prefix("tokenizer.chat_template.") {
                    self.chat_templates.insert(name.to_owned(), value.text()?.to_owned());
                } else if let Some(name) = own.strip_suffix("_token_id") {
                    let id = u32::try_from(value.size()?).context("it is no token id")?;
                    self.special_ids.insert(name.to_owned(), id);
                } else {
                    bail!("it is not known, so the tokenizer can't be read");
                }
            }
        }
        Ok(())
    }

    /// The keys and values of a file that has it; `vocab` rows of the embedding want a token each, and what
    /// is behind the last token is unused.
    pub(super) fn metadata(&self, vocab: usize) -> Vec<(String, MetadataValue)> {
        let unused = self.tokens.len()..vocab;
        let mut tokens = self.tokens.clone();
        tokens.extend(unused.clone().map(|id| format!("[PAD{id}]")));
        let mut values = vec![
            ("model".to_owned(), MetadataValue::Text(self.model.clone())),
            ("tokens".to_owned(), MetadataValue::Texts(tokens)),
        ];
        if let Some(pre) = &self.pre {
            values.push(("pre".to_owned(), MetadataValue::Text(pre.clone())));
        }
        if !self.token_types.is_empty() {
            let types = self.token_types.iter().map(|&kind| kind as i32);
            values
                .push(("token_type".to_owned(), MetadataValue::i32s(types.chain(unused.clone().map(|_| 5)))));
        }
        if !self.scores.is_empty() {
            let scores = self.scores.iter().copied();
            values.push(("scores".to_owned(), MetadataValue::f32s(scores.chain(unused.map(|_| -1000.0)))));
        }
        if !self.merges.is_empty() {
            values.push(("merges".to_owned(), MetadataValue::Texts(self.merges.clone())));
        }
        let ids = self.special_ids.iter();
        values.extend(ids.map(|(name, &id)| (format!("{name}_token_id"), MetadataValue::u32(id))));
        let switches = self.switches.iter();
        values.extend(switches.map(|(name, &on)| (name.clone(), MetadataValue::Bool(on))));
        let ggml = values.into_iter().map(|(key, value)| (format!("tokenizer.ggml.{key}"), value));
        let templates = self.chat_templates.iter().map(|(name, template)| (format!(".{name}"), template));
        let templates = self.chat_template.iter().map(|template| (String::new(), template)).chain(templates);
        let templates = templates.map(|(name, template)| {
            (format!("tokenizer.chat_template{name}"), MetadataValue::Text(template.clone()))
        });
        ggml.chain(templates).collect()
    }
}
