//! What carries a pipe's bytes, and what its handshake has proven. It is TLS; tests that run a whole
//! server in virtual time make it up.

use std::fmt::Debug;
use std::io;
use std::pin::Pin;
use std::task::{Context, Poll};

use impp_protocol::sasl::resume::EndPoint;
use impp_protocol::sasl::scram::EXPORTER_LABEL;
use impp_protocol::{Address, Domain};
use impp_trust::{Unproven, certificate, proves};
use tokio::io::{AsyncRead, AsyncWrite, ReadBuf};
use tokio_rustls::TlsStream;

use super::gate::Gate;

/// Bytes that TLS keeps for a peer that does not read.
const TLS_BYTES: usize = 16 * 1024;

/// See the module.
pub trait Channel: AsyncRead + AsyncWrite + Debug + Send + Unpin {
    /// The domain that was called on an accepted connection (SNI).
    fn called(&self) -> Option<Domain>;

    /// What both ends of an accepted connection know and nobody between them (RFC 9266).
    fn exporter(&self) -> Option<[u8; 32]>;

    /// The end point that this side has proven itself by on an accepted connection.
    fn end_point(&self) -> Option<EndPoint>;

    /// The addresses of accounts that the peer has proven by a client's certificate.
    fn addresses(&self) -> Vec<Address>;

    /// Whether the peer has proven to be this domain's server.
    ///
    /// # Errors
    /// [`Unproven`].
    fn proves(&self, domain: &Domain) -> Result<(), Unproven>;
}

/// A TLS connection, and the end point of this side, if it was accepted as one that clients may be bound to.
#[derive(Debug)]
struct Tls {
    stream: TlsStream<Gate>,
    end_point: Option<EndPoint>,
}

/// A TLS connection whose handshake has ended, as a channel. TLS does not say by which certificate this
/// side has proven itself: whoever has chosen it does.
pub fn channel(
    stream: impl Into<TlsStream<Gate>>,
    end_point: Option<EndPoint>,
) -> Box<dyn Channel> {
    let mut stream = stream.into();
    let (gate, _) = stream.get_mut();
    gate.open();
    match &mut stream {
        TlsStream::Client(stream) => stream.get_mut().1.set_buffer_limit(Some(TLS_BYTES)),
        TlsStream::Server(stream) => stream.get_mut().1.set_buffer_limit(Some(TLS_BYTES)),
    }
    Box::new(Tls { stream, end_point })
}

/// Of an accepted connection alone: who has dialled has called itself.
fn accepted(stream: &TlsStream<Gate>) -> Option<&rustls::ServerConnection> {
    match stream {
        TlsStream::Server(stream) => Some(stream.get_ref().1),
        TlsStream::Client(_) => None,
    }
}

impl Channel for Tls {
    fn called(&self) -> Option<Domain> {
        Domain::parse(accepted(&self.stream)?.server_name()?).ok()
    }

    fn end_point(&self) -> Option<EndPoint> {
        self.end_point
    }

    fn exporter(&self) -> Option<[u8; 32]> {
        accepted(&self.stream)?.export_keying_material([0; 32], EXPORTER_LABEL, Some(b"")).ok()
    }

    fn addresses(&self) -> Vec<Address> {
        let certificate =
            self.stream.get_ref().1.peer_certificates().and_then(|chain| chain.first());
        certificate.map(certificate::addresses).unwrap_or_default()
    }

    fn proves(&self, domain: &Domain) -> Result<(), Unproven> {
        proves(self.stream.get_ref().1.peer_certificates().unwrap_or_default(), domain)
    }
}

impl AsyncRead for Tls {
    fn poll_read(
        mut self: Pin<&mut Self>,
        context: &mut Context<'_>,
        buffer: &mut ReadBuf<'_>,
    ) -> Poll<io::Result<()>> {
        Pin::new(&mut self.stream).poll_read(context, buffer)
    }
}

impl AsyncWrite for Tls {
    fn poll_write(
        mut self: Pin<&mut Self>,
        context: &mut Context<'_>,
        bytes: &[u8],
    ) -> Poll<io::Result<usize>> {
        Pin::new(&mut self.stream).poll_write(context, bytes)
    }

    fn poll_flush(mut self: Pin<&mut Self>, context: &mut Context<'_>) -> Poll<io::Result<()>> {
        Pin::new(&mut self.stream).poll_flush(context)
    }

    fn poll_shutdown(mut self: Pin<&mut Self>, context: &mut Context<'_>) -> Poll<io::Result<()>> {
        Pin::new(&mut self.stream).poll_shutdown(context)
    }
}
