//! Who gets through TLS to a link, before a word is said on it: the listener tells links from
//! clients by the ClientHello, and keeps apart what each may resume.

use std::io;
use std::net::SocketAddr;
use std::path::Path;
use std::sync::Arc;

use impp_protocol::{ALPN_CLIENT, ALPN_LINK};
use impp_tests::authority::{Authority, Certified};
use impp_tests::server::{Process, Server, imppd};
use impp_tests::wait::within;
use impp_tests::wire::Dial;
use rustls::pki_types::pem::PemObject;
use rustls::pki_types::{CertificateDer, PrivateKeyDer, ServerName};
use rustls::{AlertDescription, ClientConfig, HandshakeKind, RootCertStore};
use tempfile::TempDir;
use tokio::io::{AsyncReadExt, AsyncWriteExt};
use tokio::net::TcpStream;
use tokio_rustls::TlsConnector;

/// An `imppd` that hosts a.net.example and trusts one CA on links.
struct Host {
    folder: TempDir,
    process: Process,
    address: SocketAddr,
    authority: Authority,
}

impl Host {
    fn start(certified_as: &str, federation: &str) -> Host {
        let authority = Authority::new("root");
        let folder = tempfile::Builder::new().prefix("impp-").tempdir().unwrap();
        let Certified { certificate, key } = authority.issue(&[certified_as]);
        let config = format!(
            "[server]\nlisten = [\"127.0.0.1:0\"]\n[[domain]]\nname = \"a.net.example\"\n\
             certificate = \"a.pem\"\nkey = \"a.key\"\n[limits]\nsign_in_seconds = 2\n\
             [federation]\nca = \"ca.pem\"\n{federation}\n"
        );
        for (name, text) in [
            ("ca.pem", &authority.pem),
            ("a.pem", &certificate),
            ("a.key", &key),
            ("imppd.toml", &config),
        ] {
            write_private(&folder.path().join(name), text);
        }
        let path = folder.path().join("imppd.toml");
        let process = Process::spawn(&["serve".as_ref(), "--config".as_ref(), path.as_ref()]);
        let line = process.line();
        let address = line.strip_prefix("ready: a.net.example on ").unwrap().parse().unwrap();
        Host { folder, process, address, authority }
    }

    /// A TLS client that presents a certificate, or none.
    fn dialler(&self, presented: Option<Certified>) -> ClientConfig {
        let mut roots = RootCertStore::empty();
        roots.add(CertificateDer::from_pem_slice(self.authority.pem.as_bytes()).unwrap()).unwrap();
        let provider = Arc::new(rustls::crypto::aws_lc_rs::default_provider());
        let builder = ClientConfig::builder_with_provider(provider)
            .with_protocol_versions(rustls::ALL_VERSIONS)
            .unwrap()
            .with_root_certificates(roots);
        let mut config = match presented {
            None => builder.with_no_client_auth(),
            Some(Certified { certificate, key }) => {
                let chain = vec![CertificateDer::from_pem_slice(certificate.as_bytes()).unwrap()];
                let key = PrivateKeyDer::from_pem_slice(key.as_bytes()).unwrap();
                builder.with_client_auth_cert(chain, key).unwrap()
            }
        };
        config.alpn_protocols = vec![ALPN_LINK.to_vec()];
        config
    }

    /// Connects, says something, and reads until the other side has had enough: how the handshake
    /// went, or the alert. What is said is no frame, so that the other side does not wait long.
    async fn enter(&self, config: &ClientConfig) -> Result<Entered, AlertDescription> {
        let enter = async {
            let tcp = TcpStream::connect(self.address).await?;
            let name = ServerName::try_from("a.net.example").unwrap();
            let connector = TlsConnector::from(Arc::new(config.clone()));
            let mut stream = connector.connect(name, tcp).await?;
            let _ = stream.write_all(&[0xff; 16]).await;
            let _ = stream.flush().await;
            let mut read = Vec::new();
            // The other side may close without reading all that was said.
            if let Err(error) = stream.read_to_end(&mut read).await
                && error.get_ref().is_some_and(|inner| inner.is::<rustls::Error>())
            {
                return Err(error);
            }
            let tls = stream.get_ref().1;
            Ok(Entered {
                kind: tls.handshake_kind().unwrap(),
                tickets: tls.tls13_tickets_received(),
                protocol: tls.alpn_protocol().map(<[u8]>::to_vec),
            })
        };
        within("a link's TLS", enter).await.map_err(|error| alert(&error))
    }
}

#[derive(Debug, PartialEq)]
struct Entered {
    kind: HandshakeKind,
    tickets: u32,
    protocol: Option<Vec<u8>>,
}

fn link() -> Entered {
    Entered { kind: HandshakeKind::Full, tickets: 0, protocol: Some(ALPN_LINK.to_vec()) }
}

fn alert(error: &io::Error) -> AlertDescription {
    match error.get_ref().and_then(|inner| inner.downcast_ref::<rustls::Error>()) {
        Some(rustls::Error::AlertReceived(alert)) => *alert,
        other => panic!("no alert: {error}: {other:?}"),
    }
}

fn write_private(path: &Path, text: &str) {
    use std::os::unix::fs::PermissionsExt;
    std::fs::write(path, text).unwrap();
    std::fs::set_permissions(path, PermissionsExt::from_mode(0o600)).unwrap();
}

