//! A socket that gives so many bytes and no more until it is let through: what a peer can make
//! TLS keep before the handshake is over is bounded.

use std::io;
use std::pin::Pin;
use std::task::{Context, Poll, ready};

use tokio::io::{AsyncRead, AsyncWrite, ReadBuf};
use tokio::net::TcpStream;

/// Bytes that a handshake may take from a client: a ClientHello with post-quantum key shares and,
/// if it has one, its certificate chain.
pub const HANDSHAKE_BYTES_MAX: usize = 16 * 1024;

/// See the module.
#[derive(Debug)]
pub struct Gate {
    stream: TcpStream,
    /// Bytes that may still be read; `None` for any number.
    left: Option<usize>,
}

impl Gate {
    /// A gate that lets a handshake through.
    pub fn new(stream: TcpStream) -> Gate {
        Gate { stream, left: Some(HANDSHAKE_BYTES_MAX) }
    }

    /// Lets everything through.
    pub fn open(&mut self) {
        self.left = None;
    }
}

impl AsyncRead for Gate {
    fn poll_read(
        mut self: Pin<&mut Self>,
        context: &mut Context<'_>,
        buffer: &mut ReadBuf<'_>,
    ) -> Poll<io::Result<()>> {
        let Some(left) = self.left else {
            return Pin::new(&mut self.stream).poll_read(context, buffer);
        };
        if left == 0 {
            return Poll::Ready(Err(io::Error::other("the handshake is too long")));
        }
        let most = left.min(buffer.remaining());
        let mut bounded = ReadBuf::new(buffer.initialize_unfilled_to(most));
        ready!(Pin::new(&mut self.stream).poll_read(context, &mut bounded))?;
        let read = bounded.filled().len();
        buffer.advance(read);
        self.left = Some(left - read);
        Poll::Ready(Ok(()))
    }
}

impl AsyncWrite for Gate {
    fn poll_write(
        mut self: Pin<&mut Self>,
        context: &mut Context<'_>,
        bytes: &[u8],
    ) -> Poll<io::Result<usize>> {
        Pin::new(&mut self.stream).poll_write(context, bytes)
    }

    fn poll_write_vectored(
        mut self: Pin<&mut Self>,
        context: &mut Context<'_>,
        bytes: &[io::IoSlice<'_>],
    ) -> Poll<io::Result<usize>> {
        Pin::new(&mut self.stream).poll_write_vectored(context, bytes)
    }

    fn is_write_vectored(&self) -> bool {
        self.stream.is_write_vectored()
    }

    fn poll_flush(mut self: Pin<&mut Self>, context: &mut Context<'_>) -> Poll<io::Result<()>> {
        Pin::new(&mut self.stream).poll_flush(context)
    }

    fn poll_shutdown(mut self: Pin<&mut Self>, context: &mut Context<'_>) -> Poll<io::Result<()>> {
        Pin::new(&mut self.stream).poll_shutdown(context)
    }
}
