//! Accepting connections: admission, TLS, and a task for each.
//!
//! What happens on a connection is in `connection`.

use std::io;
use std::net::{IpAddr, SocketAddr};
use std::sync::Arc;
use std::time::Duration;

use arc_swap::ArcSwap;
use rustls::ServerConfig;
use socket2::SockRef;
use tokio::io::AsyncWriteExt;
use tokio::net::{TcpListener, TcpStream};
use tokio::time::Instant;
use tokio_rustls::TlsAcceptor;

use super::admission::{Crowded, Place};
use super::connection::Connection;
use super::gate::Gate;
use super::pipe::Pipe;
use crate::config::seconds;
use crate::host::Host;

/// What a client is told that is refused before TLS: a fatal alert, access denied (RFC 8446 6.2).
const ALERT_ACCESS_DENIED: [u8; 7] = [21, 3, 3, 0, 2, 2, 49];
/// How long accepting rests when the system has no more files.
const REST: Duration = Duration::from_millis(100);
/// Bytes that the system may keep for a peer that does not read; it takes twice as many. So what a
/// slow peer has not taken is with us, where presence is conflated.
const SEND_BUFFER_BYTES: usize = 64 * 1024;
/// Bytes that TLS keeps for a peer that does not read.
const TLS_BUFFER_BYTES: usize = 16 * 1024;

/// A bound listener.
#[derive(Debug)]
pub struct Listener {
    listener: TcpListener,
    /// Where it listens.
    pub address: SocketAddr,
}

impl Listener {
    /// Binds an address.
    ///
    /// # Errors
    /// The system's.
    pub async fn bind(address: &str) -> io::Result<Listener> {
        let listener = TcpListener::bind(address).await?;
        Ok(Listener { address: listener.local_addr()?, listener })
    }

    /// Accepts for ever.
    pub async fn run(self, host: Arc<Host>, tls: Arc<ArcSwap<ServerConfig>>) {
        loop {
            let (stream, peer) = match self.listener.accept().await {
                Ok(accepted) => accepted,
                Err(error) => {
                    tracing::warn!(%error, "no connection could be accepted");
                    tokio::time::sleep(REST).await;
                    continue;
                }
            };
            let limits = &host.config.load().limits;
            let (total, per_source) = (limits.unsigned_max, limits.unsigned_per_address_max);
            match host.admission.enter(peer.ip(), total, per_source) {
                Ok(place) => {
                    let tls = TlsAcceptor::from(tls.load_full());
                    tokio::spawn(serve(host.clone(), tls, stream, peer.ip(), place));
                }
                Err(crowded) => refuse(&host, stream, peer.ip(), crowded),
            }
        }
    }
}

/// Closes a connection that there is no place for, without waiting.
fn refuse(host: &Host, stream: TcpStream, peer: IpAddr, crowded: Crowded) {
    host.metrics.crowded.inc();
    let _ = stream.try_write(&ALERT_ACCESS_DENIED);
    if host.complaints.may_complain(peer, host.clock.now()) {
        tracing::warn!(%peer, ?crowded, "connection refused: too many have not signed in");
    }
}

async fn serve(host: Arc<Host>, tls: TlsAcceptor, stream: TcpStream, peer: IpAddr, place: Place) {
    let deadline = Instant::now() + seconds(host.config.load().limits.sign_in_seconds);
    let _ = stream.set_nodelay(true);
    let _ = SockRef::from(&stream).set_send_buffer_size(SEND_BUFFER_BYTES);
    // The handshake's state is large and short-lived: it is not part of this task's own.
    let accepting = Box::pin(tls.accept(Gate::new(stream)).into_fallible());
    let stream = match tokio::time::timeout_at(deadline, accepting).await {
        Ok(Ok(mut stream)) => {
            let (gate, tls) = stream.get_mut();
            gate.open();
            tls.set_buffer_limit(Some(TLS_BUFFER_BYTES));
            // Who does not say what it speaks is not spoken to.
            if tls.alpn_protocol() != Some(impp_protocol::ALPN_CLIENT) {
                let _ = tokio::time::timeout_at(deadline, stream.shutdown()).await;
                return;
            }
            stream
        }
        Ok(Err((error, mut socket))) => {
            let _ = tokio::time::timeout_at(deadline, socket.shutdown()).await;
            if host.complaints.may_complain(peer, host.clock.now()) {
                tracing::info!(%peer, %error, "no TLS connection");
            }
            return;
        }
        Err(_) => return,
    };
    host.metrics.connections.inc();
    Connection::new(host.clone(), Pipe::new(stream, deadline), peer, place, deadline).run().await;
    host.metrics.connections.dec();
}
