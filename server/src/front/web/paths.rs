//! Which path of the web door answers what. `docs/http.md` is what it is held to.
//!
//! The first part of each path is the version of all of them, as on the control socket.

use axum::Router;
use axum::extract::State;
use axum::http::{Method, StatusCode, Uri, header};
use axum::response::IntoResponse;
use axum::routing::get;
use impp_protocol::Code;
use serde_json::json;

use super::problem::Problem;
use crate::core::clock::Clock;

pub(super) fn routes(clock: Clock) -> Router {
    let paths = Router::new().route("/time", get(time));
    Router::new()
        .nest("/v1", paths)
        .fallback(no_path)
        .method_not_allowed_fallback(no_method)
        .with_state(clock)
}

/// The server's time, by which ids of messages are made: for people, and in the milliseconds of a UUIDv7.
async fn time(State(clock): State<Clock>) -> impl IntoResponse {
    let now = clock.wall();
    let said = json!({"time": now.to_string(), "milliseconds": now.as_millis()});
    ([(header::CONTENT_TYPE, "application/json")], format!("{said}\n"))
}

async fn no_path(uri: Uri) -> Problem {
    let text = format!("{}: there is no such path", uri.path());
    Problem::new(StatusCode::NOT_FOUND, Code::NotFound, text)
}

/// The path is there, and something else is asked of it.
async fn no_method(method: Method, uri: Uri) -> Problem {
    let text = format!("{method} is not asked of {}", uri.path());
    Problem::new(StatusCode::METHOD_NOT_ALLOWED, Code::Unsupported, text)
}
