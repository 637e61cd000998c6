//! What carries a pipe's bytes, and what its handshake has proven. It is TLS; tests that run a whole
//! server in virtual time make it up.

use std::fmt::Debug;

use impp_protocol::sasl::scram::EXPORTER_LABEL;
use impp_protocol::{Address, Domain};
use impp_trust::{Unproven, certificate, proves};
use tokio::io::{AsyncRead, AsyncWrite};
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

    /// The addresses of accounts that the peer has proven by a client's certificate.
    fn addresses(&self) -> Vec<Address>;

    /// Whether the peer has proven to be this domain's server.
    ///
    /// # Errors
    /// [`Unproven`].
    fn proves(&self, domain: &Domain) -> Result<(), Unproven>;
}

/// A TLS connection whose handshake has ended, as a channel.
pub fn channel(stream: impl Into<TlsStream<Gate>>) -> Box<dyn Channel> {
    let mut stream = stream.into();
    let (gate, _) = stream.get_mut();
    gate.open();
    match &mut stream {
        TlsStream::Client(stream) => stream.get_mut().1.set_buffer_limit(Some(TLS_BYTES)),
        TlsStream::Server(stream) => stream.get_mut().1.set_buffer_limit(Some(TLS_BYTES)),
    }
    Box::new(stream)
}

/// Of an accepted connection alone: who has dialled has called itself.
fn accepted(stream: &TlsStream<Gate>) -> Option<&rustls::ServerConnection> {
    match stream {
        TlsStream::Server(stream) => Some(stream.get_ref().1),
        TlsStream::Client(_) => None,
    }
}

impl Channel for TlsStream<Gate> {
    fn called(&self) -> Option<Domain> {
        Domain::parse(accepted(self)?.server_name()?).ok()
    }

    fn exporter(&self) -> Option<[u8; 32]> {
        accepted(self)?.export_keying_material([0; 32], EXPORTER_LABEL, Some(b"")).ok()
    }

    fn addresses(&self) -> Vec<Address> {
        let certificate = self.get_ref().1.peer_certificates().and_then(|chain| chain.first());
        certificate.map(certificate::addresses).unwrap_or_default()
    }

    fn proves(&self, domain: &Domain) -> Result<(), Unproven> {
        proves(self.get_ref().1.peer_certificates().unwrap_or_default(), domain)
    }
}
