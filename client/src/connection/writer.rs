//! The task that writes: it numbers requests in the order of the wire and writes them in batches.

use std::sync::Arc;
use std::sync::atomic::{AtomicU64, Ordering};

use bytes::BytesMut;
use impp_protocol::command::{Bye, Command, Done, Ping, Request};
use tokio::io::{AsyncWrite, AsyncWriteExt};
use tokio::sync::{mpsc, oneshot};

use super::pending::{Pending, Reply};
use crate::error::ClientError;

/// Bytes after which a batch is written even if more requests wait.
const BATCH_BYTES: usize = 64 * 1024;

/// What is to be written.
pub(super) enum Order {
    /// A request, and where its answer goes.
    Ask(Box<Command>, Reply),
    /// The same, under the number that stands there, or if that is 0 a new one, which is noted there.
    AskAs(Box<Command>, Reply, Arc<AtomicU64>),
    /// OK to the server's PING of that number.
    Pong(u64),
    /// The last word; who waits hears when it is written.
    Bye(Bye, oneshot::Sender<()>),
}

/// Writes until a BYE, the end of all handles, or an error.
pub(super) async fn run<W: AsyncWrite + Unpin>(
    mut stream: W,
    mut orders: mpsc::Receiver<Order>,
    pending: Arc<Pending>,
    numbers: Arc<AtomicU64>,
) {
    let mut out = BytesMut::new();
    let mut last = None;
    while let Some(order) = orders.recv().await {
        last = put(order, &mut out, &pending, &numbers);
        while last.is_none() && out.len() < BATCH_BYTES {
            let Ok(order) = orders.try_recv() else { break };
            last = put(order, &mut out, &pending, &numbers);
        }
        let written = async {
            stream.write_all(&out).await?;
            stream.flush().await
        };
        if let Err(error) = written.await {
            pending.end(error.into());
            return;
        }
        out.clear();
        if last.is_some() {
            break;
        }
    }
    // The end is ours: nothing that comes now is waited for.
    drop(stream.shutdown().await);
    pending.end(ClientError::Lost("ended by this side".to_owned()));
    if let Some(written) = last {
        let _ = written.send(());
    }
}

/// Appends an order's frame; gives who waits for it if it is the last one.
fn put(
    order: Order,
    out: &mut BytesMut,
    pending: &Pending,
    numbers: &AtomicU64,
) -> Option<oneshot::Sender<()>> {
    // This connection alone counts on while it lives.
    let next = || numbers.fetch_add(1, Ordering::Relaxed) + 1;
    let (mut command, request, reply, last) = match order {
        Order::Ask(command, reply) => (*command, next(), Some(reply), None),
        Order::AskAs(command, reply, noted) => {
            let number = match noted.load(Ordering::Relaxed) {
                0 => next(),
                before => before,
            };
            noted.store(number, Ordering::Relaxed);
            (*command, number, Some(reply), None)
        }
        Order::Pong(request) => (Done::empty().into(), request, None, None),
        Order::Bye(bye, written) => (bye.into(), 0, None, Some(written)),
    };
    if let Command::Ping(Ping { answered }) = &mut command {
        *answered = pending.answered_before(request);
    }
    let mark = out.len();
    let request_frame = Request { number: request, command };
    match request_frame.put(out) {
        Ok(()) => {
            if let Some(reply) = reply {
                pending.insert(request, reply);
            }
        }
        Err(error) => {
            out.truncate(mark);
            // The number was not used on the wire: the next request takes it.
            if let Some(reply) = reply {
                let relaxed = Ordering::Relaxed;
                let _ = numbers.compare_exchange(request, request - 1, relaxed, relaxed);
                reply.fail(ClientError::TooLarge(error.to_string()));
            }
        }
    }
    last
}
