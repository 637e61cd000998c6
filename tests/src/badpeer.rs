//! The server of another domain, as wrong as a play likes: a CA of its own that the servers under
//! test trust, certificates for any names, links dialled and accepted, frames of any kind.
//!
//! A [`BadPeer`] does nothing by itself, not even read; a [`Link`] answers PINGs and nothing else.

use std::collections::{HashMap, VecDeque};
use std::io;
use std::net::{IpAddr, SocketAddr};
use std::path::PathBuf;
use std::sync::Arc;
use std::time::Duration;

use bytes::BytesMut;
use impp_protocol::command::{Bye, ByeReason, Done, Hello, Message, Outcome};
use impp_protocol::{ALPN_LINK, Address, Code, Command, Error, Request};
use rustls::pki_types::pem::PemObject;
use rustls::pki_types::{CertificateDer, PrivateKeyDer};
use rustls::{ServerConfig, SupportedProtocolVersion};
use tokio::net::{TcpListener, TcpStream};
use tokio::task::JoinHandle;
use tokio_rustls::TlsAcceptor;

use crate::authority::{Authority, Certified};
use crate::domains::{Domains, own_address};
use crate::peer::{Answer, message};
use crate::server::Server;
use crate::wait::within;
use crate::wire::{Dial, Ending, Wire, bytes_of};

/// See the module.
#[derive(Debug)]
pub struct BadPeer {
    /// The domain that it is the server of.
    pub domain: String,
    /// Its CA.
    pub authority: Authority,
    /// What it presents, dialling and accepting.
    pub certified: Certified,
    /// The application protocols of which it chooses one, accepting.
    pub protocols: Vec<Vec<u8>>,
    /// The versions of TLS that it speaks, accepting.
    pub versions: &'static [&'static SupportedProtocolVersion],
    /// What it says of itself.
    pub hello: Hello,
    /// Where it listens.
    pub address: SocketAddr,
    listener: TcpListener,
    trust: PathBuf,
}

/// An open link, seen from the bad peer's end.
#[derive(Debug)]
pub struct Link {
    wire: Wire,
    /// What the server has said of itself.
    pub hello: Hello,
    next: u64,
    answers: HashMap<u64, Answer>,
    asked: VecDeque<Request>,
    bye: Option<Bye>,
}

impl BadPeer {
    /// The server of a domain, to which DNS leads; all servers trust its CA.
    pub async fn among(domains: &Domains, domain: &str) -> BadPeer {
        let peer = BadPeer::hidden(domains, domain).await;
        let host = format!("host.{domain}");
        for service in ["pres", "im"] {
            domains.dns.srv(domain, service, 0, 0, peer.address.port(), &host);
        }
        domains.dns.address_of(&host, peer.address.ip());
        domains.trust_also(&peer.authority.pem);
        peer
    }

    /// The same, of which DNS knows nothing, and whose CA nobody trusts.
    pub async fn hidden(domains: &Domains, domain: &str) -> BadPeer {
        let authority = Authority::new(&format!("CA of {domain}"));
        let certified = authority.issue(&[domain]);
        let listener = TcpListener::bind((IpAddr::from(own_address()), 0)).await.unwrap();
        let hello = Hello {
            features: vec!["pres".to_owned(), "im".to_owned()],
            domains: vec![domain.parse().unwrap()],
            requests_max: Some(64),
            instance: Some(*uuid::Uuid::new_v4().as_bytes()),
            boot: Some(*uuid::Uuid::new_v4().as_bytes()),
            ..Hello::empty()
        };
        BadPeer {
            domain: domain.to_owned(),
            authority,
            certified,
            protocols: vec![ALPN_LINK.to_vec()],
            versions: rustls::ALL_VERSIONS,
            hello,
            address: listener.local_addr().unwrap(),
            listener,
            trust: domains.trust().into(),
        }
    }

    /// How it dials a server.
    pub fn dial(&self, server: &Server) -> Dial {
        Dial::new(server.address(), &self.trust)
            .calling(server.domain())
            .alpn(&[ALPN_LINK])
            .presenting(&self.certified.certificate, &self.certified.key)
    }

    /// Dials a server, and opens a link.
    pub async fn call(&self, server: &Server) -> Link {
        let mut wire = self.dial(server).connect().await.expect("a connection");
        wire.send(0, self.hello.clone()).await;
        let hello = wire.hello().await;
        Link::open(wire, hello)
    }

