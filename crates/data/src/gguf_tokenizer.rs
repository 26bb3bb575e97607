//! Tokenizers of GGUF files: plain values in, the text of a Hugging Face `tokenizer.json` out, and back.
//!
//! Two kinds are read. `gpt2` is a byte-level BPE; how it cuts texts into words stands under a name of
//! llama.cpp (`src/llama-vocab.cpp`), whose patterns are here as the tokenizers of those models have them.
//! `llama` is a BPE of SentencePiece: its merges follow from the scores of its tokens, and what has no token
//! becomes bytes.

use std::collections::{BTreeMap, HashMap};

use anyhow::{Context as _, Result, bail, ensure};
use serde_json::{Map, Value, json};

use crate::gguf_words::{self, GgufWords};

/// The longest token, in bytes: each place in it is looked at as a border of a merge.
const MAX_TOKEN: usize = 1024;
/// The most tokens.
const MAX_TOKENS: usize = 1 << 22;
/// How SentencePiece writes a space.
const SPACE: &str = "\u{2581}";

/// A tokenizer as a GGUF file has it, by the names of `tokenizer.ggml.*`.
#[derive(Clone, Debug, Default, PartialEq)]
pub struct GgufTokenizer {
    /// What it is (`model`): `gpt2` or `llama`.
    pub model: String,
    /// How texts are cut into words (`pre`), by llama.cpp's name; of `gpt2` only.
    pub pre: Option<String>,
    /// Each token, by its id.
    pub tokens: Vec<String>,
    /// What each is: 1 normal, 2 unknown, 3 control, 4 user-defined, 5 unused, 6 byte. Without them all are
    /// normal.
    pub token_types: Vec<i64>,
    /// The score of each, of `llama` only.
    pub scores: Vec<f32>,
    /// Pairs of tokens that become one, the first first, with a space between both; of `gpt2` only.
    pub merges: Vec<String>,
    /// Ids of tokens with a meaning, by its name: `bos`, `eos`, `unknown`, `padding`, ….
    pub special_ids: BTreeMap<String, u32>,
    /// Switches by their names: `add_bos_token`, `add_eos_token`, `add_space_prefix`, ….
    pub switches: BTreeMap<String, bool>,
    /// How a conversation is written, in Jinja.
    pub chat_template: Option<String>,
}

/// What a token is, as GGUF numbers it.
mod kind {
    pub(super) const NORMAL: i64 = 1;
    pub(super) const UNKNOWN: i64 = 2;
    pub(super) const CONTROL: i64 = 3;
    pub(super) const USER_DEFINED: i64 = 4;
    pub(super) const UNUSED: i64 = 5;
}

impl GgufTokenizer {
    /// The text of a `tokenizer.json` with the same ids. Control tokens are special there, user-defined ones
    /// are added tokens that are not, and unused ones are left out.
    ///
    /// # Errors
    /// One line that names the key: a model or words that are not known, a token twice, too long or of a kind
    /// that is not known, a merge of what are no tokens, lists of different lengths.
    pub fn to_json(&self) -> Result<String> {
        self.check()?;
        let byte_level = match self.model.as_str() {
            "gpt2" => true,
            "llama" => false,
            other => bail!("tokenizer.ggml.model = {other:?}: only \"gpt2\" and \"llama\" can be read"),
        };
        let ids = self.ids()?;
        let file = if byte_level { self.byte_level(&ids)? } else { self.sentence_piece(&ids)? };
        Ok(serde_json::to_string(&file)?)
    }

    /// The text of a `tokenizer_config.json` beside it: which tokens begin, end and fill up texts, and the
    /// chat template.
    pub fn to_config_json(&self) -> String {
        let names = [("bos", "bos"), ("eos", "eos"), ("padding", "pad"), ("unknown", "unk")];
        let named = names.iter().filter_map(|(own, theirs)| {
            let token = self.tokens.get(*self.special_ids.get(*own)? as usize)?;
            Some((format!("{theirs}_token"), json!(token)))
        });
        let template =
            self.chat_template.iter().map(|template| ("chat_template".to_owned(), json!(template)));
        Value::Object(named.chain(template).collect()).to_string()
    }

