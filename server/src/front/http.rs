//! /healthz and /metrics over HTTP, on loopback.

use std::io;
use std::net::SocketAddr;
use std::sync::Arc;
use std::time::Duration;

use axum::Router;
use axum::extract::State;
use axum::http::{StatusCode, header};
use axum::response::IntoResponse;
use axum::routing::get;
use hyper::server::conn::http1;
use hyper_util::rt::{TokioIo, TokioTimer};
use hyper_util::service::TowerToHyperService;
use impp_storage::{Health, Store, Tails};
use tokio::net::TcpListener;
use tokio::sync::Semaphore;
use tokio::time::timeout;

use crate::core::lost;
use crate::core::metrics::Metrics;
use crate::messages::Outgoing;

const OPENMETRICS: &str = "application/openmetrics-text; version=1.0.0; charset=utf-8";

/// Connections at once; further ones wait.
const CONNECTIONS_MAX: usize = 32;
/// How long one lives.
const CONNECTION_MAX: Duration = Duration::from_secs(60);
/// How long the head of a request may take to come.
const REQUEST_MAX: Duration = Duration::from_secs(2);
/// How long accepting rests when the system has no more files.
const REST: Duration = Duration::from_millis(100);

/// What can be looked at.
#[derive(Clone)]
pub struct Looked {
    /// The counters.
    pub metrics: Arc<Metrics>,
    /// Whether it can be written to.
    pub store: Arc<dyn Store>,
    /// The newest of its logs.
    pub tails: Arc<Tails>,
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
    tokio::spawn(accept(listener, app));
    Ok(address)
}

/// Serves so many at once, and none for long: whoever is on the machine may come here, and
/// descriptors are kept for this.
async fn accept(listener: TcpListener, app: Router) {
    let places = Arc::new(Semaphore::new(CONNECTIONS_MAX));
    loop {
        let Ok(place) = places.clone().acquire_owned().await else { return };
        let stream = match listener.accept().await {
            Ok((stream, _)) => stream,
            Err(error) => {
                tracing::warn!(%error, "http could not accept");
                tokio::time::sleep(REST).await;
                continue;
            }
        };
        let service = TowerToHyperService::new(app.clone());
        tokio::spawn(async move {
            let serving = http1::Builder::new()
                .timer(TokioTimer::new())
                .header_read_timeout(REQUEST_MAX)
                .serve_connection(TokioIo::new(stream), service);
            if let Ok(Err(error)) = timeout(CONNECTION_MAX, serving).await {
                tracing::debug!(%error, "http");
            }
            drop(place);
        });
    }
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
        (&server.metrics.store_pages, server.tails.asked()),
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
