//! /healthz and /metrics over HTTP, on loopback.

use std::io;
use std::net::SocketAddr;
use std::sync::Arc;

use axum::Router;
use axum::extract::State;
use axum::http::{StatusCode, header};
use axum::response::IntoResponse;
use axum::routing::get;
use impp_storage::{Health, Store};
use tokio::net::TcpListener;

use crate::core::lost;
use crate::core::metrics::Metrics;
use crate::messages::Outgoing;

const OPENMETRICS: &str = "application/openmetrics-text; version=1.0.0; charset=utf-8";

/// What can be looked at.
#[derive(Clone)]
pub struct Looked {
    /// The counters.
    pub metrics: Arc<Metrics>,
    /// Whether it can be written to.
    pub store: Arc<dyn Store>,
    /// What waits for other domains.
    pub outgoing: Arc<Outgoing>,
}

/// Binds the address and serves for as long as the runtime lives; the address bound.
///
/// # Errors
/// The system's if it cannot be bound.
pub async fn start(looked: Looked, address: &str) -> io::Result<SocketAddr> {
    let listener = TcpListener::bind(address).await?;
    let address = listener.local_addr()?;
    let routes = Router::new().route("/healthz", get(health)).route("/metrics", get(metrics));
    let app = routes.with_state(looked);
    tokio::spawn(async move {
        if let Err(error) = axum::serve(listener, app).await {
            tracing::error!(%error, "http");
        }
    });
    Ok(address)
}

async fn health(State(server): State<Looked>) -> impl IntoResponse {
    match server.store.health() {
        Health::Ok => (StatusCode::OK, "ok\n".to_owned()),
        Health::NoSpace(lack) => {
            (StatusCode::SERVICE_UNAVAILABLE, format!("the disk is full: {lack}\n"))
        }
        Health::Failed(reason) => {
            (StatusCode::SERVICE_UNAVAILABLE, format!("the store has failed: {reason}\n"))
        }
    }
}

async fn metrics(State(server): State<Looked>) -> impl IntoResponse {
    // Counted elsewhere, and brought up to date when somebody looks.
    let store = server.store.stats();
    let counted = [
        (&server.metrics.store_syncs, store.syncs),
        (&server.metrics.store_scrubbed, store.scrubbed_bytes),
        (&server.metrics.log_dropped, lost::lines()),
    ];
    for (counter, total) in counted {
        counter.inc_by(total.saturating_sub(counter.get()));
    }
    server.metrics.store_damaged.set(store.damaged.cast_signed());
    server.metrics.queued.set(server.outgoing.queued() as i64);
    ([(header::CONTENT_TYPE, OPENMETRICS)], server.metrics.render())
}
