//! One TLS connection to a server, as bytes and as frames. Nothing is checked or added, so that a
//! play can be as wrong as it likes.
//!
//! Signing in, and requests with their answers, are left to `peer`.

use std::io;
use std::net::{Ipv4Addr, SocketAddr};
use std::path::Path;
use std::sync::Arc;

use bytes::BytesMut;
use impp_protocol::command::{Bye, Hello};
use impp_protocol::frame::{self, FRAME_BYTES_MAX, Frame};
use impp_protocol::sasl::scram::{EXPORTER_BYTES, EXPORTER_LABEL, Exporter};
use impp_protocol::{ALPN_CLIENT, Code, Command, Error, Request, varint};
use rustls::pki_types::pem::PemObject;
use rustls::pki_types::{CertificateDer, PrivateKeyDer, ServerName};
use rustls::{ClientConfig, RootCertStore};
use tokio::io::{AsyncReadExt, AsyncWriteExt};
use tokio::net::{TcpSocket, TcpStream};
use tokio_rustls::{TlsConnector, TlsStream};

use crate::server::{DOMAIN, Server};
use crate::wait::within;

/// How to connect; see [`Wire::dial`].
#[derive(Clone, Debug)]
pub struct Dial {
    address: SocketAddr,
    domain: String,
    source: Option<Ipv4Addr>,
    /// What is said before TLS.
    before: Vec<u8>,
    receive_buffer: Option<u32>,
    roots: RootCertStore,
    config: ClientConfig,
}

/// See the module.
#[derive(Debug)]
pub struct Wire {
    stream: TlsStream<TcpStream>,
    input: BytesMut,
    chunk: usize,
}

/// How a connection ended, and what came before.
#[derive(Debug)]
pub struct Ending {
    /// ERROR frames and their request numbers.
    pub errors: Vec<(u64, Error)>,
    /// The BYE, if one came.
    pub bye: Option<Bye>,
    /// All else.
    pub others: Vec<Request>,
    /// The peer said in TLS that it closes (close_notify), and had not to be guessed.
    pub clean: bool,
}

impl Dial {
    /// To the server, trusting its certificates.
    pub fn to(server: &Server) -> Dial {
        let domain = server.domain().to_owned();
        Dial { domain, ..Dial::new(server.address(), &server.trust()) }
    }

    /// To any address, trusting the certificates in a PEM file.
    pub fn new(address: SocketAddr, trust: &Path) -> Dial {
        let mut roots = RootCertStore::empty();
        for certificate in CertificateDer::pem_file_iter(trust).unwrap() {
            roots.add(certificate.unwrap()).unwrap();
        }
        let config = Dial::client(rustls::ALL_VERSIONS, roots.clone());
        Dial {
            address,
            domain: DOMAIN.to_owned(),
            source: None,
            before: Vec::new(),
            receive_buffer: None,
            roots,
            config,
        }
    }

