//! [`JudgedPrompt`]: how likely a model behind an address finds given texts after a prompt.
//!
//! Two fields of vLLM's interface say it: `continue_final_message` puts a text behind the prompt as the
//! beginning of the answer, and `prompt_logprobs` tells how likely each token of the whole was. The prompt
//! alone is sent first: by its length the text's tokens are found in the whole.

use anyhow::{Result, ensure};
use mm1_data::document::Segment;
use mm1_data::likelihood::Likelihood;
use serde_json::{Value, json};

use super::exchange::{AskFailure, ServerExchange, ServerQuestion};
use super::{CHAT, RemotePrompt, messages};
use crate::prompt::Prompt;
use crate::refusal::Refusal;

/// The route of running text.
const TEXT: &str = "/completions";

/// Bytes of the longest answer that is read: some hundred for each token of a long prompt.
const MOST: u64 = 64 << 20;

/// A prompt, and the texts that are judged after it.
pub(super) struct JudgedPrompt<'a> {
    model: &'a str,
    prompt: Written,
    texts: &'a [String],
}

/// A prompt in the form of its route.
enum Written {
    Messages(Vec<Value>),
    /// Running text.
    Text(String),
}

impl<'a> JudgedPrompt<'a> {
    /// Of the `model` behind the address.
    ///
    /// # Errors
    /// [`Refusal`] of running text with pictures, for which the interface has no place.
    pub(super) fn of(model: &'a str, asked: &'a RemotePrompt) -> Result<Self> {
        let RemotePrompt { prompt, continuations } = asked;
        let turns = prompt.segments.iter().any(|segment| matches!(segment, Segment::Token { .. }));
        let prompt = if turns { Written::Messages(messages(prompt)?) } else { Written::Text(text(prompt)?) };
        Ok(Self { model, prompt, texts: continuations })
    }

    /// The likelihoods of all texts.
    pub(super) fn judge(&self, exchange: &ServerExchange<'_>) -> Result<Vec<Likelihood>, AskFailure> {
        let route = if matches!(self.prompt, Written::Messages(_)) { CHAT } else { TEXT };
        let alone = self.body(None).to_string();
        let length =
            exchange.ask(&ServerQuestion { route, body: Some(&alone), most: MOST, read: &prompt_tokens })?;
        let judge = |text: &String| {
            let body = self.body(Some((text, length))).to_string();
            let read = |answer: &str| likelihood(answer, length, text);
            exchange.ask(&ServerQuestion { route, body: Some(&body), most: MOST, read: &read })
        };
        self.texts.iter().map(judge).collect()
    }

    /// The request for the prompt alone; or for the log-probabilities of a text behind it, from that position
    /// on. Servers want at least one token to be asked for.
    fn body(&self, text: Option<(&str, usize)>) -> Value {
        let mut body = json!({ "model": self.model, "max_tokens": 1, "temperature": 0 });
        match &self.prompt {
            Written::Messages(before) => {
                let mut messages = before.clone();
                if let Some((text, _)) = text {
                    messages.push(json!({ "role": "assistant", "content": text }));
                    body["add_generation_prompt"] = json!(false);
                    body["continue_final_message"] = json!(true);
                }
                body["messages"] = Value::Array(messages);
            }
            Written::Text(before) => {
                body["prompt"] = json!(format!("{before}{}", text.map_or("", |text| text.0)))
            }
        }
        if let Some((_, from)) = text {
            body["prompt_logprobs"] = json!(1);
            // What is before is then not read again for each text. A server that does not know the field
            // tells of all.
            body["logprob_start_len"] = json!(from);
        }
        body
    }
}

/// A prompt of running text.
fn text(prompt: &Prompt) -> Result<String> {
    let pictures = prompt.segments.iter().any(|segment| matches!(segment, Segment::Image(_)));
    ensure!(
        !pictures,
        Refusal::new(
            "--style pretrained: behind an address running text with pictures has no likelihoods: give \
             --style chat"
        )
    );
    Ok(prompt.text())
}

fn prompt_tokens(answer: &str) -> Result<usize, String> {
    let tokens = parsed(answer)?["usage"]["prompt_tokens"].as_u64();
    tokens
        .and_then(|tokens| usize::try_from(tokens).ok())
        .ok_or("its answer has no usage.prompt_tokens".to_owned())
}

/// Of `text`, whose tokens begin at position `from` of the prompt.
fn likelihood(answer: &str, from: usize, text: &str) -> Result<Likelihood, String> {
    let answer = parsed(answer)?;
    // vLLM writes those of a chat beside its choices, and those of a completion into them.
    let told = [&answer["prompt_logprobs"], &answer["choices"][0]["prompt_logprobs"]];
    let told = told.into_iter().find_map(Value::as_array).ok_or(
        "its answer has no prompt_logprobs: tasks by likelihood need a server with this field of vLLM's, as \
         mm1 serve is"
            .to_owned(),
    )?;
    let told = told.get(from..).unwrap_or_default();
    let mut likelihood = Likelihood { log_prob: 0.0, tokens: told.len(), greedy: true };
    let mut spelt = String::new();
    for position in told {
        // The token that stands there, and the likeliest where that is another one.
        let tokens = position.as_object().into_iter().flat_map(|tokens| tokens.values());
        let tokens = tokens.filter_map(|token| Some((token["logprob"].as_f64()?, token)));
        let (log_prob, token) = tokens
            .reduce(|a, b| if b.0 < a.0 { b } else { a })
            .ok_or_else(|| "its prompt_logprobs say nothing of a token of the text".to_owned())?;
        likelihood.log_prob += log_prob;
        likelihood.greedy &= position.as_object().is_some_and(|tokens| tokens.len() == 1);
        spelt.push_str(token["decoded_token"].as_str().unwrap_or_default());
    }
    // Where characters are cut into several tokens, these do not spell them one by one.
    if told.is_empty() || text.is_ascii() && spelt.trim() != text.trim() {
        return Err(format!(
            "the last tokens of the prompt spell {spelt:?}, and not the text {text:?}: the server writes it \
             otherwise behind a prompt"
        ));
    }
    Ok(likelihood)
}

fn parsed(answer: &str) -> Result<Value, String> {
    serde_json::from_str(answer).map_err(|_| "its answer is no JSON".to_owned())
}
