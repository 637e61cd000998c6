//! Asking a running server through its control socket. A server of another version is told as such.

use std::io;
use std::path::Path;
use std::time::Duration;

use axum::body::{Body, to_bytes};
use axum::http::header;
use hyper::client::conn::http1;
use hyper_util::rt::TokioIo;
use tokio::net::UnixStream;
use tokio::time::timeout;

use super::{AGENT, BYTES_MAX, Request, Response, paths, refused};

/// How long a running server may take to answer.
const ANSWER_MAX: Duration = Duration::from_secs(10);

/// Asks the server that listens on `path`; `None` if none does.
///
/// # Errors
/// The system's, or that nothing is answered in time.
pub async fn ask(path: &Path, request: &Request) -> io::Result<Option<Response>> {
    let stream = match UnixStream::connect(path).await {
        Ok(stream) => stream,
        Err(error) => {
            let absent = [io::ErrorKind::NotFound, io::ErrorKind::ConnectionRefused];
            return if absent.contains(&error.kind()) { Ok(None) } else { Err(error) };
        }
    };
    match timeout(ANSWER_MAX, exchange(stream, request)).await {
        Ok(response) => response.map(Some),
        Err(_) => Err(io::Error::new(io::ErrorKind::TimedOut, "the server does not answer")),
    }
}

async fn exchange(stream: UnixStream, request: &Request) -> io::Result<Response> {
    let (mut sender, connection) =
        http1::handshake(TokioIo::new(stream)).await.map_err(io::Error::other)?;
    let connection = tokio::spawn(connection);
    let sent = paths::sent(request).map_err(io::Error::other)?;
    let answer = match sender.send_request(sent).await {
        Ok(answer) => answer,
        // Before HTTP, a line of JSON was answered to each line, whatever it was.
        Err(error) if error.is_parse() => return Ok(of_another_version("older")),
        Err(error) => return Err(io::Error::other(error)),
    };
    let agent = answer.headers().get(header::SERVER).and_then(|agent| agent.to_str().ok());
    let agent = agent.unwrap_or("unknown").to_owned();
    let text = to_bytes(Body::new(answer.into_body()), BYTES_MAX).await;
    connection.abort();
    let text = text.map_err(io::Error::other)?;
    Ok(serde_json::from_slice(&text).unwrap_or_else(|_| of_another_version(&agent)))
}

fn of_another_version(which: &str) -> Response {
    let message = format!("the running server is of another version, {which}; this is {AGENT}");
    let hint = "restart it, or ask it with the imppd that it runs";
    refused(3, message, Some(hint.to_owned()))
}
