//! [`InProcess`]: the server without a network.

use anyhow::{Context as _, Result, anyhow};
use axum::Router;
use axum::body::{Body, to_bytes};
use axum::http::Request;
use axum::http::header::{CONTENT_TYPE, HOST};
use hyper::service::Service as _;
use hyper_util::service::TowerToHyperService;
use tokio::runtime::{Builder, Runtime};

use super::app::App;
use super::{Server, router};

/// A server that is asked by calls: for tests of what it makes of requests.
pub struct InProcess {
    routes: TowerToHyperService<Router>,
    runtime: Runtime,
}

impl InProcess {
    /// Starts its threads.
    ///
    /// # Errors
    /// A system that gives no thread.
    pub fn new(server: Server) -> Result<Self> {
        let runtime =
            Builder::new_multi_thread().worker_threads(1).max_blocking_threads(1).enable_all().build();
        let runtime = runtime.context("starting the threads of the server")?;
        let app = std::sync::Arc::new(App::new(server)?);
        Ok(Self { routes: TowerToHyperService::new(router(&app)), runtime })
    }

    /// The status and the body of the answer to a `POST` of JSON.
    ///
    /// # Errors
    /// A path that is none; a response that breaks off.
    pub fn post(&self, path: &str, body: Vec<u8>) -> Result<(u16, Vec<u8>)> {
        let request = Request::post(path).header(HOST, "localhost").header(CONTENT_TYPE, "application/json");
        let request = request.body(Body::from(body))?;
        self.runtime.block_on(async {
            let Ok(response) = self.routes.call(request).await;
            let status = response.status().as_u16();
            let body = to_bytes(response.into_body(), usize::MAX).await;
            Ok((status, body.map_err(|e| anyhow!(e))?.to_vec()))
        })
    }
}
