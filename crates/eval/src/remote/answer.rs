//! What a server's JSON says: the words of a reply, or why there are none.

use serde_json::Value;

use crate::model::Reply;
use crate::no_answer::NoAnswer;

/// The reply in the body of an answer of the OpenAI interface. A message without text is a reply of no words.
/// Its content may be a text, a list of parts, or null.
///
/// # Errors
/// A body that holds no message: what is wrong with it.
pub(super) fn reply(body: &str) -> Result<Reply, String> {
    if body.trim().is_empty() {
        return Err("its answer is empty".to_owned());
    }
    let answer: Value = serde_json::from_str(body).map_err(|_| "its answer is no JSON".to_owned())?;
    let choice = &answer["choices"][0];
    let Some(message) = choice["message"].as_object() else {
        return Err("its answer has no choices[0].message".to_owned());
    };
    let content = message.get("content").unwrap_or(&Value::Null);
    let words = match content {
        Value::String(text) => text.clone(),
        Value::Array(parts) => parts.iter().filter_map(part).collect(),
        _ => String::new(),
    };
    if !words.is_empty() {
        return Ok(Reply::Words(words));
    }
    let mut reason = match content {
        Value::Null => "the message's content is null",
        Value::String(_) => "the message is empty",
        Value::Array(_) => "the message is a list without text",
        _ => "the message's content is neither text nor a list",
    }
    .to_owned();
    // What these servers say of it: `length`, `content_filter`, `tool_calls`.
    if let Some(finish) = choice["finish_reason"].as_str().filter(|finish| *finish != "stop") {
        reason += &format!(" (finish_reason {})", short(finish));
    }
    if let Some(refusal) = message.get("refusal").and_then(Value::as_str).filter(|text| !text.is_empty()) {
        reason += &format!(": {}", short(refusal));
    }
    Ok(Reply::Nothing(NoAnswer::Empty(reason)))
}

/// The names in a list of models: `{"data": [{"id": …}, …]}`.
///
/// # Errors
/// A body that is no such list: what is wrong with it.
pub(super) fn model_names(body: &str) -> Result<Vec<String>, String> {
    let answer: Value = serde_json::from_str(body).map_err(|_| "its list of models is no JSON".to_owned())?;
    let models = answer["data"].as_array().ok_or("its list of models has no data")?;
    let names: Option<Vec<_>> = models.iter().map(|model| model["id"].as_str().map(str::to_owned)).collect();
    names.ok_or_else(|| "a model of its list has no id".to_owned())
}

/// The text of a part of a message: `{"type": "text", "text": …}`, or a text.
fn part(part: &Value) -> Option<&str> {
    part.as_str().or_else(|| part["text"].as_str())
}

/// What an error's body says: the message where it has the usual form, else all of it.
pub(super) fn error_message(body: &str) -> String {
    let value: Value = serde_json::from_str(body).unwrap_or_default();
    let error = &value["error"];
    let message = [&error["message"], error, &value["message"], &value["detail"]].map(Value::as_str);
    message.into_iter().flatten().next().unwrap_or(body).to_owned()
}

fn short(text: &str) -> String {
    text.split_whitespace().take(40).collect::<Vec<_>>().join(" ").chars().take(200).collect()
}
