//! The control socket: who may ask, and how much at once. It speaks HTTP/1.1.
//!
//! Which path asks what is in `paths`.

use std::io;
use std::os::fd::OwnedFd;
use std::path::Path;
use std::time::Duration;

use axum::body::{Body, to_bytes};
use axum::extract::Request;
use axum::http::{HeaderValue, StatusCode, header};
use axum::middleware::{Next, from_fn};
use axum::response::IntoResponse;
use axum::{Extension, Router};
use hyper::server::conn::http1;
use hyper_util::rt::{TokioIo, TokioTimer};
use hyper_util::service::TowerToHyperService;
use rustix::fs::Mode;
use socket2::{Domain, SockAddr, Socket, Type};
use tokio::io::{AsyncBufReadExt, AsyncReadExt, AsyncWriteExt, BufReader};
use tokio::net::{UnixListener, UnixStream};
use tokio::time::timeout;

use super::paths::{Answering, routes};
use super::{AGENT, BYTES_MAX, refused};

/// How long what is asked may take to come.
const REQUEST_MAX: Duration = Duration::from_secs(10);
/// How long accepting rests when the system has no more files.
const REST: Duration = Duration::from_millis(100);
/// Connections that the system keeps until they are accepted.
const BACKLOG: i32 = 128;
/// Most bytes that are read of a line of the protocol that was spoken here before HTTP.
const LINE_BYTES_MAX: u64 = 64 * 1024;

/// Who asks: the user that the system says has opened the connection.
#[derive(Clone, Copy, Debug)]
pub(super) struct Asker(pub u32);

/// Listens on the control socket, and has what is asked done. A socket that nobody listens on is
/// replaced.
///
/// # Errors
/// The system's.
pub fn listen(path: &Path, answering: Answering) -> io::Result<()> {
    // The store's lock says that no other server runs here.
    match std::fs::remove_file(path) {
        Err(error) if error.kind() != io::ErrorKind::NotFound => return Err(error),
        _ => {}
    }
    let listener = bind(path)?;
    tokio::spawn(accept(listener, routes(answering).layer(from_fn(bounded))));
    Ok(())
}

/// Binds the socket's file, from its first moment for its owner alone: Linux makes it with the mode
/// of the socket, less the umask. To set the umask instead would concern all threads, and to change
/// the file's mode would come after a moment in which others could have opened it.
fn bind(path: &Path) -> io::Result<UnixListener> {
    let socket = Socket::new(Domain::UNIX, Type::STREAM, None)?;
    rustix::fs::fchmod(&socket, Mode::RUSR | Mode::WUSR)?;
    socket.bind(&SockAddr::unix(path)?)?;
    socket.listen(BACKLOG)?;
    socket.set_nonblocking(true)?;
    UnixListener::from_std(OwnedFd::from(socket).into())
}

async fn accept(listener: UnixListener, paths: Router) {
    loop {
        match listener.accept().await {
            Ok((stream, _)) => {
                let serving = serve(stream, paths.clone());
                tokio::spawn(async move {
                    if let Err(error) = serving.await {
                        tracing::debug!(%error, "control");
                    }
                });
            }
            Err(error) => {
                tracing::warn!(%error, "the control socket could not accept");
                tokio::time::sleep(REST).await;
            }
        }
    }
}

async fn serve(
    stream: UnixStream,
    paths: Router,
) -> Result<(), Box<dyn std::error::Error + Send + Sync>> {
    // Whoever made the file's mode wider, or handed an open connection on, opens nothing with it.
    let uid = stream.peer_cred()?.uid();
    let is_owner = [0, rustix::process::geteuid().as_raw()].contains(&uid);
    let mut stream = BufReader::new(stream);
    if timeout(REQUEST_MAX, stream.fill_buf()).await??.first() == Some(&b'{') {
        return Ok(timeout(REQUEST_MAX, answer_line(stream)).await??);
    }
    let paths = match is_owner {
        true => paths.layer(Extension(Asker(uid))),
        false => Router::new().fallback(move || async move { foreign(uid) }),
    };
    http1::Builder::new()
        .timer(TokioTimer::new())
        .header_read_timeout(REQUEST_MAX)
        .serve_connection(TokioIo::new(stream), TowerToHyperService::new(paths))
        .await?;
    Ok(())
}

/// Who asks is neither the server's own user nor root.
fn foreign(uid: u32) -> impl IntoResponse {
    let message = format!("user {uid} may not ask this server: only its own user and root may");
    (StatusCode::FORBIDDEN, [(header::CONNECTION, "close")], refused(1, message, None))
}

/// Answers a command line of before HTTP, which sent a line of JSON and prints what it gets, if it
/// is a refusal like this.
async fn answer_line(mut stream: BufReader<UnixStream>) -> io::Result<()> {
    // Read to its end: who is cut off while it writes does not look for an answer.
    (&mut stream).take(LINE_BYTES_MAX).read_until(b'\n', &mut Vec::new()).await?;
    let message = format!("the running server, {AGENT}, is newer than this command line");
    let hint = "use the imppd that runs".to_owned();
    let mut line = serde_json::to_vec(&refused(3, message, Some(hint)))?;
    line.push(b'\n');
    stream.write_all(&line).await?;
    stream.shutdown().await
}

/// Takes a request whole, before anything is done: bounded in size and in the time it may take.
async fn bounded(request: Request, next: Next) -> axum::response::Response {
    let (head, body) = request.into_parts();
    let mut response = match timeout(REQUEST_MAX, to_bytes(body, BYTES_MAX)).await {
        Ok(Ok(body)) => next.run(Request::from_parts(head, Body::from(body))).await,
        Ok(Err(error)) => {
            let words = format!("no request: {error}; {BYTES_MAX} bytes are the most");
            (StatusCode::PAYLOAD_TOO_LARGE, refused(2, words, None)).into_response()
        }
        Err(_) => {
            let words = "no request: it took too long to come";
            (StatusCode::REQUEST_TIMEOUT, refused(2, words, None)).into_response()
        }
    };
    response.headers_mut().insert(header::SERVER, HeaderValue::from_static(AGENT));
    response
}
