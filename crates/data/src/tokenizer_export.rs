//! A tokenizer as the files that transformers reads: [`ExportedTokenizer`].

use std::collections::BTreeMap;

use anyhow::{Context as _, Result, ensure};
use serde_json::{Value, json};

use crate::chat_template::{ChatTemplate, TemplateMessage};
use crate::document::Special;
use crate::special_token::{self, IMAGE_ELSEWHERE};
use crate::tokenizer::Tokenizer;

/// What is written before a chat template: messages whose content is a list of texts and pictures, as
/// processors have them, become messages of text.
const FLATTEN: &str = "{%- set flat = namespace(messages=[]) -%}{%- for message in messages -%}\
    {%- if message['content'] is string -%}{%- set flat.messages = flat.messages + [message] -%}\
    {%- else -%}{%- set turn = namespace(text='') -%}{%- for part in message['content'] -%}\
    {%- if part['type'] == 'image' -%}{%- set turn.text = turn.text + '<image>' -%}\
    {%- elif part['type'] == 'text' -%}{%- set turn.text = turn.text + part['text'] -%}{%- endif -%}\
    {%- endfor -%}{%- set flat.messages = flat.messages + \
    [{'role': message['role'], 'content': turn.text}] -%}{%- endif -%}{%- endfor -%}\
    {%- set messages = flat.messages %}";

/// The files of a tokenizer, and what other files say of it.
#[derive(Clone, Debug, PartialEq)]
pub struct ExportedTokenizer {
    /// `tokenizer.json`. The image token is `<image>` in it, as processors expect.
    pub json: String,
    /// `tokenizer_config.json`.
    pub settings: Value,
    /// `chat_template.jinja`, if the model writes conversations.
    pub template: Option<String>,
}

impl Tokenizer {
    /// The files for a model whose processor is the class `processor`. `own_template` is how a model without
    /// a template of others writes conversations, if it does; `context` is the longest text that it was
    /// trained on, in tokens.
    ///
    /// # Errors
    /// A vocabulary with another token `<image>`; a template that can't be given pictures.
    pub fn exported(
        &self,
        processor: &str,
        own_template: Option<&str>,
        context: usize,
    ) -> Result<ExportedTokenizer> {
        let mut file: Value = serde_json::from_str(&self.to_json()?)?;
        let image = self.name(self.id(Special::Image))?.to_owned();
        if image != IMAGE_ELSEWHERE {
            let taken = file["model"]["vocab"].get(IMAGE_ELSEWHERE).is_some();
            ensure!(!taken, "the tokenizer has another token {IMAGE_ELSEWHERE}, the name of the image token");
            special_token::rename(&mut file, &image, IMAGE_ELSEWHERE);
        }
        let named = |id| -> Result<Value> {
            let name = self.name(id)?;
            Ok(json!(if name == image { IMAGE_ELSEWHERE } else { name }))
        };
        let mut settings = json!({
            "tokenizer_class": "PreTrainedTokenizerFast",
            "processor_class": processor,
            "clean_up_tokenization_spaces": false,
            // Without it the tokenizer gives types of tokens too, which no model takes.
            "model_input_names": ["input_ids", "attention_mask"],
            "model_max_length": context,
            "eos_token": named(self.turn_end())?,
            "pad_token": named(self.id(Special::Pad))?,
        });
        if let Some(begin) = self.begin() {
            settings["bos_token"] = named(begin)?;
        }
        let template = match self.chat_template() {
            Some(template) => {
                for (name, token) in template.tokens() {
                    settings[name] = json!(token);
                }
                Some(with_pictures(template)?)
            }
            None => {
                let own = own_template.map(|source| ChatTemplate::new(source, BTreeMap::new()));
                own.transpose()?.map(|template| with_pictures(&template)).transpose()?
            }
        };
        Ok(ExportedTokenizer { json: serde_json::to_string_pretty(&file)?, settings, template })
    }

    fn name(&self, id: u32) -> Result<&str> {
        self.control_name(id).with_context(|| format!("the token {id} has no name"))
    }
}

/// The template for messages of texts and pictures; those of text alone it writes as before.
fn with_pictures(template: &ChatTemplate) -> Result<String> {
    let source = format!("{FLATTEN}{}", template.source());
    let wide = ChatTemplate::new(&source, template.tokens().clone())?;
    let said = |role, content: &str| TemplateMessage { role, content: content.to_owned() };
    let messages = [said("user", "a \n"), said("assistant", " b"), said("user", "c")];
    for reply in [false, true] {
        ensure!(
            wide.render(&messages, reply)? == template.render(&messages, reply)?,
            "the chat template can't be given pictures: it writes other texts where messages are lists"
        );
    }
    Ok(source)
}
