//! `POST /tokenize` and `/detokenize`, and the work on prompts that is done on other threads.

use axum::extract::State;
use mm1_data::document::Segment;
use mm1_data::error_line::error_line;
use serde_json::json;

use super::api_error::ApiError;
use super::app::{App, Shared};
use super::conversation::Conversation;
use super::fields::Fields;
use super::json::Json;
use super::log_prob_form::token_text;
use super::messages;
use crate::engine::ReadyPrompt;
use crate::input::EncodedPrompt;

/// The ids of a text by itself, or of a conversation.
pub(super) async fn tokenize(State(app): State<Shared>, mut fields: Fields) -> Result<Json, ApiError> {
    app.check_model(fields.take::<String>("model")?.as_deref())?;
    let (prompt, conversation) = (fields.take::<String>("prompt")?, Conversation::take(&mut fields)?);
    let room = fields.finish()?;
    let fetched =
        messages::fetched(conversation.as_ref().map_or(&[][..], |asked| &asked.messages), &app).await?;
    let encoded = blocking(&app, move |app| {
        let _room = room;
        match (prompt, conversation) {
            (Some(text), None) => encode(app, &[Segment::prompt(text)], "prompt"),
            (None, Some(asked)) => encode(app, &asked.prompt(&fetched, app)?, "messages"),
            _ => Err(ApiError::invalid("prompt", "give either prompt or messages")),
        }
    });
    let encoded = encoded.await?;
    let (ids, most) = (encoded.ids(), app.prompts().context());
    let texts: Vec<String> = ids.iter().map(|id| token_text(app.prompts().tokenizer(), *id)).collect();
    Ok(Json(json!({ "tokens": ids, "token_strs": texts, "count": ids.len(), "max_model_len": most })))
}

/// The text of ids.
pub(super) async fn detokenize(State(app): State<Shared>, mut fields: Fields) -> Result<Json, ApiError> {
    app.check_model(fields.take::<String>("model")?.as_deref())?;
    let ids: Vec<u32> = fields.need("tokens")?;
    let _room = fields.finish()?;
    let tokenizer = app.prompts().tokenizer();
    if let Some(bad) = ids.iter().find(|id| **id as usize >= tokenizer.vocab()) {
        let message = format!("tokens: {bad} is not below the vocabulary of {}", tokenizer.vocab());
        return Err(ApiError::invalid("tokens", message));
    }
    Ok(Json(json!({ "prompt": tokenizer.decode(&ids) })))
}

/// Does work that would keep other connections waiting.
pub(super) async fn blocking<T: Send + 'static>(
    app: &Shared,
    work: impl FnOnce(&App) -> Result<T, ApiError> + Send + 'static,
) -> Result<T, ApiError> {
    let app = app.clone();
    let done = tokio::task::spawn_blocking(move || work(&app)).await;
    done.unwrap_or_else(|_| Err(ApiError::fault("reading the prompt has stopped at a fault: report it")))
}

/// A prompt's tokens; what is wrong with it is said of `field`.
pub(super) fn encode(
    app: &App,
    segments: &[Segment],
    field: &'static str,
) -> Result<EncodedPrompt, ApiError> {
    // What can't fit is not even tokenised: that takes time and memory.
    let text = |segment: &Segment| if let Segment::Text { text, .. } = segment { text.len() } else { 0 };
    let (bytes, context) = (segments.iter().map(text).sum::<usize>(), app.prompts().context());
    if bytes > context.saturating_mul(app.longest_token) {
        let message = format!("{field}: {bytes} bytes do not fit into the context of {context}: shorten it");
        return Err(ApiError::invalid(field, message));
    }
    let encoded = app.prompts().encode(&[segments.into()]);
    encoded.map_err(|e| ApiError::invalid(field, format!("{field}: {}", error_line(&e))))
}

/// A prompt as the model reads it.
pub(super) fn ready(app: &App, segments: &[Segment], field: &'static str) -> Result<ReadyPrompt, ApiError> {
    let encoded = encode(app, segments, field)?;
    // Pictures of a prompt that is too long are not even prepared.
    let (positions, context) = (encoded.positions(), app.prompts().context());
    if positions >= context {
        let message =
            format!("{field}: {positions} tokens do not fit into the context of {context}: shorten it");
        return Err(ApiError::invalid(field, message));
    }
    let ready = app.prompts().ready(&encoded);
    ready.map_err(|e| ApiError::invalid(field, format!("{field}: {}", error_line(&e))))
}
