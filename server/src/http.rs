//! /healthz and /metrics over HTTP, on loopback.

use std::io;
use std::net::SocketAddr;
use std::sync::Arc;

use axum::Router;
use axum::extract::State;
use axum::http::{StatusCode, header};
use axum::response::IntoResponse;
use axum::routing::get;
use impp_storage::Health;
use tokio::net::TcpListener;

use crate::host::Host;
use crate::log::lost;

const OPENMETRICS: &str = "application/openmetrics-text; version=1.0.0; charset=utf-8";

/// Binds the address and serves for as long as the runtime lives; the address bound.
///
/// # Errors
/// The system's if it cannot be bound.
pub async fn start(host: Arc<Host>, address: &str) -> io::Result<SocketAddr> {
    let listener = TcpListener::bind(address).await?;
    let address = listener.local_addr()?;
    let routes = Router::new().route("/healthz", get(health)).route("/metrics", get(metrics));
    let app = routes.with_state(host);
    tokio::spawn(async move {
        if let Err(error) = axum::serve(listener, app).await {
            tracing::error!(%error, "http");
        }
    });
    Ok(address)
}

async fn health(State(host): State<Arc<Host>>) -> impl IntoResponse {
    match host.store.health() {
        Health::Ok => (StatusCode::OK, "ok\n".to_owned()),
        Health::NoSpace => (StatusCode::SERVICE_UNAVAILABLE, "the disk is full\n".to_owned()),
        Health::Failed(reason) => {
            (StatusCode::SERVICE_UNAVAILABLE, format!("the store has failed: {reason}\n"))
        }
    }
}

async fn metrics(State(host): State<Arc<Host>>) -> impl IntoResponse {
    // Counted elsewhere, and brought up to date when somebody looks.
    let counted = [
        (&host.metrics.store_syncs, host.store.stats().syncs),
        (&host.metrics.log_dropped, lost::lines()),
    ];
    for (counter, total) in counted {
        counter.inc_by(total.saturating_sub(counter.get()));
    }
    host.metrics.queued.set(host.peers.queued() as i64);
    ([(header::CONTENT_TYPE, OPENMETRICS)], host.metrics.render())
}
