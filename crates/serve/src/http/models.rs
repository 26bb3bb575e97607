//! `GET /v1/models`, `/health` and `/metrics`.

use axum::extract::{Path, State};
use axum::http::header::CONTENT_TYPE;
use axum::response::{IntoResponse, Response};
use prometheus_client::encoding::text::encode;
use serde_json::{Value, json};

use super::api_error::ApiError;
use super::app::{App, Shared};
use super::json::Json;

pub(super) async fn all(State(app): State<Shared>) -> Json {
    let data: Vec<Value> = [model(&app)].into_iter().chain(towers(&app)).collect();
    Json(json!({ "object": "list", "data": data }))
}

pub(super) async fn one(State(app): State<Shared>, Path(id): Path<String>) -> Result<Json, ApiError> {
    if let Some(towers) = towers(&app).filter(|towers| towers["id"] == id) {
        return Ok(Json(towers));
    }
    app.check_model(Some(&id))?;
    Ok(Json(model(&app)))
}

/// What embeds texts and pictures.
fn towers(app: &App) -> Option<Value> {
    let id = app.server.model.towers.as_ref()?;
    Some(json!({ "id": id, "object": "model", "created": app.created, "owned_by": "mm1" }))
}

/// `max_model_len` is vLLM's; what the page has to know is under `mm1`.
fn model(app: &App) -> Value {
    let (model, limits) = (&app.server.model, &app.server.limits);
    json!({
        "id": model.id,
        "object": "model",
        "created": app.created,
        "owned_by": "mm1",
        "max_model_len": app.prompts().context(),
        "mm1": {
            "sees": model.sees,
            "tuned": model.tuned,
            "max_pictures": limits.pictures,
            "max_body_bytes": limits.body_bytes,
        },
    })
}

pub(super) async fn health() -> Json {
    Json(json!({ "status": "ok" }))
}

pub(super) async fn metrics(State(app): State<Shared>) -> Result<Response, ApiError> {
    let mut text = String::new();
    encode(&mut text, &app.registry).map_err(|_| ApiError::fault("the counters can't be written"))?;
    let kind = "application/openmetrics-text; version=1.0.0; charset=utf-8";
    Ok(([(CONTENT_TYPE, kind)], text).into_response())
}
