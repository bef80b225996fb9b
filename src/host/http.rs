//! The HTTP side every role has: `/livez` (the process answers), `/readyz` (it can do its work),
//! `/metrics`. Called by each role's `run`.

use std::{io, net::SocketAddr, sync::Arc};

use axum::{Router, http::StatusCode, routing::get};
use tokio::net::TcpListener;
use tokio_util::sync::CancellationToken;

/// What a role can say about itself at any time, without waiting.
pub trait Probes: Send + Sync + 'static {
    /// Can it do its work? If not, why, in one sentence.
    fn ready(&self) -> Result<(), String>;
    /// The metrics page (`host::metrics`).
    fn metrics(&self) -> String;
}

/// An address that cannot be listened on.
#[derive(Debug, thiserror::Error)]
#[error("cannot listen on {address} for {purpose}: {source}; end the process that has it, or choose another address")]
pub struct ListenError {
    /// Where.
    pub address: SocketAddr,
    /// What for.
    pub purpose: &'static str,
    /// Why not.
    #[source]
    pub source: io::Error,
}

/// Listens, so that a role finds out before it begins whether the address is free.
pub async fn listen(address: SocketAddr, purpose: &'static str) -> Result<TcpListener, ListenError> {
    TcpListener::bind(address).await.map_err(|source| ListenError { address, purpose, source })
}

/// The three pages.
pub fn routes(probes: Arc<impl Probes>) -> Router {
    let (ready, metrics) = (probes.clone(), probes);
    Router::new()
        .route("/livez", get(async || "ok\n"))
        .route(
            "/readyz",
            get(async move || match ready.ready() {
                Ok(()) => (StatusCode::OK, "ok\n".to_owned()),
                Err(reason) => (StatusCode::SERVICE_UNAVAILABLE, reason + "\n"),
            }),
        )
        .route("/metrics", get(async move || ([("content-type", "text/plain; version=0.0.4")], metrics.metrics())))
}

/// Serves until shutdown; `routes` may have more pages merged into it.
pub async fn serve(listener: TcpListener, routes: Router, shutdown: CancellationToken) -> io::Result<()> {
    axum::serve(listener, routes).with_graceful_shutdown(shutdown.cancelled_owned()).await
}
