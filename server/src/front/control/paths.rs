//! Which path of the control socket asks what, both ways: a request as it is sent, and as it is
//! taken.
//!
//! The first part of each path is the version of all of them. It changes when what was understood is
//! no more; a new path alone does not change it.

use std::pin::Pin;
use std::sync::Arc;

use axum::body::{Body, Bytes};
use axum::extract::{DefaultBodyLimit, Path, State};
use axum::http::{Method, StatusCode, Uri, header};
use axum::response::IntoResponse;
use axum::routing::{delete, get, post, put};
use axum::{Extension, Router};
use percent_encoding::{AsciiSet, NON_ALPHANUMERIC, utf8_percent_encode};
use serde::de::DeserializeOwned;
use serde::{Deserialize, Serialize};

use super::socket::Asker;
use super::{AGENT, Request, Response, refused, services_of};
use crate::core::event;

/// The version of the paths, as they begin.
const VERSION: &str = "/v1";
/// What stands for itself in a part of a path (RFC 3986, 3.3); the rest is escaped.
const ESCAPED: &AsciiSet = &NON_ALPHANUMERIC.remove(b'-').remove(b'.').remove(b'_').remove(b'@');

/// What does what is asked.
pub type Answering =
    Arc<dyn Fn(Request) -> Pin<Box<dyn Future<Output = Response> + Send>> + Send + Sync>;

/// The body that asks for an account.
#[derive(Debug, Serialize, Deserialize)]
#[serde(deny_unknown_fields)]
struct Add {
    address: String,
    #[serde(skip_serializing_if = "Option::is_none")]
    password: Option<String>,
    /// All of them, if nothing is said.
    #[serde(skip_serializing_if = "Option::is_none")]
    services: Option<Vec<String>>,
}

/// The body that asks for another password.
#[derive(Debug, Default, Serialize, Deserialize)]
#[serde(deny_unknown_fields)]
struct Passwd {
    #[serde(skip_serializing_if = "Option::is_none")]
    password: Option<String>,
}

/// What is asked, as it is sent.
pub(super) fn sent(request: &Request) -> Result<axum::http::Request<Body>, axum::Error> {
    let (method, path, body) = asked(request);
    let body = body.transpose().map_err(axum::Error::new)?.map_or_else(Body::empty, Body::from);
    axum::http::Request::builder()
        .method(method)
        .uri(format!("{VERSION}{path}"))
        .header(header::HOST, "localhost")
        .header(header::USER_AGENT, AGENT)
        .body(body)
        .map_err(axum::Error::new)
}

/// The path that asks it, without the version, and what is sent there.
fn asked(request: &Request) -> (Method, String, Option<serde_json::Result<Vec<u8>>>) {
    let of = |address: &str, rest: &str| {
        format!("/accounts/{}{rest}", utf8_percent_encode(address, ESCAPED))
    };
    let all = || "/accounts".to_owned();
    match request {
        Request::List => (Method::GET, all(), None),
        Request::Add { address, password, services } => {
            let services = Some(services.words());
            let add = Add { address: address.clone(), password: password.clone(), services };
            (Method::POST, all(), Some(serde_json::to_vec(&add)))
        }
        Request::Passwd { address, password } => {
            let body = serde_json::to_vec(&Passwd { password: password.clone() });
            (Method::PUT, of(address, "/password"), Some(body))
        }
        Request::Remove { address } => (Method::DELETE, of(address, ""), None),
        Request::Disable { address } => (Method::POST, of(address, "/disable"), None),
        Request::Enable { address } => (Method::POST, of(address, "/enable"), None),
        Request::Devices { address, remove: None } => (Method::GET, of(address, "/devices"), None),
        Request::Devices { address, remove: Some(device) } => {
            let device = utf8_percent_encode(device, ESCAPED);
            (Method::DELETE, of(address, &format!("/devices/{device}")), None)
        }
        Request::Explain { owner, watcher } => {
            let watcher = utf8_percent_encode(watcher, ESCAPED);
            (Method::GET, of(owner, &format!("/explain/{watcher}")), None)
        }
        Request::Reload => (Method::POST, "/reload".to_owned(), None),
    }
}

/// What is taken: each path and method, and what it asks.
pub(super) fn routes(answering: Answering) -> Router {
    let of = |make: fn(String) -> Request| {
        move |State(answering): State<Answering>, Path(address): Path<String>| async move {
            answering(make(address)).await
        }
    };
    let all = |make: fn() -> Request| {
        move |State(answering): State<Answering>| async move { answering(make()).await }
    };
    let devices = |address| Request::Devices { address, remove: None };
    let paths = Router::new()
        .route("/accounts", get(all(|| Request::List)).post(add))
        .route("/accounts/{address}", delete(of(|address| Request::Remove { address })))
        .route("/accounts/{address}/password", put(passwd))
        .route("/accounts/{address}/disable", post(of(|address| Request::Disable { address })))
        .route("/accounts/{address}/enable", post(of(|address| Request::Enable { address })))
        .route("/accounts/{address}/devices", get(of(devices)))
        .route("/accounts/{address}/devices/{device}", delete(remove_device))
        .route("/accounts/{address}/explain/{watcher}", get(explain))
        .route("/reload", post(all(|| Request::Reload)));
    Router::new()
        .nest(VERSION, paths)
        .fallback(no_path)
        .method_not_allowed_fallback(no_method)
        // How much may be asked is bounded where the request is taken, and told in our words.
        .layer(DefaultBodyLimit::disable())
        .with_state(answering)
}

