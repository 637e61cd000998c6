//! Accepting connections: admission, TLS, and a task for each.
//!
//! What happens on a connection is in `connection`.

use std::io;
use std::net::{IpAddr, Ipv6Addr, SocketAddr};
use std::sync::Arc;
use std::time::Duration;

use impp_protocol::Domain;
use impp_protocol::sasl::resume::EndPoint;
use impp_trust::{ALPN_WEB, HandshakeError};
use rustls::server::{Acceptor, ClientHello};
use rustls::{ServerConfig, ServerConnection};
use socket2::SockRef;
use tokio::io::AsyncWriteExt;
use tokio::net::{TcpListener, TcpSocket, TcpStream};
use tokio::sync::Semaphore;
use tokio::time::{Instant, timeout};
use tokio_rustls::LazyConfigAcceptor;
use tokio_rustls::server::TlsStream;

use super::Entrance;
use crate::core::config::seconds;
use crate::core::tls::Configurations;
use crate::wire::admission::{Bounds, Crowded, Place};
use crate::wire::channel::channel;
use crate::wire::descriptors::is_kept_for_others;
use crate::wire::gate::Gate;
use crate::wire::pipe::Pipe;
use crate::wire::proxied::source;

/// What a client is told for whom there is no place, before TLS: a fatal alert, internal error, which is
/// about nothing that the client has done (RFC 8446 6.2). Access denied says that its domain is not
/// hosted.
const ALERT_INTERNAL_ERROR: [u8; 7] = [21, 3, 3, 0, 2, 2, 80];
/// How long a proxy may take to say for whom a connection is,
const PROXY_MAX: Duration = Duration::from_secs(5);
/// and how many of its connections may be about to; further ones are closed.
const PROXIED_MAX: usize = 1024;
/// How long accepting rests when there are no more descriptors for those who come here.
const REST: Duration = Duration::from_millis(100);
/// Bytes that the system may keep for a peer that does not read; it takes twice as many. So what a
/// slow peer has not taken is with us, where presence is conflated.
const SEND_BUFFER_BYTES: usize = 64 * 1024;

/// Connections that the system keeps until they are accepted.
const BACKLOG: u32 = 1024;

/// A bound listener.
#[derive(Debug)]
pub struct Listener {
    listener: TcpListener,
    /// Where it listens.
    pub address: SocketAddr,
    proxied: Proxied,
}

/// Connections of proxies that have not said yet for whom they are.
#[derive(Clone, Debug)]
struct Proxied {
    reading: Arc<Semaphore>,
}

impl Listener {
    /// Binds an address, one of `all`.
    ///
    /// # Errors
    /// The system's.
    pub async fn bind(address: SocketAddr, all: &[SocketAddr]) -> io::Result<Listener> {
        let listener = match leaves_ipv4(address, all) {
            true => {
                let socket = TcpSocket::new_v6()?;
                SockRef::from(&socket).set_only_v6(true)?;
                socket.set_reuseaddr(true)?;
                socket.bind(address)?;
                socket.listen(BACKLOG)?
            }
            false => TcpListener::bind(address).await?,
        };
        let proxied = Proxied { reading: Arc::new(Semaphore::new(PROXIED_MAX)) };
        Ok(Listener { address: listener.local_addr()?, listener, proxied })
    }

    /// Accepts for ever.
    pub async fn run(self, entrance: Arc<Entrance>) {
        loop {
            let (stream, peer) = match self.listener.accept().await {
                Ok(accepted) => accepted,
                Err(error) => {
                    tracing::warn!(%error, "no connection could be accepted");
                    tokio::time::sleep(REST).await;
                    continue;
                }
            };
            if is_kept_for_others(&stream) {
                refuse(&entrance, stream, peer.ip(), Crowded::Descriptors);
                // Whoever comes next has to wait for others to leave.
                tokio::time::sleep(REST).await;
                continue;
            }
            let peer = peer.ip().to_canonical();
            let proxies = &entrance.settings.load().server.proxies;
            match proxies.iter().any(|proxy| proxy.to_canonical() == peer) {
                true => {
                    drop(tokio::spawn(self.proxied.clone().admit(entrance.clone(), stream, peer)))
                }
                false => admit(&entrance, stream, peer),
            }
        }
    }
}

