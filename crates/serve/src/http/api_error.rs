//! [`ApiError`]: what is refused, in OpenAI's form.

use axum::http::header::{RETRY_AFTER, WWW_AUTHENTICATE};
use axum::http::{HeaderValue, StatusCode};
use axum::response::{IntoResponse, Response};
use serde_json::{Value, json};

use super::json::Json;
use crate::engine::Refusal;

/// A refusal: one line that names the field and the remedy.
#[derive(Clone, Debug)]
pub(super) struct ApiError {
    status: StatusCode,
    message: String,
    /// The field of the request.
    param: Option<String>,
    code: Option<&'static str>,
}

impl ApiError {
    /// The request can't be done as it is.
    pub(super) fn invalid(param: impl Into<Option<&'static str>>, message: impl Into<String>) -> Self {
        let param = param.into().map(str::to_owned);
        Self { status: StatusCode::BAD_REQUEST, message: message.into(), param, code: None }
    }

    /// The same of a field whose name is made here.
    pub(super) fn in_field(param: impl Into<String>, message: impl Into<String>) -> Self {
        Self { param: Some(param.into()), ..Self::invalid(None, message) }
    }

    pub(super) fn not_found(message: impl Into<String>) -> Self {
        Self { status: StatusCode::NOT_FOUND, code: Some("not_found"), ..Self::invalid(None, message) }
    }

    pub(super) fn no_model(asked: &str, served: &str) -> Self {
        let message = format!("model \"{asked}\" is not served here: ask for \"{served}\"");
        Self {
            status: StatusCode::NOT_FOUND,
            code: Some("model_not_found"),
            ..Self::invalid("model", message)
        }
    }

    pub(super) fn method() -> Self {
        let message = "this address does not take that method: see the documentation of mm1 serve";
        Self { status: StatusCode::METHOD_NOT_ALLOWED, ..Self::invalid(None, message) }
    }

    pub(super) fn media_type() -> Self {
        let message = "the body has to be JSON: send it with Content-Type: application/json";
        Self { status: StatusCode::UNSUPPORTED_MEDIA_TYPE, ..Self::invalid(None, message) }
    }

    pub(super) fn too_large(most: usize) -> Self {
        let message = format!("the body has more than {most} bytes, the most that is taken: send less");
        Self { status: StatusCode::PAYLOAD_TOO_LARGE, ..Self::invalid(None, message) }
    }

    pub(super) fn too_slow() -> Self {
        let message = "the body did not come in time: send it faster";
        Self { status: StatusCode::REQUEST_TIMEOUT, ..Self::invalid(None, message) }
    }

    pub(super) fn no_key() -> Self {
        let message = "the API key is missing or wrong: send it as Authorization: Bearer KEY";
        Self {
            status: StatusCode::UNAUTHORIZED,
            code: Some("invalid_api_key"),
            ..Self::invalid(None, message)
        }
    }

    pub(super) fn forbidden(message: impl Into<String>) -> Self {
        Self { status: StatusCode::FORBIDDEN, ..Self::invalid(None, message) }
    }

    /// What the server itself did wrong.
    pub(super) fn fault(message: impl Into<String>) -> Self {
        Self { status: StatusCode::INTERNAL_SERVER_ERROR, ..Self::invalid(None, message) }
    }

    /// In the body of a response, or as an event of a stream.
    pub(super) fn body(&self) -> Value {
        let kind = match self.status {
            StatusCode::TOO_MANY_REQUESTS => "rate_limit_error",
            StatusCode::UNAUTHORIZED => "authentication_error",
            status if status.is_server_error() => "server_error",
            _ => "invalid_request_error",
        };
        let Self { message, param, code, .. } = self;
        json!({ "error": { "message": message, "type": kind, "param": param, "code": code } })
    }
}

impl From<Refusal> for ApiError {
    fn from(refusal: Refusal) -> Self {
        let busy = |status, message: &str| Self { status, ..Self::invalid(None, message) };
        match refusal {
            Refusal::Impossible(why) => Self::invalid(None, why),
            Refusal::Full => {
                busy(StatusCode::TOO_MANY_REQUESTS, "as many requests wait as may: try again in a second")
            }
            Refusal::Stopping => busy(StatusCode::SERVICE_UNAVAILABLE, "the server is to stop"),
        }
    }
}

impl IntoResponse for ApiError {
    fn into_response(self) -> Response {
        let mut response = (self.status, Json(self.body())).into_response();
        let header = match self.status {
            StatusCode::TOO_MANY_REQUESTS => Some((RETRY_AFTER, "1")),
            StatusCode::UNAUTHORIZED => Some((WWW_AUTHENTICATE, "Bearer")),
            _ => None,
        };
        if let Some((name, value)) = header {
            response.headers_mut().insert(name, HeaderValue::from_static(value));
        }
        response
    }
}
