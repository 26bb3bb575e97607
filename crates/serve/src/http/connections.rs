//! [`serve`]: connections of clients, until the server is to stop.

use std::net::TcpListener;
use std::sync::Arc;
use std::sync::atomic::{AtomicBool, Ordering};
use std::time::Duration;

use anyhow::{Context as _, Result};
use axum::http::Request;
use hyper::body::Incoming;
use hyper::service::{Service as _, service_fn};
use hyper_util::rt::{TokioIo, TokioTimer};
use hyper_util::server::graceful::GracefulShutdown;
use hyper_util::service::TowerToHyperService;
use tokio::net::TcpStream;
use tokio::runtime::Builder;
use tokio::sync::{OwnedSemaphorePermit, Semaphore};
use tokio::time::{interval, sleep, timeout};

use super::app::{App, Shared};
use super::client::Peer;
use super::{Server, router};

/// Threads on which prompts are read: pictures are decoded there.
const READERS: usize = 4;

/// How often it is looked whether to stop: a handler of signals can do no more than set a flag.
const LOOK: Duration = Duration::from_millis(50);

/// What the end of the last answer has to be written.
const LAST: Duration = Duration::from_secs(1);

/// Answers clients that come to `listener` until `stop` is set. What is under way is then ended, as long as
/// the limits let it.
///
/// # Errors
/// A system that gives no thread or takes no connections.
pub fn serve(server: Server, listener: TcpListener, stop: &AtomicBool) -> Result<()> {
    listener.set_nonblocking(true).context("the listener")?;
    let mut runtime = Builder::new_multi_thread();
    let runtime = runtime.worker_threads(2).max_blocking_threads(READERS).thread_name("http").enable_all();
    let runtime = runtime.build().context("starting the threads of the server")?;
    let app = Arc::new(App::new(server)?);
    let served = runtime.block_on(accept(app, listener, stop));
    // Who is still being written to is cut off.
    runtime.shutdown_timeout(Duration::from_secs(1));
    served
}

async fn accept(app: Shared, listener: TcpListener, stop: &AtomicBool) -> Result<()> {
    let listener = tokio::net::TcpListener::from_std(listener).context("the listener")?;
    let (router, open) = (router(&app), Arc::new(Semaphore::new(app.server.limits.connections)));
    let connections = GracefulShutdown::new();
    let mut look = interval(LOOK);
    while !stop.load(Ordering::Relaxed) {
        let accepted = tokio::select! {
            accepted = next(&listener, &open) => accepted,
            _ = look.tick() => None,
        };
        let Some((stream, peer, permit)) = accepted else { continue };
        let mut http = hyper::server::conn::http1::Builder::new();
        http.timer(TokioTimer::new()).header_read_timeout(app.server.limits.read).max_buf_size(64 << 10);
        let routes = TowerToHyperService::new(router.clone());
        let service = service_fn(move |mut request: Request<Incoming>| {
            request.extensions_mut().insert(peer);
            routes.call(request)
        });
        let connection = connections.watch(http.serve_connection(TokioIo::new(stream), service));
        tokio::spawn(async move {
            // A client that breaks off is no matter of ours.
            let _ = connection.await;
            drop(permit);
        });
    }
    drop(listener);
    app.server.engine.stop();
    // Who takes longer is cut off. A connection on which nothing was asked says nothing of its end: browsers
    // keep one in reserve, and would hold up the end until its headers are overdue.
    let answered = async {
        while !app.server.engine.is_done() {
            sleep(LOOK).await;
        }
        sleep(LAST).await;
    };
    tokio::select! {
        () = connections.shutdown() => {}
        _ = timeout(app.server.limits.stop, answered) => {}
    }
    Ok(())
}

/// The next connection. Others wait while as many are open as may.
async fn next(
    listener: &tokio::net::TcpListener,
    open: &Arc<Semaphore>,
) -> Option<(TcpStream, Peer, OwnedSemaphorePermit)> {
    let permit = Arc::clone(open).acquire_owned().await.ok()?;
    match listener.accept().await {
        Ok((stream, address)) => {
            // A token is a small packet, and is not to wait for the next.
            let _ = stream.set_nodelay(true);
            Some((stream, Peer(address.ip()), permit))
        }
        // No file descriptors, mostly: those who leave give some back.
        Err(_) => {
            sleep(Duration::from_millis(50)).await;
            None
        }
    }
}
