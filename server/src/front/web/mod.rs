//! The web door: HTTP/1.1 on the port of all else, for whoever calls a name of the web.
//!
//! Who that is, TLS has found out (`front/listen.rs`). What every request has to be like is in `asked`, what
//! is answered where in `paths`, what is not done in `problem`. Nobody signs in here: a connection is one of
//! those that have not signed in, to its last byte.

mod asked;
mod paths;
mod problem;

use std::pin::pin;
use std::time::Duration;

use hyper::server::conn::http1;
use hyper_util::rt::{TokioIo, TokioTimer};
use hyper_util::service::TowerToHyperService;
use tokio::time::{Instant, sleep_until, timeout};
use tokio_util::sync::CancellationToken;

use crate::core::clock::Clock;
use crate::wire::channel::Channel;
use crate::wire::pipe::FAREWELL;
use asked::Visit;

/// Bytes of the first line and the header of a request; the library takes no less for its buffer.
const HEAD_BYTES_MAX: usize = 8 * 1024;
/// Fields in it.
const HEADERS_MAX: usize = 64;
/// How long it may take to come; so long a connection on which nothing is asked stays.
const HEAD_MAX: Duration = Duration::from_secs(5);

/// Answers what is asked on a connection, until then, or until the server stops.
pub(super) async fn serve(
    channel: Box<dyn Channel>,
    clock: Clock,
    until: Instant,
    stop: &CancellationToken,
) {
    // Without a name nobody comes this way.
    let Some(called) = channel.called() else { return };
    let service = TowerToHyperService::new(Visit::new(called).guard(paths::routes(clock)));
    let serving = http1::Builder::new()
        .timer(TokioTimer::new())
        .header_read_timeout(HEAD_MAX)
        .max_buf_size(HEAD_BYTES_MAX)
        .max_header_size(HEAD_BYTES_MAX)
        .max_headers(HEADERS_MAX)
        .serve_connection(TokioIo::new(channel), service);
    let mut serving = pin!(serving);
    tokio::select! {
        biased;
        () = stop.cancelled() => {}
        () = sleep_until(until) => {}
        ended = &mut serving => {
            if let Err(error) = ended {
                tracing::debug!(%error, "web");
            }
            return;
        }
    }
    // What was asked is answered; nothing more is.
    serving.as_mut().graceful_shutdown();
    let _ = timeout(FAREWELL, serving).await;
}