async fn add(State(answering): State<Answering>, body: Bytes) -> Response {
    let Add { address, password, services } = match read(&body) {
        Ok(add) => add,
        Err(response) => return response,
    };
    let all = || vec!["pres".to_owned(), "im".to_owned()];
    match services_of(&services.unwrap_or_else(all)) {
        Ok(services) => answering(Request::Add { address, password, services }).await,
        Err(words) => refused(2, words, Some("services are pres and im".to_owned())),
    }
}

async fn passwd(
    State(answering): State<Answering>,
    Path(address): Path<String>,
    body: Bytes,
) -> Response {
    let read = if body.is_empty() { Ok(Passwd::default()) } else { read(&body) };
    match read {
        Ok(Passwd { password }) => answering(Request::Passwd { address, password }).await,
        Err(response) => response,
    }
}

async fn remove_device(
    State(answering): State<Answering>,
    Path((address, device)): Path<(String, String)>,
) -> Response {
    answering(Request::Devices { address, remove: Some(device) }).await
}

/// Of rules not their owner asks, but the operator: that is written down before it is answered.
async fn explain(
    State(answering): State<Answering>,
    Extension(Asker(uid)): Extension<Asker>,
    Path((owner, watcher)): Path<(String, String)>,
) -> Response {
    tracing::info!(target: event::TARGET, uid, owner, watcher, "the operator asks what rules say");
    answering(Request::Explain { owner, watcher }).await
}

/// What is not there may be there in a server of another version: that is said.
async fn no_path(method: Method, uri: Uri) -> (StatusCode, Response) {
    let message = format!("{AGENT} has no {method} {}: its paths begin with {VERSION}", uri.path());
    let hint = "ask it with the imppd that runs, or restart it with this one".to_owned();
    (StatusCode::NOT_FOUND, refused(3, message, Some(hint)))
}

/// The path is there, and something else is asked of it.
async fn no_method(method: Method, uri: Uri) -> (StatusCode, Response) {
    let message = format!("{method} is not asked of {}", uri.path());
    (StatusCode::METHOD_NOT_ALLOWED, refused(2, message, None))
}

/// Reads a body, whatever it is said to be: curl says that it is a form if nobody tells it.
fn read<T: DeserializeOwned>(body: &[u8]) -> Result<T, Response> {
    serde_json::from_slice(body).map_err(|error| refused(2, format!("no request: {error}"), None))
}

impl IntoResponse for Response {
    fn into_response(self) -> axum::response::Response {
        let status = match &self {
            Response::Refused { exit: 1, .. } => StatusCode::CONFLICT,
            Response::Refused { exit: 2, .. } => StatusCode::BAD_REQUEST,
            Response::Refused { .. } => StatusCode::SERVICE_UNAVAILABLE,
            _ => StatusCode::OK,
        };
        let mut text = serde_json::to_string(&self).unwrap_or_default();
        text.push('\n');
        (status, [(header::CONTENT_TYPE, "application/json")], text).into_response()
    }
}

#[cfg(test)]
mod tests {
    use tokio::sync::mpsc;

    use super::*;
    use crate::core::records::Services;

    /// What is sent is what is taken, whatever an address or a device is called.
    #[tokio::test]
    async fn what_is_sent_is_what_is_taken() {
        use axum::extract::Request as HttpRequest;
        use hyper::service::Service;
        let address = || "a/b%?#ü @x".to_owned();
        let services = Services { pres: false, im: true };
        let all = || {
            vec![
                Request::List,
                Request::Add { address: address(), password: None, services },
                Request::Passwd { address: address(), password: Some("pass".to_owned()) },
                Request::Passwd { address: address(), password: None },
                Request::Remove { address: address() },
                Request::Disable { address: address() },
                Request::Enable { address: address() },
                Request::Devices { address: address(), remove: None },
                Request::Devices { address: address(), remove: Some("../x".to_owned()) },
                Request::Explain { owner: address(), watcher: address() },
                Request::Reload,
            ]
        };
        let (taken, mut takes) = mpsc::unbounded_channel();
        let answering: Answering = Arc::new(move |request| {
            let _ = taken.send(request);
            Box::pin(async { Response::DONE })
        });
        let service = hyper_util::service::TowerToHyperService::new(
            routes(answering).layer(Extension(Asker(0))),
        );
        for (request, wanted) in all().iter().zip(all()) {
            let sent: HttpRequest = sent(request).unwrap();
            assert_eq!(service.call(sent).await.unwrap().status(), 200, "{request:?}");
            assert_eq!(takes.recv().await.unwrap(), wanted);
        }
    }
}