    /// Dials a server, says something instead of HELLO, and reads to the end.
    pub async fn call_saying(&self, server: &Server, bytes: &[u8]) -> Ending {
        let mut wire = self.dial(server).connect().await.expect("a connection");
        wire.write(bytes).await;
        wire.ending().await
    }

    /// The same with a HELLO.
    pub async fn call_with(&self, server: &Server, hello: &Hello) -> Ending {
        self.call_saying(server, &bytes_of(0, hello.clone())).await
    }

    /// The next TCP connection that a server makes to it.
    pub async fn accept_tcp(&self) -> TcpStream {
        let accepted = within("a TCP connection from the server", self.listener.accept());
        let (stream, _) = accepted.await.unwrap();
        stream.set_nodelay(true).unwrap();
        stream
    }

    /// The next connection, and TLS on it.
    ///
    /// # Errors
    /// What the server did not like.
    pub async fn accept_tls(&self) -> io::Result<Wire> {
        let stream = self.accept_tcp().await;
        let stream = within("TLS", TlsAcceptor::from(self.acceptor()).accept(stream)).await?;
        Ok(Wire::over(stream))
    }

    /// The next link that a server opens.
    pub async fn accept(&self) -> Link {
        self.accept_as(&self.hello).await
    }

    /// The next link that a server opens, answered by another HELLO.
    pub async fn accept_as(&self, hello: &Hello) -> Link {
        let mut wire = self.accept_tls().await.expect("a server that trusts us");
        let called = wire.hello().await;
        wire.send(0, hello.clone()).await;
        Link::open(wire, called)
    }

    /// The next link that a server opens, or none if it ends the connection before its HELLO.
    pub async fn try_accept(&self) -> Option<Link> {
        // What it does not like is told in TLS's last flight, or by what is read next.
        let mut wire = self.accept_tls().await.ok()?;
        let request = Request::decode(wire.frame().await?).expect("a server's frame");
        let Command::Hello(called) = request.command else { panic!("{request:?} and no HELLO") };
        wire.send(0, self.hello.clone()).await;
        Some(Link::open(wire, called))
    }

    /// Behaves well from now on: takes every message on every link that a server opens.
    pub fn be_good(self) -> JoinHandle<()> {
        tokio::spawn(async move {
            loop {
                let mut link = self.accept().await;
                tokio::spawn(async move {
                    while let Some((number, _)) = link.try_message().await {
                        link.take(number).await;
                    }
                });
            }
        })
    }

    /// Whether a server lets it through TLS.
    pub async fn is_trusted(&self, server: &Server) -> bool {
        let Ok(mut wire) = self.dial(server).connect().await else { return false };
        wire.send(0, self.hello.clone()).await;
        wire.frame().await.is_some()
    }

    /// The address of somebody in its domain.
    pub fn account(&self, name: &str) -> Address {
        format!("{name}@{}", self.domain).parse().unwrap()
    }

    /// A message from somebody in its domain, as a link carries it.
    pub fn message(&self, from: &str, to: &str, text: &str) -> Message {
        Message { from: Some(self.account(from)), hops: Some(8), ..message(to, text) }
    }

    fn acceptor(&self) -> Arc<ServerConfig> {
        let Certified { certificate, key } = &self.certified;
        let chain: Result<_, _> = CertificateDer::pem_slice_iter(certificate.as_bytes()).collect();
        let key = PrivateKeyDer::from_pem_slice(key.as_bytes()).unwrap();
        let provider = Arc::new(rustls::crypto::aws_lc_rs::default_provider());
        let mut config = ServerConfig::builder_with_provider(provider)
            .with_protocol_versions(self.versions)
            .unwrap()
            .with_no_client_auth()
            .with_single_cert(chain.unwrap(), key)
            .unwrap();
        config.alpn_protocols = self.protocols.clone();
        Arc::new(config)
    }
}

/// That somebody has another address now.
pub fn moved(to: &str) -> Error {
    Error { address: Some(to.parse().unwrap()), ..Error::new(Code::Moved, "elsewhere") }
}

impl Link {
    /// After the HELLOs.
    pub fn open(wire: Wire, hello: Hello) -> Link {
        Link { wire, hello, next: 1, answers: HashMap::new(), asked: VecDeque::new(), bye: None }
    }