    fn check(&self) -> Result<()> {
        let tokens = self.tokens.len();
        ensure!(
            (1..=MAX_TOKENS).contains(&tokens),
            "tokenizer.ggml.tokens: there are {tokens}, 1 to {MAX_TOKENS} can be"
        );
        for (what, count) in [("token_type", self.token_types.len()), ("scores", self.scores.len())] {
            ensure!(
                count == 0 || count == tokens,
                "tokenizer.ggml.{what} has {count} values for {tokens} tokens"
            );
        }
        for (name, &id) in &self.special_ids {
            ensure!(
                (id as usize) < tokens,
                "tokenizer.ggml.{name}_token_id = {id}, but there are {tokens} tokens"
            );
        }
        let extra = self.switch("remove_extra_whitespaces", false);
        ensure!(
            !extra,
            "tokenizer.ggml.remove_extra_whitespaces = true changes texts: only false can be read"
        );
        Ok(())
    }

    fn kind(&self, id: usize) -> i64 {
        self.token_types.get(id).copied().unwrap_or(kind::NORMAL)
    }

    fn switch(&self, name: &str, default: bool) -> bool {
        self.switches.get(name).copied().unwrap_or(default)
    }

    /// The ids of all tokens that are in use.
    fn ids(&self) -> Result<HashMap<&str, usize>> {
        let mut ids = HashMap::with_capacity(self.tokens.len());
        for (id, token) in self.tokens.iter().enumerate() {
            let kind = self.kind(id);
            ensure!((1..=6).contains(&kind), "tokenizer.ggml.token_type: {kind} of {token:?} is not known");
            if kind == kind::UNUSED {
                continue;
            }
            ensure!(!token.is_empty(), "tokenizer.ggml.tokens: number {id} is empty");
            ensure!(
                token.len() <= MAX_TOKEN,
                "tokenizer.ggml.tokens: number {id} is of {} bytes; the limit is {MAX_TOKEN}",
                token.len()
            );
            if let Some(other) = ids.insert(token.as_str(), id) {
                bail!("tokenizer.ggml.tokens: {token:?} is number {other} and {id}");
            }
        }
        Ok(ids)
    }

    /// Tokens that a text is searched for before it is cut into words.
    fn added_tokens(&self) -> Value {
        let added = self.tokens.iter().enumerate().filter_map(|(id, token)| {
            let kind = self.kind(id);
            matches!(kind, kind::UNKNOWN | kind::CONTROL | kind::USER_DEFINED).then(|| {
                json!({
                    "id": id, "content": token, "single_word": false, "lstrip": false, "rstrip": false,
                    "normalized": false, "special": kind != kind::USER_DEFINED,
                })
            })
        });
        added.collect()
    }

    /// Puts the tokens around a text that llama.cpp puts there.
    fn post_processor(&self, add_bos: bool, plain: Value) -> Value {
        let place = |name: &str, on: bool| {
            let id = *self.special_ids.get(name).filter(|_| on)?;
            Some((self.tokens[id as usize].clone(), id))
        };
        let before = place("bos", self.switch("add_bos_token", add_bos));
        let behind = place("eos", self.switch("add_eos_token", false));
        if before.is_none() && behind.is_none() {
            return plain;
        }
        let special = |token: &Option<(String, u32)>, type_id: u32| {
            token.as_ref().map(|(token, _)| json!({"SpecialToken": {"id": token, "type_id": type_id}}))
        };
        let text = |name: &str, type_id: u32| {
            let own = json!({"Sequence": {"id": name, "type_id": type_id}});
            [special(&before, type_id), Some(own), special(&behind, type_id)].into_iter().flatten()
        };
        let tokens = [&before, &behind]
            .into_iter()
            .flatten()
            .map(|(token, id)| (token.clone(), json!({"id": token, "ids": [id], "tokens": [token]})));
        json!({
            "type": "TemplateProcessing",
            "single": text("A", 0).collect::<Value>(),
            "pair": text("A", 0).chain(text("B", 1)).collect::<Value>(),
            "special_tokens": tokens.collect::<Map<_, _>>(),
        })
    }

    /// The parts of a file that all kinds have.
    fn file(&self, parts: [Value; 4], model: Value) -> Value {
        let [normalizer, pre_tokenizer, post_processor, decoder] = parts;
        json!({
            "version": "1.0", "truncation": null, "padding": null, "added_tokens": self.added_tokens(),
            "normalizer": normalizer, "pre_tokenizer": pre_tokenizer, "post_processor": post_processor,
            "decoder": decoder, "model": model,
        })
    }

