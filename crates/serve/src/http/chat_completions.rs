//! `POST /v1/chat/completions`

use axum::extract::State;
use axum::response::{IntoResponse as _, Response};
use serde_json::{Value, json};

use super::answer_fields::AnswerFields;
use super::answers::{Answers, WholeAnswer, finish_reason};
use super::api_error::ApiError;
use super::app::{App, Shared, now};
use super::conversation::Conversation;
use super::fields::Fields;
use super::json::Json;
use super::messages::{self, Fetched};
use super::reply::Envelope;
use super::{log_prob_form, tokenize};
use crate::engine::{AnswerEvent, ReadyPrompt};

/// The most tokens of an answer, if nothing is asked for. It is reserved: a whole context for each would let
/// few be answered side by side.
const DEFAULT: usize = 512;

pub(super) async fn answer(State(app): State<Shared>, mut fields: Fields) -> Result<Response, ApiError> {
    app.check_model(fields.take::<String>("model")?.as_deref())?;
    let missing = || ApiError::invalid("messages", "messages is missing");
    let conversation = Conversation::take(&mut fields)?.ok_or_else(missing)?;
    let asked = AnswerFields::take(&mut fields, &app).await?;
    let log_probs = AnswerFields::chat_log_probs(&mut fields)?;
    let room = fields.finish()?;
    let fetched = messages::fetched(&conversation.messages, &app).await?;
    let prompt = tokenize::blocking(&app, move |app| {
        let _room = room;
        ready(app, conversation, &fetched)
    });
    let prompt = prompt.await?;
    let answers = Answers::ask(&app, vec![prompt], &asked, (log_probs, DEFAULT))?;
    let object = if asked.stream { "chat.completion.chunk" } else { "chat.completion" };
    let model = app.server.model.id.clone();
    let envelope = Envelope { id: app.answer_id("chatcmpl"), object, created: now(), model };
    if asked.stream {
        let begin = |index| json!({ "index": index, "delta": { "role": "assistant", "content": "" }, "finish_reason": null });
        let begin = (0..answers.count()).map(begin).collect();
        return Ok(envelope.stream(answers, asked.usage, (begin, move |i, event| chunk(&app, i, event))));
    }
    let (whole, usage) = answers.whole().await?;
    let choice = |(i, answer)| choice(&app, i, answer, log_probs.is_some());
    let mut body = envelope.whole(whole.iter().enumerate().map(choice).collect(), usage);
    // As vLLM: all answers have one prompt.
    if let Some(first) = whole.first().filter(|first| !first.prompt_log_probs.is_empty()) {
        body["prompt_logprobs"] = log_prob_form::prompt(app.prompts().tokenizer(), &first.prompt_log_probs);
    }
    Ok(Json(body).into_response())
}

fn ready(app: &App, conversation: Conversation, fetched: &Fetched) -> Result<ReadyPrompt, ApiError> {
    tokenize::ready(app, &conversation.prompt(fetched, app)?, "messages")
}

fn choice(app: &App, index: usize, answer: &WholeAnswer, with_log_probs: bool) -> Value {
    let tokenizer = app.prompts().tokenizer();
    let mut choice = json!({
        "index": index,
        "message": { "role": "assistant", "content": answer.text },
        "logprobs": null,
        "finish_reason": answer.finish.map(finish_reason),
    });
    if with_log_probs {
        choice["logprobs"] = log_prob_form::chat(tokenizer, &answer.log_probs);
    }
    if !answer.attention.is_empty() {
        choice["attention"] = json!(answer.attention);
    }
    choice
}

fn chunk(app: &App, index: usize, event: AnswerEvent) -> Option<Value> {
    match event {
        AnswerEvent::Token { text, log_prob, attention }
            if !text.is_empty() || log_prob.is_some() || !attention.is_empty() =>
        {
            let mut choice = json!({ "index": index, "delta": { "content": text }, "finish_reason": null });
            if !attention.is_empty() {
                choice["attention"] = json!([attention]);
            }
            if let Some(log_prob) = log_prob {
                choice["logprobs"] = log_prob_form::chat(app.prompts().tokenizer(), &[log_prob]);
            }
            Some(choice)
        }
        AnswerEvent::End { finish } => {
            Some(json!({ "index": index, "delta": {}, "finish_reason": finish_reason(finish) }))
        }
        _ => None,
    }
}
