//! What every request of the web door has to be like, and what every answer is.
//!
//! What is asked where is left to `paths`.

use std::sync::Arc;
use std::sync::atomic::{AtomicU32, Ordering};

use axum::Router;
use axum::body::HttpBody;
use axum::extract::{Request, State};
use axum::http::uri::Authority;
use axum::http::{HeaderValue, StatusCode, header};
use axum::middleware::{Next, from_fn_with_state};
use axum::response::{IntoResponse, Response};
use impp_protocol::{Code, Domain};

use super::problem::Problem;

/// Requests of one connection; its end is said with the answer to the last.
const REQUESTS_MAX: u32 = 64;

/// One connection.
#[derive(Debug)]
pub(super) struct Visit {
    /// The name that TLS was asked for.
    called: Domain,
    /// What was asked so far.
    requests: AtomicU32,
}

impl Visit {
    /// One that has just begun.
    pub(super) fn new(called: Domain) -> Visit {
        Visit { called, requests: AtomicU32::new(0) }
    }

    /// Lets to the paths what they may be asked.
    pub(super) fn guard(self, paths: Router) -> Router {
        paths.layer(from_fn_with_state(Arc::new(self), guarded))
    }

    /// Whether it may be answered at all.
    fn look(&self, request: &Request) -> Result<(), Problem> {
        let name = authority(request)?;
        if Domain::parse(name.host()).ok().as_ref() != Some(&self.called) {
            let text =
                format!("{} is not {}, which this connection is for", name.host(), self.called);
            return Err(Problem::new(StatusCode::MISDIRECTED_REQUEST, Code::NotOffered, text));
        }
        // It is not read: none is for anything yet.
        if !request.body().is_end_stream() {
            let text = "no path takes a body";
            return Err(Problem::new(StatusCode::PAYLOAD_TOO_LARGE, Code::TooLarge, text).ending());
        }
        Ok(())
    }
}

/// For whom a request is: as its target says, if that is whole, or else its one Host (RFC 9112, 3.2).
fn authority(request: &Request) -> Result<Authority, Problem> {
    let wrong = |text: &str| Problem::new(StatusCode::BAD_REQUEST, Code::Malformed, text).ending();
    let mut hosts = request.headers().get_all(header::HOST).iter();
    let (Some(host), None) = (hosts.next(), hosts.next()) else {
        return Err(wrong("Host: it has to stand there, and once"));
    };
    let read = |host: &HeaderValue| Authority::try_from(host.as_bytes()).ok();
    let host = read(host).filter(|host| !host.as_str().contains('@'));
    let host = host.ok_or_else(|| wrong("Host: expected a name, with or without a port"))?;
    Ok(request.uri().authority().cloned().unwrap_or(host))
}

async fn guarded(State(visit): State<Arc<Visit>>, request: Request, next: Next) -> Response {
    let is_last = visit.requests.fetch_add(1, Ordering::Relaxed) + 1 >= REQUESTS_MAX;
    let mut response = match visit.look(&request) {
        Ok(()) => next.run(request).await,
        Err(problem) => problem.into_response(),
    };
    let headers = response.headers_mut();
    // What one person is answered is nobody else's.
    headers.entry(header::CACHE_CONTROL).or_insert(HeaderValue::from_static("no-store"));
    if is_last {
        headers.insert(header::CONNECTION, HeaderValue::from_static("close"));
    }
    response
}
