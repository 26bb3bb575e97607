//! The server: the interface of OpenAI over HTTP, and a page to talk to.
//!
//! Here alone is `axum` known. Handlers read a request, check it, give it to the engine, and write what comes
//! of it in OpenAI's form.

mod answer_fields;
mod answers;
mod api_error;
mod app;
mod chat_completions;
mod client;
mod completions;
mod connections;
mod conversation;
mod embeddings;
mod fetch;
mod fields;
mod guard;
mod in_process;
mod json;
mod log_prob_form;
mod messages;
mod models;
mod page;
mod picture;
mod pictures;
mod reply;
mod tokenize;

use std::time::Duration;

use axum::Router;
use axum::extract::DefaultBodyLimit;
use axum::middleware::from_fn_with_state;
use axum::routing::{get, post};

use self::api_error::ApiError;
use self::app::Shared;
pub use self::app::{ServedModel, Server};
pub use self::connections::serve;
pub use self::in_process::InProcess;

/// What clients may do.
#[derive(Clone, Debug)]
pub struct HttpLimits {
    /// The largest body of a request.
    /// Unit: bytes.
    pub body_bytes: usize,
    /// What all bodies that are read at one time may take.
    /// Unit: bytes.
    pub all_bodies_bytes: usize,
    /// Connections at one time.
    pub connections: usize,
    /// Pictures of one request.
    pub pictures: usize,
    /// The largest picture.
    /// Unit: pixels.
    pub picture_pixels: u64,
    /// Answers of one request.
    pub answers: usize,
    /// For a request's headers, and for its body.
    pub read: Duration,
    /// For what is under way when the server is to stop.
    pub stop: Duration,
}

impl Default for HttpLimits {
    fn default() -> Self {
        Self {
            body_bytes: 32 << 20,
            all_bodies_bytes: 256 << 20,
            connections: 1024,
            pictures: 64,
            picture_pixels: 64 << 20,
            answers: 16,
            read: Duration::from_secs(30),
            stop: Duration::from_secs(30),
        }
    }
}

/// Who may ask.
#[derive(Clone, Debug, Default)]
pub struct Access {
    /// One of them a client has to send as its bearer token; without any it sends none. Of several each is a
    /// client by itself.
    pub api_keys: Vec<String>,
    /// Pages of these origins (`https://host`) may ask, beside the server's own.
    pub origins: Vec<String>,
    /// Whether the server can be reached by this machine alone: it then answers to no other name.
    pub local: bool,
    /// Hosts (`host` or `host:port`) from which pictures are read that a client gives by their address.
    pub picture_hosts: Vec<String>,
}

fn router(app: &Shared) -> Router {
    let api = Router::new()
        .route("/v1/chat/completions", post(chat_completions::answer))
        .route("/v1/completions", post(completions::answer))
        .route("/v1/embeddings", post(embeddings::answer))
        .route("/v1/models", get(models::all))
        .route("/v1/models/{*id}", get(models::one))
        .route("/tokenize", post(tokenize::tokenize))
        .route("/detokenize", post(tokenize::detokenize))
        .route("/metrics", get(models::metrics))
        .route("/picture", post(picture::cut))
        .route("/samples", get(picture::samples))
        // Bodies are read and bounded by `fields`.
        .layer(DefaultBodyLimit::disable())
        .layer(from_fn_with_state(app.clone(), guard::key));
    Router::new()
        .merge(api)
        .merge(page::router())
        .route("/health", get(models::health))
        .fallback(|| async { ApiError::not_found("there is no such address") })
        .method_not_allowed_fallback(|| async { ApiError::method() })
        .layer(from_fn_with_state(app.clone(), guard::origin))
        .with_state(app.clone())
}