    fn byte_level(&self, ids: &HashMap<&str, usize>) -> Result<Value> {
        let pre = self.pre.as_deref().unwrap_or("default");
        let words = GgufWords::of(pre).with_context(|| {
            format!("tokenizer.ggml.pre = {pre:?}: only words of these can be read: {}", gguf_words::known())
        })?;
        let merges = self.merges.iter().map(|merge| merge_of(merge, ids)).collect::<Result<Value>>()?;
        let byte_level = json!({
            "type": "ByteLevel", "add_prefix_space": false, "trim_offsets": true, "use_regex": true,
        });
        let normalizer = if words.nfc { json!({"type": "NFC"}) } else { Value::Null };
        let post_processor = self.post_processor(words.add_bos, byte_level.clone());
        let model = json!({
            "type": "BPE", "dropout": null, "unk_token": null, "continuing_subword_prefix": null,
            "end_of_word_suffix": null, "fuse_unk": false, "byte_fallback": false,
            "ignore_merges": words.ignore_merges, "vocab": self.vocab(), "merges": merges,
        });
        Ok(self.file([normalizer, words.pre_tokenizer(), post_processor, byte_level], model))
    }

    fn sentence_piece(&self, ids: &HashMap<&str, usize>) -> Result<Value> {
        ensure!(!self.scores.is_empty(), "tokenizer.ggml.scores is missing: merges follow from them");
        ensure!(
            self.scores.iter().all(|score| !score.is_nan()),
            "tokenizer.ggml.scores has what is no number"
        );
        let missing =
            (0..=u8::MAX).map(|byte| format!("<0x{byte:02X}>")).find(|byte| !ids.contains_key(&**byte));
        if let Some(byte) = missing {
            bail!("tokenizer.ggml.tokens: the byte {byte} is missing");
        }
        let unknown = self.special_ids.get("unknown").map(|&id| self.tokens[id as usize].as_str());
        let unknown = unknown.or_else(|| ids.get_key_value("<unk>").map(|(token, _)| *token));
        let prefix = self.switch("add_space_prefix", true);
        let replace = json!({"type": "Replace", "pattern": {"String": " "}, "content": SPACE});
        let normalizer = if prefix {
            json!({"type": "Sequence", "normalizers": [{"type": "Prepend", "prepend": SPACE}, replace]})
        } else {
            replace
        };
        let mut decoders = vec![
            json!({"type": "Replace", "pattern": {"String": SPACE}, "content": " "}),
            json!({"type": "ByteFallback"}),
            json!({"type": "Fuse"}),
        ];
        if prefix {
            decoders.push(json!({"type": "Strip", "content": " ", "start": 1, "stop": 0}));
        }
        let decoder = json!({"type": "Sequence", "decoders": decoders});
        let model = json!({
            "type": "BPE", "dropout": null, "unk_token": unknown, "continuing_subword_prefix": null,
            "end_of_word_suffix": null, "fuse_unk": true, "byte_fallback": true, "ignore_merges": false,
            "vocab": self.vocab(), "merges": self.scored_merges(ids),
        });
        let post_processor = self.post_processor(true, Value::Null);
        Ok(self.file([normalizer, Value::Null, post_processor, decoder], model))
    }

    fn vocab(&self) -> Value {
        let used = self.tokens.iter().enumerate().filter(|(id, _)| self.kind(*id) != kind::UNUSED);
        Value::Object(used.map(|(id, token)| (token.clone(), json!(id))).collect())
    }

    /// Every way to make a token of two, the token of the best score first, as the converters of
    /// `transformers` list them. Only normal tokens are made: no text becomes a control token.
    fn scored_merges(&self, ids: &HashMap<&str, usize>) -> Value {
        let normal = |token: &str| ids.get(token).is_some_and(|&id| self.kind(id) == kind::NORMAL);
        let mut merges = Vec::new();
        for (id, token) in self.tokens.iter().enumerate().filter(|(id, _)| self.kind(*id) == kind::NORMAL) {
            let borders = token.char_indices().skip(1).map(|(border, _)| token.split_at(border));
            let pairs = borders.filter(|(left, right)| normal(left) && normal(right));
            merges.extend(pairs.map(|pair| (self.scores[id], pair)));
        }
        let left = |pair: &(&str, &str)| pair.0.chars().count();
        merges.sort_by(|(a, one), (b, other)| b.total_cmp(a).then_with(|| left(other).cmp(&left(one))));
        merges.into_iter().map(|(_, (left, right))| json!([left, right])).collect()
    }
}

