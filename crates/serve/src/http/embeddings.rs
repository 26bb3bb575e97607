//! `POST /v1/embeddings`: features of pictures; pictures and texts in one space, where there is a text tower.

use axum::extract::State;
use base64::Engine as _;
use base64::engine::general_purpose::STANDARD;
use mm1_data::error_line::error_line;
use serde::Deserialize;
use serde_json::json;
use tokio::sync::oneshot;

use super::api_error::ApiError;
use super::app::{App, Shared};
use super::fields::Fields;
use super::json::Json;
use super::{pictures, tokenize};
use crate::engine::EmbeddingInput;

#[derive(Deserialize)]
#[serde(untagged, expecting = "give a picture as a data: address or a text, or a list of them")]
enum Input {
    One(String),
    Many(Vec<String>),
}

pub(super) async fn answer(State(app): State<Shared>, mut fields: Fields) -> Result<Json, ApiError> {
    let model: Option<String> = fields.take("model")?;
    let of_towers = model.is_some() && model == app.server.model.towers;
    if !of_towers {
        app.check_model(model.as_deref())?;
    }
    let input = match fields.need("input")? {
        Input::One(address) => vec![address],
        Input::Many(addresses) => addresses,
    };
    let form: Option<String> = fields.take("encoding_format")?;
    let (client, room) = (fields.client(), fields.finish()?);
    let base64 = match form.as_deref() {
        None | Some("float") => false,
        Some("base64") => true,
        Some(_) => return Err(ApiError::invalid("encoding_format", "encoding_format: float or base64")),
    };
    let inputs = tokenize::blocking(&app, move |app| {
        let _room = room;
        inputs(app, input, of_towers)
    });
    let inputs = inputs.await?;
    let (mut data, mut tokens) = (Vec::with_capacity(inputs.len()), 0);
    for (index, input) in inputs.into_iter().enumerate() {
        let (reply, heard) = oneshot::channel();
        app.server.engine.embed(client, input, move |made| drop(reply.send(made)))?;
        let made = heard.await.map_err(|_| ApiError::fault("the model has stopped"))?;
        let made = made.map_err(|e| ApiError::invalid("input", error_line(&e)))?;
        tokens += made.tokens;
        let bytes = || made.values.iter().flat_map(|x| x.to_le_bytes()).collect::<Vec<_>>();
        let embedding = if base64 { json!(STANDARD.encode(bytes())) } else { json!(made.values) };
        data.push(json!({ "object": "embedding", "index": index, "embedding": embedding }));
    }
    let model = model.as_ref().unwrap_or(&app.server.model.id);
    let usage = json!({ "prompt_tokens": tokens, "total_tokens": tokens });
    Ok(Json(json!({ "object": "list", "data": data, "model": model, "usage": usage })))
}

fn inputs(app: &App, inputs: Vec<String>, of_towers: bool) -> Result<Vec<EmbeddingInput>, ApiError> {
    let limits = &app.server.limits;
    if !app.server.model.sees {
        let message = "this is a language model alone: it has no image encoder, which embeddings come from";
        return Err(ApiError::invalid("input", message));
    }
    if !(1..=limits.pictures).contains(&inputs.len()) {
        let message = format!("input: give 1 to {} of them, not {}", limits.pictures, inputs.len());
        return Err(ApiError::invalid("input", message));
    }
    let input = |(i, input): (usize, String)| {
        let picture = input.starts_with("data:");
        let made = match (of_towers, picture) {
            (true, false) => text(app, input),
            (false, false) => Err(no_text(app)),
            (true, true) => pictures::of_address(&input, limits).map(EmbeddingInput::Picture),
            (false, true) => pictures::of_address(&input, limits).map(EmbeddingInput::Features),
        };
        let at = format!("input[{i}]");
        made.map_err(|why| ApiError::in_field(at.clone(), format!("{at}: {why}")))
    };
    inputs.into_iter().enumerate().map(input).collect()
}

fn text(app: &App, text: String) -> Result<EmbeddingInput, String> {
    let (bytes, context) = (text.len(), app.prompts().context());
    match bytes > context {
        true => Err(format!("{bytes} bytes of text, and {context} is the most: shorten it")),
        false => Ok(EmbeddingInput::Text(text)),
    }
}

fn no_text(app: &App) -> String {
    match &app.server.model.towers {
        Some(towers) => {
            format!("a text: ask model \"{towers}\" for it; here pictures as data:image/png;base64,…")
        }
        None => "this model has no text tower: send a picture as data:image/png;base64,…".to_owned(),
    }
}
