//! `POST /v1/embeddings`: what the image encoder makes of pictures.

use axum::extract::State;
use base64::Engine as _;
use base64::engine::general_purpose::STANDARD;
use mm1_data::document::Image;
use mm1_data::error_line::error_line;
use serde::Deserialize;
use serde_json::json;
use tokio::sync::oneshot;

use super::api_error::ApiError;
use super::app::{App, Shared};
use super::fields::Fields;
use super::json::Json;
use super::{pictures, tokenize};

#[derive(Deserialize)]
#[serde(untagged, expecting = "give a picture as a data: address, or a list of them")]
enum Input {
    One(String),
    Many(Vec<String>),
}

/// The mean of the patches' features, as `mm1 eval` takes them.
pub(super) async fn answer(State(app): State<Shared>, mut fields: Fields) -> Result<Json, ApiError> {
    app.check_model(fields.take::<String>("model")?.as_deref())?;
    let input = match fields.need("input")? {
        Input::One(address) => vec![address],
        Input::Many(addresses) => addresses,
    };
    let form: Option<String> = fields.take("encoding_format")?;
    let room = fields.finish()?;
    let base64 = match form.as_deref() {
        None | Some("float") => false,
        Some("base64") => true,
        Some(_) => return Err(ApiError::invalid("encoding_format", "encoding_format: float or base64")),
    };
    let images = tokenize::blocking(&app, move |app| {
        let _room = room;
        images(app, input)
    });
    let images = images.await?;
    let mut data = Vec::with_capacity(images.len());
    for (index, image) in images.into_iter().enumerate() {
        let (reply, heard) = oneshot::channel();
        app.server.engine.features(image, move |features| drop(reply.send(features)))?;
        let features = heard.await.map_err(|_| ApiError::fault("the model has stopped"))?;
        let features = features.map_err(|e| ApiError::invalid("input", error_line(&e)))?;
        let embedding = match base64 {
            true => json!(STANDARD.encode(features.iter().flat_map(|x| x.to_le_bytes()).collect::<Vec<_>>())),
            false => json!(features),
        };
        data.push(json!({ "object": "embedding", "index": index, "embedding": embedding }));
    }
    let (model, none) = (&app.server.model.id, json!({ "prompt_tokens": 0, "total_tokens": 0 }));
    Ok(Json(json!({ "object": "list", "data": data, "model": model, "usage": none })))
}

fn images(app: &App, addresses: Vec<String>) -> Result<Vec<Image>, ApiError> {
    let limits = &app.server.limits;
    if !app.server.model.sees {
        let message = "this is a language model alone: it has no image encoder, which embeddings come from";
        return Err(ApiError::invalid("input", message));
    }
    if !(1..=limits.pictures).contains(&addresses.len()) {
        let message = format!("input: give 1 to {} pictures, not {}", limits.pictures, addresses.len());
        return Err(ApiError::invalid("input", message));
    }
    let image = |(i, address): (usize, &String)| {
        let at = format!("input[{i}]");
        pictures::of_address(address, limits)
            .map_err(|why| ApiError::in_field(at.clone(), format!("{at}: {why}")))
    };
    addresses.iter().enumerate().map(image).collect()
}