/// Both tokens of a merge, which have to be there, and what they become.
fn merge_of(merge: &str, ids: &HashMap<&str, usize>) -> Result<Value> {
    // A token may begin with a space, not end with one.
    let border = merge.char_indices().skip(1).find(|(_, letter)| *letter == ' ');
    let pair = border.map(|(border, _)| (&merge[..border], &merge[border + 1..]));
    let pair = pair.filter(|(left, right)| {
        ids.contains_key(left) && ids.contains_key(right) && ids.contains_key(&*format!("{left}{right}"))
    });
    let (left, right) = pair.with_context(|| {
        let shown: String = merge.chars().take(60).collect();
        format!("tokenizer.ggml.merges: {shown:?} is not of two tokens that become a third")
    })?;
    Ok(json!([left, right]))
}

impl GgufTokenizer {
    /// The other way: a byte-level BPE of a `tokenizer.json`, for a GGUF file. `special_ids` says which
    /// tokens begin and end texts (`bos`, `eos`, `padding`, …); nothing is put around a text.
    ///
    /// # Errors
    /// One line with the field: no byte-level BPE, words that llama.cpp has no name for, ids beyond the
    /// limit.
    pub fn of_json(text: &str, special_ids: BTreeMap<String, u32>) -> Result<Self> {
        let file: Value = serde_json::from_str(text).context("not a tokenizer.json")?;
        let model = &file["model"];
        ensure!(model["type"] == "BPE" || model["type"].is_null(), "model: only a BPE can be written");
        ensure!(
            model["byte_fallback"] != json!(true),
            "model.byte_fallback: a tokenizer of SentencePiece can't be written to GGUF, only a byte-level \
             BPE"
        );
        let words = GgufWords::of_file(&file).with_context(|| {
            format!("pre_tokenizer: llama.cpp has no name for these words; known are {}", gguf_words::known())
        })?;
        let (tokens, token_types) = tokens_of(&file)?;
        let merges = model["merges"].as_array().context("model.merges is missing")?;
        Ok(Self {
            model: "gpt2".to_owned(),
            pre: Some(words.name().to_owned()),
            tokens,
            token_types,
            merges: merges.iter().map(merge_text).collect::<Result<_>>()?,
            special_ids,
            switches: [("add_bos_token", false), ("add_space_prefix", false)]
                .map(|(name, on)| (name.to_owned(), on))
                .into(),
            ..Self::default()
        })
    }
}

/// Each token of a `tokenizer.json` by its id, and its kind. Ids that nothing has are unused.
fn tokens_of(file: &Value) -> Result<(Vec<String>, Vec<i64>)> {
    let vocab = file["model"]["vocab"].as_object().context("model.vocab is missing")?;
    let mut found = BTreeMap::new();
    for (token, id) in vocab {
        found.insert(id.as_u64().context("model.vocab: an id is no number")?, (token.as_str(), kind::NORMAL));
    }
    for token in file["added_tokens"].as_array().into_iter().flatten() {
        let content = token["content"].as_str().context("added_tokens: one without content")?;
        let kind = if token["special"] == json!(true) { kind::CONTROL } else { kind::USER_DEFINED };
        found.insert(token["id"].as_u64().context("added_tokens: one without an id")?, (content, kind));
    }
    let most = found.last_key_value().map_or(0, |(id, _)| *id as usize);
    ensure!(most < MAX_TOKENS, "the id {most} is beyond {MAX_TOKENS}");
    let token = |id: usize| {
        let own = found.get(&(id as u64)).map(|&(token, kind)| (token.to_owned(), kind));
        own.unwrap_or_else(|| (format!("[PAD{id}]"), kind::UNUSED))
    };
    Ok((0..=most).map(token).unzip())
}

/// A merge of a `tokenizer.json`, a text or a pair, as a text.
fn merge_text(merge: &Value) -> Result<String> {
    match merge {
        Value::String(text) => Ok(text.clone()),
        _ => {
            let side = |i: usize| merge[i].as_str().context("model.merges: one is neither a text nor a pair");
            Ok(format!("{} {}", side(0)?, side(1)?))
        }
    }
}
