//! [`ChatTemplate`]: how a language model of others writes a conversation, as a Jinja template of its
//! tokenizer.
//!
//! The settings are those of `apply_chat_template` of transformers: blocks are trimmed, methods of Python's
//! strings work, `raise_exception` refuses. The clock is not asked (`strftime_now` is undefined), so that a
//! conversation is the same text tomorrow.

mod guard;

use std::collections::BTreeMap;
use std::path::Path;

use anyhow::{Context as _, Result, anyhow, ensure};
use minijinja::syntax::SyntaxConfig;
use minijinja::{Environment, Error, ErrorKind, State, Value};
use minijinja_contrib::pycompat::unknown_method_callback;
use serde_json::{Map, json};

use self::guard::Guard;
use crate::{text_file, whole_file};

/// The file of a template by itself, and the settings of a tokenizer, which may hold one.
const ALONE: &str = "chat_template.jinja";
const SETTINGS: &str = "tokenizer_config.json";

/// The longest template, in bytes.
const LONGEST: usize = 1 << 20;

/// What a template may do: minijinja counts instructions, and the bytes that it makes.
const FUEL: u64 = 1 << 19;
/// For each byte of the conversation besides, which pays for 256 bytes: real templates cut and join a text a
/// few times.
const FUEL_PER_BYTE: u64 = 4;
/// What a value that it keeps may hold, in bytes; and for each byte of the conversation besides.
const MOST_KEPT: usize = 1 << 16;
const MOST_KEPT_PER_BYTE: usize = 4;
/// Calls of macros inside each other.
const DEEPEST_CALLS: usize = 50;

/// Filters that make lists of lists, or of what they do not pay for.
const UNPAID: [&str; 5] = ["chain", "groupby", "pprint", "sum", "zip"];

/// Tokens that a template may name, as transformers hands them over.
const TOKENS: [&str; 5] = ["bos_token", "eos_token", "unk_token", "pad_token", "sep_token"];

/// A message as a template sees it.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct TemplateMessage {
    /// `system`, `user` or `assistant`.
    pub role: &'static str,
    /// Its text.
    pub content: String,
}

/// A compiled template with the tokens that it names.
#[derive(Clone, Debug)]
pub struct ChatTemplate {
    source: String,
    /// By their names in [`TOKENS`].
    tokens: BTreeMap<String, String>,
    environment: Environment<'static>,
}

impl ChatTemplate {
    /// The template `source`, which may name `tokens` (`bos_token`, `eos_token`, …).
    ///
    /// # Errors
    /// A template that is too long or no Jinja, with its line.
    pub fn new(source: &str, tokens: BTreeMap<String, String>) -> Result<Self> {
        ensure!(source.len() <= LONGEST, "a chat template of {} bytes; the limit is {LONGEST}", source.len());
        let syntax = SyntaxConfig::builder().trim_blocks(true).lstrip_blocks(true).build()?;
        let guarded = guard::guarded(&without_generation_marks(source), syntax.clone())?;
        let mut environment = Environment::new();
        environment.set_syntax(syntax);
        environment.set_recursion_limit(DEEPEST_CALLS);
        UNPAID.iter().for_each(|filter| environment.remove_filter(filter));
        environment.remove_global("debug");
        environment.set_unknown_method_callback(|state, value, method, arguments| match method {
            // `{:>1000000000}` takes as many bytes, for which nobody pays.
            "format" => Err(ErrorKind::UnknownMethod.into()),
            _ => unknown_method_callback(state, value, method, arguments),
        });
        environment.add_function("raise_exception", |message: String| -> Result<Value, Error> {
            Err(Error::new(ErrorKind::InvalidOperation, message))
        });
        environment
            .add_template_owned("chat", guarded)
            .map_err(|error| anyhow!("the chat template is no Jinja that is read: {}", in_words(&error)))?;
        Ok(Self { source: source.to_owned(), tokens, environment })
    }

    /// The template of a tokenizer's `folder`: of `chat_template.jinja`, else of `tokenizer_config.json`;
    /// none where neither has one.
    ///
    /// # Errors
    /// A file that can't be read; as [`Self::new`].
    pub fn load(folder: &Path) -> Result<Option<Self>> {
        let (path, alone) = (folder.join(SETTINGS), folder.join(ALONE));
        let settings = if path.exists() { text_file::read(&path)? } else { "{}".to_owned() };
        let alone = alone.exists().then(|| text_file::read(&alone)).transpose()?;
        Self::of_settings(&settings, alone).with_context(|| path.display().to_string())
    }

