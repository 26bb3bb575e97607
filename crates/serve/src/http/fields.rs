//! [`Fields`]: the fields of a request's JSON, one after the other. What nobody has taken is refused.

use std::sync::Arc;

use axum::body::Body;
use axum::extract::{FromRequest, Request};
use axum::http::header::{CONTENT_LENGTH, CONTENT_TYPE};
use futures_util::StreamExt as _;
use mm1_data::error_line::error_line;
use serde::de::DeserializeOwned;
use serde_json::{Map, Value};
use tokio::sync::OwnedSemaphorePermit;
use tokio::time::timeout;

use super::api_error::ApiError;
use super::app::{App, Shared};
use super::client;
use crate::engine::ClientId;

/// Fields that name a client's affairs and change no answer.
const OF_THE_CLIENT: [&str; 6] =
    ["metadata", "prompt_cache_key", "safety_identifier", "service_tier", "store", "user"];

/// The fields of a request that were not taken yet.
pub(super) struct Fields {
    fields: Map<String, Value>,
    client: ClientId,
    room: Room,
}

/// The memory that a request's body was given: to be held until nothing of the body is needed any more.
#[must_use]
pub(super) struct Room {
    _permit: OwnedSemaphorePermit,
}

impl Fields {
    fn parse(body: &[u8], client: ClientId, room: Room) -> Result<Self, ApiError> {
        // The parser bounds how deep a value may be.
        match serde_json::from_slice(body) {
            Ok(Value::Object(fields)) => Ok(Self { fields, client, room }),
            Ok(_) => Err(ApiError::invalid(None, "the body has to be a JSON object")),
            Err(e) => Err(ApiError::invalid(None, format!("the body is no JSON: {e}"))),
        }
    }

    /// Who asks.
    pub(super) fn client(&self) -> ClientId {
        self.client
    }

    /// The field of that name; `None` if it is missing or null.
    pub(super) fn take<T: DeserializeOwned>(&mut self, name: &'static str) -> Result<Option<T>, ApiError> {
        match self.fields.remove(name) {
            None | Some(Value::Null) => Ok(None),
            Some(value) => match serde_json::from_value(value) {
                Ok(value) => Ok(Some(value)),
                Err(e) => Err(ApiError::invalid(name, format!("{name}: {}", error_line(&e.into())))),
            },
        }
    }

    /// The same of one that has to be there.
    pub(super) fn need<T: DeserializeOwned>(&mut self, name: &'static str) -> Result<T, ApiError> {
        self.take(name)?.ok_or_else(|| ApiError::invalid(name, format!("{name} is missing")))
    }

    /// A number in a range.
    pub(super) fn within(
        &mut self,
        name: &'static str,
        (least, most): (f64, f64),
    ) -> Result<Option<f64>, ApiError> {
        let value: Option<f64> = self.take(name)?;
        match value {
            Some(value) if !(least..=most).contains(&value) => Err(ApiError::invalid(
                name,
                format!("{name} = {value}: give a number from {least} to {most}"),
            )),
            value => Ok(value),
        }
    }

    /// A whole number in a range.
    pub(super) fn count(
        &mut self,
        name: &'static str,
        (least, most): (usize, usize),
    ) -> Result<Option<usize>, ApiError> {
        let value: Option<usize> = self.take(name)?;
        match value {
            Some(value) if !(least..=most).contains(&value) => Err(ApiError::invalid(
                name,
                match most {
                    usize::MAX => format!("{name} = {value}: give at least {least}"),
                    most => format!("{name} = {value}: give a whole number from {least} to {most}"),
                },
            )),
            value => Ok(value),
        }
    }

    /// Refuses what nobody has taken.
    pub(super) fn finish(mut self) -> Result<Room, ApiError> {
        OF_THE_CLIENT.iter().for_each(|name| drop(self.fields.remove(*name)));
        // A field that asks for nothing is as good as none.
        let asks = |value: &Value| !matches!(value, Value::Null | Value::Bool(false));
        let empty = |value: &Value| {
            value.as_array().is_some_and(Vec::is_empty) || value.as_object().is_some_and(Map::is_empty)
        };
        match self.fields.iter().find(|(_, value)| asks(value) && !empty(value)) {
            None => Ok(self.room),
            Some((name, _)) => {
                let shown: String = name.chars().take(80).collect();
                let message = format!("{shown} is not known here: leave it out");
                Err(ApiError::in_field(shown, message))
            }
        }
    }
}

impl FromRequest<Shared> for Fields {
    type Rejection = ApiError;

    async fn from_request(request: Request, app: &Shared) -> Result<Self, ApiError> {
        let json = |value: &[u8]| value.to_ascii_lowercase().starts_with(b"application/json");
        if !request.headers().get(CONTENT_TYPE).is_some_and(|value| json(value.as_bytes())) {
            return Err(ApiError::media_type());
        }
        let (limits, client) = (&app.server.limits, client::id(request.extensions()));
        let said = request.headers().get(CONTENT_LENGTH).and_then(|value| value.to_str().ok()?.parse().ok());
        let body: Body = request.into_body();
        let read = async {
            let room = room(app, said).await?;
            Self::parse(&bytes(body, limits.body_bytes).await?, client, room)
        };
        timeout(limits.read, read).await.map_err(|_| ApiError::too_slow())?
    }
}

/// The whole body, if it has at most `most` bytes.
async fn bytes(body: Body, most: usize) -> Result<Vec<u8>, ApiError> {
    let (mut bytes, mut chunks) = (Vec::new(), body.into_data_stream());
    while let Some(chunk) = chunks.next().await {
        let broken = "the body broke off, or its chunks are damaged: send it again";
        let chunk = chunk.map_err(|_| ApiError::invalid(None, broken))?;
        if bytes.len() + chunk.len() > most {
            return Err(ApiError::too_large(most));
        }
        bytes.extend_from_slice(&chunk);
    }
    Ok(bytes)
}

/// Waits until a body of so many bytes, if that was said, fits beside the others that are read.
async fn room(app: &App, said: Option<usize>) -> Result<Room, ApiError> {
    let most = app.server.limits.body_bytes;
    let bytes = said.unwrap_or(most);
    if bytes > most {
        return Err(ApiError::too_large(most));
    }
    let kib = u32::try_from(bytes.div_ceil(1 << 10)).unwrap_or(u32::MAX);
    let permit = Arc::clone(&app.bodies).acquire_many_owned(kib).await;
    let _permit = permit.map_err(|_| ApiError::fault("no body is read any more"))?;
    Ok(Room { _permit })
}
