//! Whole TLS handshakes in memory, between configurations of links and odd ones.

use std::sync::Arc;

use impp_protocol::Domain;
use impp_trust::{HandshakeError, proves, speaks_links};
use rustls::client::Resumption;
use rustls::crypto::aws_lc_rs;
use rustls::pki_types::ServerName;
use rustls::sign::SingleCertAndKey;
use rustls::version::TLS12;
use rustls::{
    ClientConfig, ClientConnection, Connection, Error, RootCertStore, ServerConfig,
    ServerConnection,
};

use crate::certificates::{Authority, Presented, leaf};

/// What one end says to a certificate.
pub(crate) type Verdict = Result<(), HandshakeError>;

/// How a handshake ended for each side.
pub(crate) struct Ended {
    pub dialled: Result<ClientConnection, Error>,
    pub accepted: Result<ServerConnection, Error>,
}

impl Ended {
    pub(crate) fn dialled_links(&self) -> Verdict {
        let tls = self.dialled.as_ref().map_err(HandshakeError::of)?;
        speaks_links(tls)
    }

    pub(crate) fn accepted_links(&self) -> Verdict {
        let tls = self.accepted.as_ref().map_err(HandshakeError::of)?;
        speaks_links(tls)
    }
}

/// What a server that trusts `authority` says to `presented` when it calls `name`.
pub(crate) fn called(authority: &Authority, presented: &Presented, name: &str) -> Verdict {
    let friend = Authority::new("friend");
    let dial = authority.dial(&friend.issue(leaf("dialler.example")));
    shake(dial, friend.accept(presented), name).dialled_links()
}

/// What a server that trusts `authority` says to `presented` when it is called by it, which says
/// that it speaks for `name`.
pub(crate) fn calling(authority: &Authority, presented: &Presented, name: &str) -> Verdict {
    let friend = Authority::new("friend");
    let accept = authority.accept(&friend.issue(leaf("acceptor.example")));
    let ended = shake(friend.dial(presented), accept, "acceptor.example");
    ended.accepted_links()?;
    let accepted = ended.accepted.unwrap();
    let chain = accepted.peer_certificates().unwrap();
    Ok(proves(chain, &Domain::parse(name).unwrap())?)
}

/// Lets the two talk until neither has anything to say.
pub(crate) fn shake(dial: Arc<ClientConfig>, accept: Arc<ServerConfig>, name: &str) -> Ended {
    let name = ServerName::try_from(name.to_owned()).unwrap();
    let mut dialler: Connection = ClientConnection::new(dial, name).unwrap().into();
    let mut acceptor: Connection = ServerConnection::new(accept).unwrap().into();
    let (mut dialled, mut accepted) = (Ok(()), Ok(()));
    while dialler.wants_write() || acceptor.wants_write() {
        dialled = dialled.and(pass(&mut acceptor, &mut dialler));
        accepted = accepted.and(pass(&mut dialler, &mut acceptor));
    }
    let (Connection::Client(dialler), Connection::Server(acceptor)) = (dialler, acceptor) else {
        unreachable!()
    };
    assert!(dialled.is_err() || !dialler.is_handshaking());
    assert!(accepted.is_err() || !acceptor.is_handshaking());
    Ended { dialled: dialled.map(|()| dialler), accepted: accepted.map(|()| acceptor) }
}

fn pass(from: &mut Connection, to: &mut Connection) -> Result<(), Error> {
    let mut bytes = Vec::new();
    while from.wants_write() {
        from.write_tls(&mut bytes).unwrap();
    }
    let mut rest = &bytes[..];
    while !rest.is_empty() {
        to.read_tls(&mut rest).unwrap();
        to.process_new_packets()?;
    }
    Ok(())
}

/// One who presents a certificate and keeps the tickets that it gets.
pub(crate) fn keeping_tickets(authority: &Authority, presented: &Presented) -> Arc<ClientConfig> {
    let mut config = (*authority.dial(presented)).clone();
    config.resumption = Resumption::in_memory_sessions(8);
    Arc::new(config)
}

/// One who speaks TLS 1.2 only.
pub(crate) fn old_client(authority: &Authority, presented: &Presented) -> Arc<ClientConfig> {
    let mut config = ClientConfig::builder_with_provider(Arc::new(aws_lc_rs::default_provider()))
        .with_protocol_versions(&[&TLS12])
        .unwrap()
        .with_root_certificates(roots(authority))
        .with_client_cert_resolver(Arc::new(SingleCertAndKey::from(presented.key())));
    config.alpn_protocols = vec![impp_protocol::ALPN_LINK.to_vec()];
    Arc::new(config)
}

/// A server that speaks TLS 1.2 only.
pub(crate) fn old_server(presented: &Presented) -> Arc<ServerConfig> {
    let mut config = ServerConfig::builder_with_provider(Arc::new(aws_lc_rs::default_provider()))
        .with_protocol_versions(&[&TLS12])
        .unwrap()
        .with_no_client_auth()
        .with_cert_resolver(Arc::new(SingleCertAndKey::from(presented.key())));
    config.alpn_protocols = vec![impp_protocol::ALPN_LINK.to_vec()];
    Arc::new(config)
}

fn roots(authority: &Authority) -> RootCertStore {
    let mut roots = RootCertStore::empty();
    roots.add(authority.certificate.clone()).unwrap();
    roots
}