impl Proxied {
    /// Serves a connection that a proxy passes on, if it says from where.
    async fn admit(self, entrance: Arc<Entrance>, mut stream: TcpStream, proxy: IpAddr) {
        let Ok(_reading) = self.reading.try_acquire() else {
            return refuse(&entrance, stream, proxy, Crowded::Total);
        };
        let source = source(&mut stream, proxy);
        let source = entrance.stopping.begun.run_until_cancelled(timeout(PROXY_MAX, source)).await;
        match source {
            Some(Ok(Ok(source))) => admit(&entrance, stream, source.to_canonical()),
            Some(Ok(Err(error)))
                if entrance.complaints.may_complain(proxy, entrance.clock.now()) =>
            {
                tracing::warn!(%proxy, %error, "no PROXY header");
            }
            _ => {}
        }
    }
}

/// Serves a connection, if there is a place for it.
fn admit(entrance: &Arc<Entrance>, stream: TcpStream, peer: IpAddr) {
    let bounds = Bounds::of(&entrance.settings.load().limits);
    match entrance.admission.enter(peer, bounds) {
        Ok(place) => drop(tokio::spawn(serve(entrance.clone(), stream, peer, place))),
        Err(crowded) => refuse(entrance, stream, peer, crowded),
    }
}

/// Whether `[::]` takes IPv6 alone: the same port is listed on an IPv4 address too. Otherwise the
/// system decides, and most serve both families. Port 0 is never the same: each is another free one.
fn leaves_ipv4(address: SocketAddr, all: &[SocketAddr]) -> bool {
    let shares =
        |other: &SocketAddr| other.ip().to_canonical().is_ipv4() && other.port() == address.port();
    address.ip() == Ipv6Addr::UNSPECIFIED && address.port() != 0 && all.iter().any(shares)
}

/// Closes a connection that there is no place for, without waiting.
fn refuse(entrance: &Entrance, stream: TcpStream, peer: IpAddr, crowded: Crowded) {
    let _ = stream.try_write(&ALERT_INTERNAL_ERROR);
    entrance.crowded(peer, crowded);
}

async fn serve(entrance: Arc<Entrance>, stream: TcpStream, peer: IpAddr, place: Place) {
    let deadline = Instant::now() + seconds(entrance.settings.load().limits.sign_in_seconds);
    let _ = stream.set_nodelay(true);
    let _ = SockRef::from(&stream).set_send_buffer_size(SEND_BUFFER_BYTES);
    // The handshake's state is large and short-lived: it is not part of this task's own.
    let shaking = Box::pin(shake(&entrance, stream, peer, deadline));
    let shaking = entrance.stopping.begun.run_until_cancelled(shaking);
    let Some(shaken) = place.lost().run_until_cancelled(shaking).await else {
        return entrance.made_way(peer);
    };
    let Some(Some((stream, spoken))) = shaken else { return };
    place.past_handshake();
    match spoken {
        Spoken::Clients(end_point) => {
            let pipe = Pipe::new(channel(stream, end_point), deadline);
            entrance.let_in(pipe, peer, place, deadline);
        }
        Spoken::Links => {
            let pipe = Pipe::new(channel(stream, None), deadline);
            let accepted = entrance.peers.accept(pipe, peer, place, deadline, &entrance.complaints);
            Box::pin(accepted).await;
        }
        Spoken::Web => entrance.let_in_by_web(channel(stream, None), peer, place, deadline),
        // Who does not say what it speaks is not spoken to.
        Spoken::Nothing => {
            let mut stream = stream;
            let _ = tokio::time::timeout_at(deadline, stream.shutdown()).await;
        }
    }
}

/// What is spoken behind a handshake.
enum Spoken {
    /// The protocol, with a client that was shown this end point.
    Clients(Option<EndPoint>),
    /// That of links.
    Links,
    /// HTTP.
    Web,
    /// The other side has named none of them.
    Nothing,
}

