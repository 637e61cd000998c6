//! A server that is no part of the project's tests' own harness: its folder, certificates and process.

use std::io::{self, BufRead, BufReader};
use std::net::{Ipv4Addr, SocketAddr};
use std::path::{Path, PathBuf};
use std::process::{Child, Command, Stdio};
use std::sync::Arc;

use impp_bench::usage;
use impp_tests::server::free_port;
use impp_tests::{Authority, DEADLINE};
use tempfile::TempDir;
use tokio::net::{TcpSocket, TcpStream};
use tokio::time::{Instant, sleep};
use tokio_rustls::rustls::pki_types::pem::PemObject;
use tokio_rustls::rustls::pki_types::{CertificateDer, ServerName};
use tokio_rustls::rustls::{self, ClientConfig, RootCertStore};
use tokio_rustls::{TlsConnector, TlsStream};

/// The name that its certificate is for.
pub(crate) const HOST: &str = "localhost";

/// Erlang takes no certificate that is good for millennia.
const GOOD_UNTIL: i32 = 2049;

/// See the module. It is killed when dropped, and when this program ends in whatever way.
pub(crate) struct Spawned {
    folder: TempDir,
    /// Where it listens.
    pub address: SocketAddr,
    roots: Arc<RootCertStore>,
    child: Option<Child>,
}

impl Spawned {
    /// A folder with a certificate for it, and an address; nothing runs yet.
    pub(crate) fn new() -> Spawned {
        let folder = tempfile::Builder::new().prefix("impp-load-").tempdir().unwrap();
        let authority = Authority::new("load");
        let certified = authority.issue_with(&[HOST], |params| {
            params.not_after = params.not_before.replace_year(GOOD_UNTIL).unwrap();
        });
        std::fs::write(folder.path().join("cert.pem"), certified.certificate).unwrap();
        std::fs::write(folder.path().join("key.pem"), certified.key).unwrap();
        let mut roots = RootCertStore::empty();
        roots.add(CertificateDer::from_pem_slice(authority.pem.as_bytes()).unwrap()).unwrap();
        let (roots, address) = (Arc::new(roots), free_port(Ipv4Addr::LOCALHOST));
        Spawned { folder, address, roots, child: None }
    }

    /// Its folder.
    pub(crate) fn folder(&self) -> &Path {
        self.folder.path()
    }

    /// A file of it.
    pub(crate) fn file(&self, name: &str) -> PathBuf {
        self.folder().join(name)
    }

    /// Writes a configuration with the folder and the port in it: where it is.
    pub(crate) fn configured(&self, name: &str, text: &str) -> String {
        let folder = self.folder().display().to_string();
        let text = text.replace("@FOLDER@", &folder);
        let text = text.replace("@PORT@", &self.address.port().to_string());
        std::fs::write(self.file(name), text).unwrap();
        self.file(name).display().to_string()
    }

    /// Starts it on the first processor.
    pub(crate) fn run(&mut self, program: &Path, arguments: &[String]) {
        let child = Command::new("setpriv")
            .args(["--pdeathsig", "KILL", "taskset", "-c", "0"])
            .arg(program)
            .args(arguments)
            .current_dir(self.folder())
            // Where Debian has what ejabberd is made of; nobody else looks at it.
            .env("ERL_LIBS", "/usr/lib/x86_64-linux-gnu")
            .stdin(Stdio::null())
            .stdout(Stdio::piped())
            .stderr(Stdio::null())
            .spawn();
        let mut child =
            child.unwrap_or_else(|error| panic!("setpriv taskset {program:?}: {error}"));
        let lines = BufReader::new(child.stdout.take().unwrap()).lines();
        std::thread::spawn(move || lines.for_each(drop));
        self.child = Some(child);
    }

    /// Waits until it accepts connections.
    pub(crate) async fn ready(&mut self) {
        let deadline = Instant::now() + DEADLINE;
        while self.tcp(None).await.is_err() {
            let ended = self.child.as_mut().unwrap().try_wait().unwrap();
            assert!(ended.is_none(), "the server has ended: {ended:?}");
            assert!(Instant::now() < deadline, "the server does not listen");
            sleep(std::time::Duration::from_millis(20)).await;
        }
    }

    /// Its processes.
    pub(crate) fn processes(&self) -> Vec<u32> {
        usage::family(self.child.as_ref().unwrap().id())
    }

    /// A TCP connection, from some address.
    pub(crate) async fn tcp(&self, source: Option<Ipv4Addr>) -> io::Result<TcpStream> {
        let socket = TcpSocket::new_v4()?;
        if let Some(source) = source {
            socket.bind((source, 0).into())?;
        }
        let tcp = socket.connect(self.address).await?;
        tcp.set_nodelay(true)?;
        Ok(tcp)
    }

    /// TLS over it, with a full handshake.
    pub(crate) async fn tls(&self, tcp: TcpStream) -> io::Result<TlsStream<TcpStream>> {
        let provider = Arc::new(rustls::crypto::aws_lc_rs::default_provider());
        let config = ClientConfig::builder_with_provider(provider)
            .with_safe_default_protocol_versions()
            .unwrap()
            .with_root_certificates(self.roots.clone())
            .with_no_client_auth();
        let name = ServerName::try_from(HOST).unwrap();
        let connector = TlsConnector::from(Arc::new(config));
        Ok(TlsStream::Client(connector.connect(name, tcp).await?))
    }
}

impl Drop for Spawned {
    fn drop(&mut self) {
        if let Some(child) = &mut self.child {
            let _ = child.kill();
            let _ = child.wait();
        }
    }
}

/// Connections of many come from several addresses, as each has so many ports only.
pub(crate) fn source(who: usize) -> Ipv4Addr {
    const SOURCES: usize = 16;
    Ipv4Addr::new(127, 0, 1, 1 + (who % SOURCES) as u8)
}