    fn client(
        versions: &[&'static rustls::SupportedProtocolVersion],
        roots: RootCertStore,
    ) -> ClientConfig {
        let provider = Arc::new(rustls::crypto::aws_lc_rs::default_provider());
        let mut config = ClientConfig::builder_with_provider(provider)
            .with_protocol_versions(versions)
            .unwrap()
            .with_root_certificates(roots)
            .with_no_client_auth();
        config.alpn_protocols = vec![ALPN_CLIENT.to_vec()];
        config
    }

    /// From this address of the machine.
    #[must_use]
    pub fn from(mut self, source: Ipv4Addr) -> Dial {
        self.source = Some(source);
        self
    }

    /// Saying this before anything else.
    #[must_use]
    pub fn before(mut self, bytes: &[u8]) -> Dial {
        self.before = bytes.to_vec();
        self
    }

    /// With so small a buffer in the system for what comes: a reader that stops is felt soon.
    #[must_use]
    pub fn receive_buffer(mut self, bytes: u32) -> Dial {
        self.receive_buffer = Some(bytes);
        self
    }

    /// Offering these application protocols.
    #[must_use]
    pub fn alpn(mut self, protocols: &[&[u8]]) -> Dial {
        self.config.alpn_protocols = protocols.iter().map(|name| name.to_vec()).collect();
        self
    }

    /// Calling this domain, whatever the address is.
    #[must_use]
    pub fn calling(mut self, domain: &str) -> Dial {
        self.domain = domain.to_owned();
        self
    }

    /// Presenting a certificate, with its key.
    #[must_use]
    pub fn presenting(mut self, certificate: &str, key: &str) -> Dial {
        let chain: Result<_, _> = CertificateDer::pem_slice_iter(certificate.as_bytes()).collect();
        let key = PrivateKeyDer::from_pem_slice(key.as_bytes()).unwrap();
        let provider = self.config.crypto_provider().clone();
        let mut config = ClientConfig::builder_with_provider(provider)
            .with_protocol_versions(rustls::ALL_VERSIONS)
            .unwrap()
            .with_root_certificates(self.roots.clone())
            .with_client_auth_cert(chain.unwrap(), key)
            .unwrap();
        config.alpn_protocols = self.config.alpn_protocols;
        self.config = config;
        self
    }

    /// Speaking no TLS newer than 1.2.
    #[must_use]
    pub fn tls12(mut self) -> Dial {
        self.config = Dial::client(&[&rustls::version::TLS12], self.roots.clone());
        self
    }

    /// The TCP connection alone.
    ///
    /// # Errors
    /// The system's.
    pub async fn tcp(&self) -> io::Result<TcpStream> {
        let socket = match self.address.is_ipv4() {
            true => TcpSocket::new_v4()?,
            false => TcpSocket::new_v6()?,
        };
        if let Some(source) = self.source {
            socket.bind((source, 0).into())?;
        }
        if let Some(bytes) = self.receive_buffer {
            socket.set_recv_buffer_size(bytes)?;
        }
        let mut stream = within("a TCP connection", socket.connect(self.address)).await?;
        stream.write_all(&self.before).await?;
        Ok(stream)
    }

    /// The first flight of TLS, for whoever writes it himself.
    pub fn client_hello(&self) -> Vec<u8> {
        let name = ServerName::try_from(self.domain.clone()).unwrap();
        let config = Arc::new(self.config.clone());
        let mut tls = rustls::ClientConnection::new(config, name).unwrap();
        let mut flight = Vec::new();
        tls.write_tls(&mut flight).unwrap();
        flight
    }

    /// The whole connection.
    ///
    /// # Errors
    /// If the other side refuses it, or TLS fails.
    pub async fn connect(&self) -> io::Result<Wire> {
        let tcp = self.tcp().await?;
        tcp.set_nodelay(true)?;
        let connector = TlsConnector::from(Arc::new(self.config.clone()));
        let name = ServerName::try_from(self.domain.clone()).unwrap();
        let stream = within("a TLS handshake", connector.connect(name, tcp)).await?;
        Ok(Wire::over(stream))
    }
}

impl Wire {
    /// Over a TLS connection that is there, from either end.
    pub fn over(stream: impl Into<TlsStream<TcpStream>>) -> Wire {
        Wire { stream: stream.into(), input: BytesMut::new(), chunk: usize::MAX }
    }

    /// Connects as a client does.
    pub async fn dial(server: &Server) -> Wire {
        Dial::to(server).connect().await.unwrap()
    }

    /// Connects, and exchanges HELLOs.
    pub async fn greeted(server: &Server) -> (Wire, Hello) {
        let mut wire = Wire::dial(server).await;
        wire.send(0, hello()).await;
        let hello = wire.hello().await;
        (wire, hello)
    }

    /// From now on at most so many bytes go into one TLS record and one segment.
    #[must_use]
    pub fn in_chunks(mut self, bytes: usize) -> Wire {
        self.chunk = bytes;
        self
    }

    /// Says that what follows is encrypted by the next keys, and asks the other side for the same.
    ///
    /// # Errors
    /// The system's, as when the server has closed the connection.
    pub async fn update_keys(&mut self) -> io::Result<()> {
        let updated = match &mut self.stream {
            TlsStream::Client(stream) => stream.get_mut().1.refresh_traffic_keys(),
            TlsStream::Server(stream) => stream.get_mut().1.refresh_traffic_keys(),
        };
        updated.expect("keys can be updated behind the handshake");
        within("flushing", self.stream.flush()).await
    }

    /// The TLS connection.
    pub fn tls(&self) -> &rustls::CommonState {
        self.stream.get_ref().1
    }

    /// What binds a sign-in to this connection (RFC 9266).
    pub fn exporter(&self) -> Exporter {
        let export = [0; EXPORTER_BYTES];
        let (label, context) = (EXPORTER_LABEL, Some(&b""[..]));
        match &self.stream {
            TlsStream::Client(stream) => {
                stream.get_ref().1.export_keying_material(export, label, context).unwrap()
            }
            TlsStream::Server(stream) => {
                stream.get_ref().1.export_keying_material(export, label, context).unwrap()
            }
        }
    }

    /// Writes bytes as they are. What the server has closed takes none; the play sees that when it
    /// reads.
    pub async fn write(&mut self, bytes: &[u8]) {
        let _ = self.try_write(bytes).await;
    }

    /// Writes bytes as they are.
    ///
    /// # Errors
    /// The system's, as when the server has closed the connection.
    pub async fn try_write(&mut self, bytes: &[u8]) -> io::Result<()> {
        let writing = async {
            for chunk in bytes.chunks(self.chunk) {
                self.stream.write_all(chunk).await?;
                self.stream.flush().await?;
            }
            Ok(())
        };
        within("writing", writing).await
    }

