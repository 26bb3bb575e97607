//! `POST /picture`: how a picture is cut and what it costs. `GET /samples`: pictures to begin with.

use axum::extract::State;
use base64::Engine as _;
use base64::engine::general_purpose::STANDARD;
use mm1_data::document::Segment;
use mm1_data::error_line::error_line;
use mm1_data::show::png;
use mm1_data::source::Split;
use mm1_data::world::{World, WorldConfig, WorldStream};
use serde_json::json;

use super::api_error::ApiError;
use super::app::Shared;
use super::fields::Fields;
use super::json::Json;
use super::{pictures, tokenize};

/// How many sample pictures there are.
const SAMPLES: u64 = 8;

/// Sides, tiles, and the tokens of a picture; where the tiles part, from 0 to 1.
pub(super) async fn cut(State(app): State<Shared>, mut fields: Fields) -> Result<Json, ApiError> {
    let url: String = fields.need("url")?;
    let room = fields.finish()?;
    let shown = tokenize::blocking(&app, move |app| {
        let _room = room;
        let refused = |why: String| ApiError::invalid("url", format!("url: {why}"));
        let image = pictures::of_address(&url, &app.server.limits).map_err(refused)?;
        app.prompts().shown(&image).map_err(|e| refused(error_line(&e)))
    });
    let shown = shown.await?;
    let [width, height] = shown.sides;
    Ok(Json(json!({
        "width": width, "height": height, "tokens": shown.tokens, "views": shown.views,
        "overview": shown.overview, "view_tokens": shown.view_tokens,
        "down": shown.down, "across": shown.across,
    })))
}

/// Scenes of the built-in world.
pub(super) async fn samples(State(app): State<Shared>) -> Result<Json, ApiError> {
    let samples = tokenize::blocking(&app, |_| {
        drawn().map_err(|e| ApiError::fault(format!("drawing the samples: {}", error_line(&e))))
    });
    Ok(Json(json!({ "samples": samples.await? })))
}

fn drawn() -> anyhow::Result<Vec<String>> {
    let world = World::new(&WorldConfig { picture_size: 256, ..WorldConfig::default() }, 1)?;
    let source = world.source(WorldStream::Vqa);
    let mut samples = Vec::new();
    for index in 0..SAMPLES {
        for segment in source.document(Split::Test, index)?.segments {
            if let Segment::Image(image) = segment {
                samples.push(format!("data:image/png;base64,{}", STANDARD.encode(png(&image)?)));
            }
        }
    }
    Ok(samples)
}
