//! A proven connection as a pipe of frames: one task polls reading, writing and being woken.
//!
//! Nothing is allocated for an idle connection: reading goes through one buffer per thread, and
//! the output buffer is given back when it is empty. What frames mean is left to the caller.

use std::cell::RefCell;
use std::future::Future;
use std::io;
use std::pin::Pin;
use std::task::{Context, Poll};
use std::time::Duration;

use bytes::{Buf, BytesMut};
use impp_protocol::frame::{self, Frame, FrameError};
use impp_protocol::{Code, Error};
use tokio::io::{AsyncRead, AsyncWrite, ReadBuf};
use tokio::time::{Instant, Sleep};

use super::channel::Channel;
use crate::core::signal::Signal;

/// Bytes read from a socket at once.
const READ_BYTES: usize = 16 * 1024;
/// An output buffer larger than this is given back when it is empty.
const OUTPUT_BYTES_KEPT: usize = 4 * 1024;

thread_local! {
    static SCRATCH: RefCell<Vec<u8>> = RefCell::new(vec![0; READ_BYTES]);
}

/// How long the last frames may take to be written.
pub const FAREWELL: Duration = Duration::from_secs(5);

/// What happened on a connection.
#[derive(Debug)]
pub enum Event {
    /// Bytes came in.
    Input,
    /// Bytes went out.
    Output,
    /// The [`Signal`] was raised.
    Woken,
    /// The deadline has passed.
    Deadline,
    /// The peer has closed its side, or the connection broke.
    Closed,
}

/// A connection and its buffers.
#[derive(Debug)]
pub struct Pipe {
    stream: Box<dyn Channel>,
    input: BytesMut,
    output: BytesMut,
    deadline: Pin<Box<Sleep>>,
    broken: Option<io::Error>,
}

impl Pipe {
    /// A pipe over a connection, accepted or dialled, whose handshake has ended.
    pub fn new(stream: Box<dyn Channel>, deadline: Instant) -> Pipe {
        Pipe {
            stream,
            broken: None,
            input: BytesMut::new(),
            output: BytesMut::new(),
            deadline: Box::pin(tokio::time::sleep_until(deadline)),
        }
    }

    /// The connection, for what its handshake has proven.
    pub fn proven(&self) -> &dyn Channel {
        &*self.stream
    }

    /// What broke the connection, if it was not closed in good order: after [`Event::Closed`].
    pub fn broken(&self) -> Option<&io::Error> {
        self.broken.as_ref()
    }

    /// Bytes that wait to be written.
    pub fn output_len(&self) -> usize {
        self.output.len()
    }

    /// Whether a frame has begun and not ended.
    pub fn is_mid_frame(&self) -> bool {
        !self.input.is_empty()
    }

    /// The buffer to append frames to.
    pub fn output(&mut self) -> &mut BytesMut {
        &mut self.output
    }

    /// The next whole frame that has come in.
    ///
    /// # Errors
    /// [`FrameError`], after which nothing more can be read.
    pub fn take(&mut self, max: usize) -> Result<Option<Frame>, FrameError> {
        let taken = frame::take(&mut self.input, max);
        if self.input.is_empty() {
            self.input = BytesMut::new();
        }
        taken
    }

    /// Waits until something happens. Reads only if `reading`; writes whatever there is; polls
    /// `others` for what else the caller waits for.
    pub async fn event<F>(
        &mut self,
        signal: &Signal,
        reading: bool,
        deadline: Instant,
        mut others: F,
    ) -> Event
    where
        F: FnMut(&mut Context<'_>) -> bool,
    {
        if self.deadline.deadline() != deadline {
            self.deadline.as_mut().reset(deadline);
        }
        std::future::poll_fn(|context| {
            if signal.poll(context) | others(context) {
                return Poll::Ready(Event::Woken);
            }
            match self.poll_write(context) {
                Poll::Ready(Ok(true)) => return Poll::Ready(Event::Output),
                Poll::Ready(Err(error)) => {
                    self.broken = Some(error);
                    return Poll::Ready(Event::Closed);
                }
                Poll::Ready(Ok(false)) | Poll::Pending => {}
            }
            if reading {
                match self.poll_read(context) {
                    Poll::Ready(Ok(0)) => return Poll::Ready(Event::Closed),
                    Poll::Ready(Err(error)) => {
                        self.broken = Some(error);
                        return Poll::Ready(Event::Closed);
                    }
                    Poll::Ready(Ok(_)) => return Poll::Ready(Event::Input),
                    Poll::Pending => {}
                }
            }
            self.deadline.as_mut().poll(context).map(|()| Event::Deadline)
        })
        .await
    }

    /// Writes what there is and closes, as far as the peer lets it within [`FAREWELL`].
    pub async fn finish(mut self) {
        let closing = std::future::poll_fn(|context| {
            loop {
                match self.poll_write(context) {
                    Poll::Ready(Ok(true)) => {}
                    Poll::Ready(Ok(false)) => {
                        return Pin::new(&mut self.stream).poll_shutdown(context);
                    }
                    Poll::Ready(Err(error)) => return Poll::Ready(Err(error)),
                    Poll::Pending => return Poll::Pending,
                }
            }
        });
        let _ = tokio::time::timeout(FAREWELL, closing).await;
    }

    /// Writes some of the output; `false` if there is nothing left, also in TLS.
    fn poll_write(&mut self, context: &mut Context<'_>) -> Poll<io::Result<bool>> {
        if self.output.is_empty() {
            return Pin::new(&mut self.stream).poll_flush(context).map_ok(|()| false);
        }
        let written =
            std::task::ready!(Pin::new(&mut self.stream).poll_write(context, &self.output))?;
        self.output.advance(written);
        if self.output.is_empty() && self.output.capacity() > OUTPUT_BYTES_KEPT {
            self.output = BytesMut::new();
        }
        Poll::Ready(Ok(true))
    }

    fn poll_read(&mut self, context: &mut Context<'_>) -> Poll<io::Result<usize>> {
        SCRATCH.with_borrow_mut(|scratch| {
            let mut buffer = ReadBuf::new(scratch);
            std::task::ready!(Pin::new(&mut self.stream).poll_read(context, &mut buffer))?;
            self.input.extend_from_slice(buffer.filled());
            Poll::Ready(Ok(buffer.filled().len()))
        })
    }
}

/// What is said of bytes that are no frame.
pub fn unreadable(error: &FrameError) -> Error {
    let code = match error {
        FrameError::TooLarge { .. } => Code::TooLarge,
        FrameError::Malformed(_) => Code::Malformed,
    };
    Error::new(code, error.to_string())
}