    /// Writes one frame.
    pub async fn send(&mut self, number: u64, command: impl Into<Command>) {
        self.write(&bytes_of(number, command)).await;
    }

    /// The next frame, or none at the end of the connection, clean or not.
    pub async fn frame(&mut self) -> Option<Frame> {
        within("a frame", self.next_frame()).await.ok().flatten()
    }

    /// Some of the bytes that come next, at most so many; none at the end.
    pub async fn some(&mut self, max: usize) -> BytesMut {
        let mut buffer = vec![0; max];
        let read = within("bytes", self.stream.read(&mut buffer)).await.unwrap_or(0);
        BytesMut::from(&buffer[..read])
    }

    /// The next frame's meaning; the connection must not end before.
    pub async fn next(&mut self) -> Request {
        let frame = self.frame().await.expect("a frame, but the connection ended");
        Request::decode(frame).expect("a frame that a server may send")
    }

    /// The next frame's meaning.
    ///
    /// # Errors
    /// unreachable, if the connection ends before.
    pub async fn try_next(&mut self) -> Result<Request, Error> {
        let cut = || Error::new(Code::Unreachable, "the connection ended");
        let frame = self.frame().await.ok_or_else(cut)?;
        Ok(Request::decode(frame).expect("a frame that a server may send"))
    }

    /// The server's HELLO, which must come next.
    pub async fn hello(&mut self) -> Hello {
        match self.next().await {
            Request { number: 0, command: Command::Hello(hello) } => hello,
            other => panic!("expected the server's HELLO, got {other:?}"),
        }
    }

    /// Reads to the end of the connection.
    ///
    /// # Panics
    /// If the server does not close it.
    pub async fn ending(&mut self) -> Ending {
        let mut ending = Ending { errors: vec![], bye: None, others: vec![], clean: false };
        loop {
            let frame = match within("the end of the connection", self.next_frame()).await {
                Ok(Some(frame)) => frame,
                Ok(None) => return Ending { clean: true, ..ending },
                Err(_) => return ending,
            };
            match Request::decode(frame).expect("a frame that a server may send") {
                Request { number, command: Command::Error(error) } => {
                    ending.errors.push((number, error));
                }
                Request { command: Command::Bye(bye), .. } => ending.bye = Some(bye),
                other => ending.others.push(other),
            }
        }
    }

    /// The TLS stream, for whoever passes bytes on.
    pub fn into_stream(self) -> TlsStream<TcpStream> {
        self.stream
    }

    /// Ends the TCP connection at once, by a reset if `reset`, without a word in TLS.
    pub fn cut(self, reset: bool) {
        let tcp = match self.stream {
            TlsStream::Client(stream) => stream.into_inner().0,
            TlsStream::Server(stream) => stream.into_inner().0,
        };
        if reset {
            tcp.set_zero_linger().unwrap();
        }
    }

    async fn next_frame(&mut self) -> io::Result<Option<Frame>> {
        loop {
            match frame::take(&mut self.input, FRAME_BYTES_MAX) {
                Ok(Some(frame)) => return Ok(Some(frame)),
                Ok(None) => {}
                Err(error) => panic!("the server sent what is no frame: {error}"),
            }
            if self.stream.read_buf(&mut self.input).await? == 0 {
                assert!(self.input.is_empty(), "the server ended inside a frame");
                return Ok(None);
            }
        }
    }
}

impl Ending {
    /// The code of the one ERROR that came.
    pub fn code(&self) -> impp_protocol::Code {
        assert_eq!(self.errors.len(), 1, "one ERROR expected: {self:?}");
        self.errors[0].1.code
    }
}

/// The bytes of one frame.
pub fn bytes_of(number: u64, command: impl Into<Command>) -> BytesMut {
    let mut out = BytesMut::new();
    Request { number, command: command.into() }.put(&mut out).unwrap();
    out
}

/// The bytes of a frame with any kind and any fields.
pub fn raw_frame(kind: u8, number: u64, fields: &[u8]) -> BytesMut {
    let mut out = BytesMut::new();
    let fields = bytes::Bytes::copy_from_slice(fields);
    Frame { kind, request: number, fields }.put(&mut out).unwrap();
    out
}

/// The bytes of a field of octets, as [`raw_frame`] takes them.
pub fn octets(number: u64, value: &[u8]) -> Vec<u8> {
    let mut out = BytesMut::new();
    varint::put(number * 2 + 1, &mut out);
    varint::put(value.len() as u64, &mut out);
    out.extend_from_slice(value);
    out.to_vec()
}

/// The bytes of a field with a number.
pub fn integer(number: u64, value: u64) -> Vec<u8> {
    let mut out = BytesMut::new();
    varint::put(number * 2, &mut out);
    varint::put(value, &mut out);
    out.to_vec()
}

/// A client's HELLO.
pub fn hello() -> Hello {
    Hello::empty()
}
