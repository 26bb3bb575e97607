//! Log probabilities in the forms of OpenAI and, of prompts, of vLLM.

use mm1_data::tokenizer::Tokenizer;
use serde_json::{Map, Value, json};

use crate::log_probs::TokenLogProb;

/// A token's text. A control token is written by its name.
pub(super) fn token_text(tokenizer: &Tokenizer, id: u32) -> String {
    match tokenizer.control_name(id) {
        Some(name) => name.to_owned(),
        None => String::from_utf8_lossy(tokenizer.bytes(id)).into_owned(),
    }
}

/// A chat's `logprobs.content`.
pub(super) fn chat(tokenizer: &Tokenizer, tokens: &[TokenLogProb]) -> Value {
    let one = |id: u32, log_prob: f64| {
        json!({
            "token": token_text(tokenizer, id),
            "logprob": log_prob,
            "bytes": tokenizer.bytes(id),
        })
    };
    let content = tokens.iter().map(|token| {
        let mut value = one(token.id, token.log_prob);
        value["top_logprobs"] = token.top.iter().map(|&(id, log_prob)| one(id, log_prob)).collect();
        value
    });
    json!({ "content": content.collect::<Vec<_>>(), "refusal": null })
}

/// A completion's `logprobs`, of a text that begins `offset` characters behind what it follows.
pub(super) fn completion(
    tokenizer: &Tokenizer,
    tokens: &[Option<&TokenLogProb>],
    (ids, offset): (&[u32], usize),
) -> Value {
    let mut at = offset;
    let (mut texts, mut log_probs, mut top, mut offsets) = (Vec::new(), Vec::new(), Vec::new(), Vec::new());
    for (&id, token) in ids.iter().zip(tokens) {
        let text = token_text(tokenizer, id);
        offsets.push(at);
        at += text.chars().count();
        texts.push(text);
        log_probs.push(token.map(|token| token.log_prob));
        top.push(token.map(|token| {
            // Two tokens may have one text: the likelier one stands.
            let mut map = Map::new();
            for &(id, log_prob) in &token.top {
                map.entry(token_text(tokenizer, id)).or_insert_with(|| json!(log_prob));
            }
            map
        }));
    }
    json!({ "tokens": texts, "token_logprobs": log_probs, "top_logprobs": top, "text_offset": offsets })
}

/// vLLM's `prompt_logprobs`: for each position the token that stands there, and the likeliest.
pub(super) fn prompt(tokenizer: &Tokenizer, tokens: &[Option<TokenLogProb>]) -> Value {
    let one =
        |id: u32, log_prob: f64| json!({ "logprob": log_prob, "decoded_token": token_text(tokenizer, id) });
    let position = |token: &TokenLogProb| {
        let mut map = Map::new();
        map.insert(token.id.to_string(), one(token.id, token.log_prob));
        for &(id, log_prob) in &token.top {
            map.entry(id.to_string()).or_insert_with(|| one(id, log_prob));
        }
        Value::Object(map)
    };
    tokens.iter().map(|token| token.as_ref().map_or(Value::Null, position)).collect()
}