/// The certificate of who connects is asked for, and one of a trusted CA let through.
#[tokio::test]
async fn f2_a_link_needs_a_certificate_of_a_trusted_ca() {
    let host = Host::start("a.net.example", "");
    let dialler = host.dialler(Some(host.authority.issue(&["b.example"])));
    assert_eq!(host.enter(&dialler).await, Ok(link()));
    let stranger = Authority::new("stranger").issue(&["b.example"]);
    let dialler = host.dialler(Some(stranger));
    assert_eq!(host.enter(&dialler).await, Err(AlertDescription::UnknownCA));
    let dialler = host.dialler(None);
    assert_eq!(host.enter(&dialler).await, Err(AlertDescription::CertificateRequired));
}

/// Neither a client's ticket nor one of a link opens the other; links resume nothing at all.
#[tokio::test]
async fn c12_a_clients_ticket_is_worth_nothing_on_a_link() {
    let host = Host::start("a.net.example", "");
    let mut client = host.dialler(Some(host.authority.issue(&["b.example"])));
    client.alpn_protocols = vec![ALPN_CLIENT.to_vec()];
    let entered = host.enter(&client).await.unwrap();
    // One for the link, one for the client itself: each is used once.
    assert_eq!(entered.tickets, 2);
    // The same store of tickets, offered where only links are spoken.
    let mut dialler = client.clone();
    dialler.alpn_protocols = vec![ALPN_LINK.to_vec()];
    assert_eq!(host.enter(&dialler).await, Ok(link()));
    let resumed = host.enter(&client).await.unwrap();
    assert_eq!(resumed.kind, HandshakeKind::Resumed);
    // One that presents no certificate gets no further with a ticket than without.
    let mut client = host.dialler(None);
    client.alpn_protocols = vec![ALPN_CLIENT.to_vec()];
    host.enter(&client).await.unwrap();
    client.alpn_protocols = vec![ALPN_LINK.to_vec()];
    assert_eq!(host.enter(&client).await, Err(AlertDescription::CertificateRequired));
}

/// Who offers both is a client; what is neither, or old, is refused.
#[tokio::test]
async fn f15_links_and_clients_are_told_apart_by_alpn_and_nothing_is_older_than_1_3() {
    let host = Host::start("a.net.example", "");
    let mut dialler = host.dialler(Some(host.authority.issue(&["b.example"])));
    dialler.alpn_protocols = vec![ALPN_LINK.to_vec(), ALPN_CLIENT.to_vec()];
    let entered = host.enter(&dialler).await.unwrap();
    assert_eq!(entered.protocol.as_deref(), Some(ALPN_CLIENT));
    dialler.alpn_protocols = vec![b"impp-s2s/2".to_vec()];
    let refused = Err(AlertDescription::NoApplicationProtocol);
    assert_eq!(host.enter(&dialler).await, refused);
    dialler.alpn_protocols.clear();
    assert_eq!(host.enter(&dialler).await.unwrap().protocol, None);
    let dial = Dial::new(host.address, &host.folder.path().join("ca.pem"));
    let error = dial.tls12().alpn(&[ALPN_LINK]).connect().await.unwrap_err();
    assert_eq!(alert(&error), AlertDescription::ProtocolVersion);
}

/// Who has switched it off, or hosts no domain that has links, offers none.
#[tokio::test]
async fn f15_where_no_links_are_served_none_are_offered() {
    let host = Host::start("a.net.example", "enabled = false");
    let dialler = host.dialler(Some(host.authority.issue(&["b.example"])));
    let refused = Err(AlertDescription::NoApplicationProtocol);
    assert_eq!(host.enter(&dialler).await, refused);
    let server = Server::quickstart();
    let error = Dial::to(&server).alpn(&[ALPN_LINK]).connect().await.unwrap_err();
    assert_eq!(Err::<Entered, _>(alert(&error)), refused);
}

/// A reload brings other CAs into force, or leaves all as it was.
#[tokio::test]
async fn i1_a_reload_takes_other_cas_for_links_or_changes_nothing() {
    let host = Host::start("a.net.example", "");
    let config = host.folder.path().join("imppd.toml");
    let reload = || {
        let output = imppd(&["reload", "--config", config.to_str().unwrap()]);
        (output.status.code(), String::from_utf8(output.stderr).unwrap())
    };
    let other = Authority::new("another");
    let (known, strange) = (host.authority.issue(&["b.example"]), other.issue(&["b.example"]));
    let (known, strange) = (host.dialler(Some(known)), host.dialler(Some(strange)));
    let (ca, refused) = (host.folder.path().join("ca.pem"), Err(AlertDescription::UnknownCA));
    write_private(&ca, "nothing\n");
    let (code, words) = reload();
    assert_eq!(code, Some(2));
    assert!(words.contains("ca.pem: holds no certificate"), "{words}");
    assert_eq!(host.enter(&known).await, Ok(link()));
    assert_eq!(host.enter(&strange).await, refused);
    write_private(&ca, &other.pem);
    assert_eq!(reload(), (Some(0), String::new()));
    assert_eq!(host.enter(&known).await, refused);
    assert_eq!(host.enter(&strange).await, Ok(link()));
}

/// A certificate that is good for clients but not for other servers is warned of.
#[tokio::test]
async fn i1_a_certificate_that_other_domains_will_refuse_is_told() {
    let host = Host::start("*.net.example", "");
    let config = host.folder.path().join("imppd.toml");
    let output = imppd(&["check", "--config", config.to_str().unwrap()]);
    let told = String::from_utf8(output.stdout).unwrap();
    let words =
        "other domains will refuse it: the certificate is for *.net.example; not for a.net.example";
    assert!(told.contains(words), "{told}");
    assert_eq!(output.status.code(), Some(0));
    host.process.stop();
}
