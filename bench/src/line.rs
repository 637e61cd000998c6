//! A TLS connection that one task drives: what has come is handed on as soon as it is there, and
//! what anybody on this thread has put into its output leaves in one write for each wake-up.
//!
//! What the bytes mean is left to those who hand in what takes them. An idle connection holds no
//! buffer of its own, neither here nor for what comes.

use std::cell::{Cell, RefCell};
use std::future::poll_fn;
use std::io;
use std::pin::Pin;
use std::task::{Poll, Waker};

use bytes::{Buf, BytesMut};
use tokio::io::{AsyncRead, AsyncWrite, ReadBuf};

/// How much is read in one piece: a TLS record.
const READ_BYTES: usize = 16 * 1024;

thread_local! {
    static READ: RefCell<Box<[u8]>> = RefCell::new(vec![0; READ_BYTES].into());
}

/// What waits to be written to a connection.
#[derive(Debug, Default)]
pub struct Output {
    bytes: RefCell<BytesMut>,
    waker: RefCell<Option<Waker>>,
    closed: Cell<bool>,
    stalled: Cell<bool>,
}

impl Output {
    /// Lets somebody write, and wakes the connection's task if it sleeps.
    pub fn put(&self, write: impl FnOnce(&mut BytesMut)) {
        write(&mut self.bytes.borrow_mut());
        self.wake();
    }

    /// How many bytes wait.
    pub fn waiting(&self) -> usize {
        self.bytes.borrow().len()
    }

    /// Ends the connection without another word.
    pub fn close(&self) {
        self.closed.set(true);
        self.wake();
    }

    /// From now on nothing is read any more, however much comes.
    pub fn stall(&self) {
        self.stalled.set(true);
    }

    fn wake(&self) {
        if let Some(waker) = self.waker.borrow_mut().take() {
            waker.wake();
        }
    }
}

/// Drives a connection until either side ends it. All that has come and was not taken yet is handed
/// to `came`, which takes what is whole of it; it must not itself drive a connection.
///
/// # Errors
/// The system's, and those of TLS.
pub async fn drive<S: AsyncRead + AsyncWrite + Unpin>(
    mut stream: S,
    output: &Output,
    mut came: impl FnMut(&mut BytesMut),
) -> io::Result<()> {
    let mut input = BytesMut::new();
    poll_fn(|cx| {
        let ended = READ.with_borrow_mut(|buffer| {
            while !output.stalled.get() {
                let mut read = ReadBuf::new(buffer);
                match Pin::new(&mut stream).poll_read(cx, &mut read) {
                    Poll::Ready(Ok(())) if read.filled().is_empty() => return Some(Ok(())),
                    Poll::Ready(Ok(())) => input.extend_from_slice(read.filled()),
                    Poll::Ready(Err(error)) => return Some(Err(error)),
                    Poll::Pending => return None,
                }
                came(&mut input);
            }
            None
        });
        if let Some(ended) = ended {
            return Poll::Ready(ended);
        }
        if input.is_empty() {
            input = BytesMut::new();
        }
        if output.closed.get() {
            return Poll::Ready(Ok(()));
        }
        let mut bytes = output.bytes.borrow_mut();
        while !bytes.is_empty() {
            match Pin::new(&mut stream).poll_write(cx, &bytes) {
                Poll::Ready(Ok(written)) => bytes.advance(written),
                Poll::Ready(Err(error)) => return Poll::Ready(Err(error)),
                Poll::Pending => break,
            }
        }
        if bytes.is_empty() {
            *bytes = BytesMut::new();
        }
        if let Poll::Ready(Err(error)) = Pin::new(&mut stream).poll_flush(cx) {
            return Poll::Ready(Err(error));
        }
        *output.waker.borrow_mut() = Some(cx.waker().clone());
        Poll::Pending
    })
    .await
}