impl Spoken {
    /// As TLS has chosen it. Who calls a name of the web need not say what it speaks.
    fn behind(session: &ServerConnection, tls: &Configurations) -> Spoken {
        let called = session.server_name();
        match session.alpn_protocol() {
            Some(impp_protocol::ALPN_CLIENT) => {
                let called = called.and_then(|name| Domain::parse(name).ok());
                Spoken::Clients(called.and_then(|called| tls.end_points.get(&called).copied()))
            }
            Some(impp_protocol::ALPN_LINK) => Spoken::Links,
            Some(ALPN_WEB) => Spoken::Web,
            None if tls.web.as_ref().is_some_and(|web| web.is_called(called)) => Spoken::Web,
            _ => Spoken::Nothing,
        }
    }
}

/// TLS with whoever connects, if it comes about in time, and what is spoken behind it.
async fn shake(
    entrance: &Entrance,
    stream: TcpStream,
    peer: IpAddr,
    deadline: Instant,
) -> Option<(TlsStream<Gate>, Spoken)> {
    let tls = entrance.settings.load_full().tls.clone()?;
    let shaking = handshake(entrance, tls.clone(), Gate::new(stream), peer);
    let (error, socket) = match tokio::time::timeout_at(deadline, shaking).await.ok()? {
        Ok(stream) => {
            let spoken = Spoken::behind(stream.get_ref().1, &tls);
            return Some((stream, spoken));
        }
        Err(failed) => failed,
    };
    if let Some(mut socket) = socket {
        let _ = tokio::time::timeout_at(deadline, socket.shutdown()).await;
    }
    if entrance.complaints.may_complain(peer, entrance.clock.now()) {
        tracing::info!(%peer, %error, "no TLS connection");
    }
    None
}

/// The handshake itself. If it fails, in words why, and the socket.
async fn handshake(
    entrance: &Entrance,
    tls: Arc<Configurations>,
    socket: Gate,
    peer: IpAddr,
) -> Result<TlsStream<Gate>, (String, Option<Gate>)> {
    let mut acceptor = LazyConfigAcceptor::new(Acceptor::default(), socket);
    let hello = match (&mut acceptor).await {
        Ok(hello) => hello,
        Err(error) => return Err((error.to_string(), acceptor.take_io())),
    };
    // What comes now costs us more than them. Who has said nothing takes nobody's turn.
    let per_second = entrance.settings.load().limits.handshakes_per_second;
    entrance.turns.turn(peer, per_second).await;
    let chosen = choose(&tls, &hello.client_hello());
    let is_link = tls.links.as_ref().is_some_and(|links| Arc::ptr_eq(links, &chosen));
    hello.into_stream(chosen).into_fallible().await.map_err(|(error, socket)| {
        let words =
            if is_link { HandshakeError::of_io(&error).to_string() } else { error.to_string() };
        (words, Some(socket))
    })
}

/// Links for who speaks only those, if there are any; HTTP for who speaks that, or does not say what it
/// speaks, and calls a name of the web. Whatever else is offered, the configuration for clients takes or
/// refuses.
fn choose(tls: &Configurations, hello: &ClientHello<'_>) -> Arc<ServerConfig> {
    let offers = |name: &[u8]| hello.alpn().is_some_and(|mut offered| offered.any(|o| o == name));
    let may_be_web = || hello.alpn().is_none() || offers(ALPN_WEB);
    match (&tls.links, &tls.web) {
        _ if offers(impp_protocol::ALPN_CLIENT) => tls.clients.clone(),
        (Some(links), _) if offers(impp_protocol::ALPN_LINK) => links.clone(),
        (_, Some(web)) if may_be_web() && web.is_called(hello.server_name()) => web.config.clone(),
        _ => tls.clients.clone(),
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn ipv6_is_bound_alone_only_beside_ipv4_on_the_same_port() {
        for (address, other, alone) in [
            ("[::]:2778", "0.0.0.0:2778", true),
            ("[::]:2778", "127.0.0.1:2778", true),
            ("[::]:2778", "0.0.0.0:2779", false),
            ("[::]:2778", "[::1]:2778", false),
            ("[::1]:2778", "0.0.0.0:2778", false),
            ("0.0.0.0:2778", "[::]:2778", false),
            ("[::]:0", "0.0.0.0:0", false),
        ] {
            let all = [other, address].map(|text| text.parse().unwrap());
            assert_eq!(leaves_ipv4(all[1], &all), alone, "{address} beside {other}");
        }
    }
}