    /// As [`Self::load`], of the text of a `tokenizer_config.json` and of a template in a file `alone`.
    ///
    /// # Errors
    /// As [`Self::load`], without the file's name.
    pub fn of_settings(settings: &str, alone: Option<String>) -> Result<Option<Self>> {
        let settings: Map<String, serde_json::Value> =
            serde_json::from_str(settings).ok().context("not a JSON object")?;
        let source = if alone.is_some() { alone } else { template_in(&settings)? };
        let Some(source) = source else { return Ok(None) };
        let token = |name: &&str| {
            let written = settings.get(*name)?;
            let text = written.as_str().or_else(|| written["content"].as_str())?;
            Some(((*name).to_owned(), text.to_owned()))
        };
        Self::new(&source, TOKENS.iter().filter_map(token).collect()).map(Some)
    }

    /// Writes it to the `folder` as a `tokenizer_config.json`, where [`Self::load`] finds it again.
    ///
    /// # Errors
    /// A file that can't be written.
    pub fn save(&self, folder: &Path) -> Result<()> {
        let mut settings = json!(self.tokens);
        settings["chat_template"] = json!(self.source);
        let path = folder.join(SETTINGS);
        whole_file::replace(&path, serde_json::to_string_pretty(&settings)?.as_bytes())
            .with_context(|| path.display().to_string())
    }

    /// The template itself.
    pub fn source(&self) -> &str {
        &self.source
    }

    /// The tokens that the template may name, by their names.
    pub fn tokens(&self) -> &BTreeMap<String, String> {
        &self.tokens
    }

    /// The conversation as the model reads it; with `reply` what the assistant's next turn begins with.
    ///
    /// # Errors
    /// A conversation that the template refuses, and one on which it loops or grows without bound.
    pub fn render(&self, messages: &[TemplateMessage], reply: bool) -> Result<String> {
        let bytes: usize = messages.iter().map(|message| message.content.len()).sum();
        let mut environment = self.environment.clone();
        environment.set_fuel(Some(FUEL + bytes as u64 * FUEL_PER_BYTE));
        let guard = Guard { most: MOST_KEPT + bytes * MOST_KEPT_PER_BYTE };
        environment.add_function(guard::KEPT, move |state: &State<'_, '_>, value: Value| {
            guard.kept(state, value, false)
        });
        environment.add_function(guard::NAMED, move |state: &State<'_, '_>, value: Value| {
            guard.kept(state, value, true)
        });
        let message = |message: &TemplateMessage| {
            Value::from_pairs([("role", message.role), ("content", message.content.as_str())])
        };
        let tokens = self.tokens.iter().map(|(name, token)| (name.as_str(), Value::from(token.as_str())));
        let context = Value::from_pairs(tokens.chain([
            ("messages", messages.iter().map(message).collect()),
            ("add_generation_prompt", Value::from(reply)),
            // As transformers: given, and nothing.
            ("tools", Value::from(())),
            ("documents", Value::from(())),
        ]));
        let rendered = environment.get_template("chat").and_then(|template| template.render(context));
        rendered.map_err(|error| match error.kind() {
            ErrorKind::OutOfFuel => anyhow!("the chat template loops or grows without bound: it was stopped"),
            _ => anyhow!("the chat template refuses the conversation: {}", in_words(&error)),
        })
    }
}

/// The template in `tokenizer_config.json`: one, or the one that is called `default` of several.
fn template_in(settings: &Map<String, serde_json::Value>) -> Result<Option<String>> {
    match settings.get("chat_template") {
        None | Some(serde_json::Value::Null) => Ok(None),
        Some(serde_json::Value::String(source)) => Ok(Some(source.clone())),
        Some(several) => {
            let mut named = several.as_array().into_iter().flatten();
            let default = named.find(|one| one["name"] == "default").and_then(|one| one["template"].as_str());
            let default =
                default.context("chat_template is neither a text nor a list with one of name \"default\"")?;
            Ok(Some(default.to_owned()))
        }
    }
}

/// What minijinja says, with the line.
fn in_words(error: &Error) -> String {
    let line = error.line().map(|line| format!("line {line}: ")).unwrap_or_default();
    let what = error.detail().map_or_else(|| error.kind().to_string(), ToOwned::to_owned);
    format!("{line}{what}")
}

/// `{% generation %}` and its end mark answers for transformers; they change nothing of the text.
fn without_generation_marks(source: &str) -> String {
    let (mut out, mut rest) = (String::with_capacity(source.len()), source);
    while let Some((before, after)) = rest.split_once("{%") {
        let Some((tag, behind)) = after.split_once("%}") else { break };
        let word = tag.trim_matches(|c: char| c == '-' || c == '+' || c.is_whitespace());
        let tag = match word {
            "generation" => tag.replacen(word, "if true", 1),
            "endgeneration" => tag.replacen(word, "endif", 1),
            _ => tag.to_owned(),
        };
        out.push_str(before);
        out.push_str("{%");
        out.push_str(&tag);
        out.push_str("%}");
        rest = behind;
    }
    out + rest
}