    /// Asks, and does not wait for the answer.
    pub async fn ask(&mut self, command: impl Into<Command>) -> u64 {
        let number = self.next;
        self.next += 1;
        self.wire.send(number, command).await;
        number
    }

    /// The answer to a request, which the connection must not end before.
    pub async fn answer(&mut self, number: u64) -> Answer {
        loop {
            if let Some(answer) = self.answers.remove(&number) {
                return answer;
            }
            assert!(self.read().await.is_some(), "the link ended before the answer to {number}");
        }
    }

    /// Asks, and waits for the answer.
    pub async fn request(&mut self, command: impl Into<Command>) -> Answer {
        let number = self.ask(command).await;
        self.answer(number).await
    }

    /// Asks to take a message, which has to be taken.
    pub async fn deliver(&mut self, message: Message) -> Outcome {
        let done = self.request(message).await.expect("a message that is taken");
        done.outcome.expect("an outcome")
    }

    /// Asks for what has to be refused: the ERROR's code.
    pub async fn refused(&mut self, command: impl Into<Command>) -> Code {
        match self.request(command).await {
            Ok(done) => panic!("answered {done:?}"),
            Err(error) => error.code,
        }
    }

    /// The next request of the server, or none if the link ends before. PINGs are answered.
    pub async fn try_asked(&mut self) -> Option<Request> {
        loop {
            if let Some(request) = self.asked.pop_front() {
                return Some(request);
            }
            self.read().await?;
        }
    }

    /// The next message that the server asks to take, or none if the link ends before.
    pub async fn try_message(&mut self) -> Option<(u64, Message)> {
        loop {
            if let Request { number, command: Command::Message(message) } = self.try_asked().await?
            {
                return Some((number, message));
            }
        }
    }

    /// The next message that the server asks to take.
    pub async fn message(&mut self) -> (u64, Message) {
        self.try_message().await.expect("a message before the end of the link")
    }

    /// Whether a message has come by now, or comes within so long.
    pub async fn message_within(&mut self, wait: Duration) -> Option<(u64, Message)> {
        tokio::time::timeout(wait, self.try_message()).await.ok().flatten()
    }

    /// Answers that a message was taken.
    pub async fn take(&mut self, number: u64) {
        let done = Done { outcome: Some(Outcome::Delivered), ..Done::empty() };
        self.wire.send(number, done).await;
    }

    /// Answers that something was not done.
    pub async fn refuse(&mut self, number: u64, error: Error) {
        self.wire.send(number, error).await;
    }

    /// The BYE that the server says, which the connection must not end before.
    pub async fn bye(&mut self) -> Bye {
        loop {
            if let Some(bye) = self.bye.take() {
                return bye;
            }
            assert!(self.read().await.is_some(), "the link ended without BYE");
        }
    }

    /// Says BYE.
    pub async fn leave(&mut self, reason: ByeReason, retry_after: Option<Duration>) {
        self.wire.send(0, Bye { reason, text: None, retry_after, server: None }).await;
    }

    /// Reads to the end of the link, which the server has to close: how it ended.
    pub async fn ending(mut self) -> Ending {
        self.wire.ending().await
    }

    /// Ends the connection without a word.
    pub fn cut(self) {
        self.wire.cut(true);
    }

    /// The connection itself, and nothing else of the link.
    pub fn into_wire(self) -> Wire {
        self.wire
    }

    /// The connection itself.
    pub fn wire(&mut self) -> &mut Wire {
        &mut self.wire
    }

    /// Writes frames in one flight.
    pub async fn write(&mut self, frames: impl IntoIterator<Item = BytesMut>) {
        let flight: Vec<u8> = frames.into_iter().flatten().collect();
        self.wire.write(&flight).await;
    }

    async fn read(&mut self) -> Option<()> {
        let frame = self.wire.frame().await?;
        let Request { number, command } = Request::decode(frame).expect("a server's frame");
        match command {
            Command::Ok(done) => drop(self.answers.insert(number, Ok(done))),
            Command::Error(error) => drop(self.answers.insert(number, Err(error))),
            Command::Ping(_) => self.wire.send(number, Done::empty()).await,
            Command::Bye(bye) => self.bye = Some(bye),
            command => self.asked.push_back(Request { number, command }),
        }
        Some(())
    }
}
