//! Reaching another domain's server: finding it, TLS that proves it, HELLO.
//!
//! Where it is looked for is decided by `impp_locate`.

use std::collections::HashMap;
use std::net::SocketAddr;
use std::sync::{Arc, Mutex, PoisonError};

use impp_federation::queue::Cause;
use impp_locate::{AttemptError, NotReached, Service};
use impp_protocol::{Code, Domain, Error, Timestamp};
use impp_trust::{HandshakeError, speaks_links};
use rustls::ClientConfig;
use rustls::pki_types::ServerName;
use tokio::net::TcpStream;
use tokio::time::Instant;
use tokio_rustls::TlsConnector;
use tokio_rustls::client::TlsStream;

use super::opening::{self, Opened};
use super::peer::{Link, Peer};
use super::peers::Peers;
use super::words;
use crate::config::seconds;
use crate::host::Host;
use crate::wire::gate::Gate;
use crate::wire::pipe::Pipe;

/// Why there is no link.
#[derive(Debug)]
pub struct NotOpened {
    /// What is said of it.
    pub cause: Cause,
    /// Trying again is useless for now.
    pub definite: bool,
}

impl NotOpened {
    fn transient(code: Code, text: impl Into<String>) -> NotOpened {
        NotOpened { cause: Cause::here(code, text), definite: false }
    }
}

/// Dials a domain for a service, and enters the link.
///
/// # Errors
/// [`NotOpened`].
pub(super) async fn dial(
    host: &Arc<Host>,
    local: &Domain,
    remote: &Domain,
    service: Service,
) -> Result<(Arc<Peer>, Arc<Link>, Pipe), NotOpened> {
    let by = Instant::now() + seconds(host.settings.load().federation.dial_seconds);
    let calls = Calls { host, remote, made: Mutex::default() };
    let may_connect = |address| calls.may_connect(address);
    let attempt = |stream, address| connect(&calls, local, remote, stream, address, by);
    let reached = host.locator.reach_if(remote, service, by, &may_connect, attempt).await;
    let (pipe, opened) = reached.map_err(|error| not_opened(&error))?.value;
    if !opened.services.serve(service) {
        let word = service.word();
        let text = format!("the server of {remote} that was found does not serve {word}");
        opening::refuse(pipe, Error::new(Code::NotOffered, text.clone())).await;
        return Err(NotOpened::transient(Code::NotOffered, text));
    }
    match Peers::attach(host, local, remote, opened, true).await {
        Ok((peer, link)) => Ok((peer, link, pipe)),
        Err(error) => {
            let text = error.text.clone().unwrap_or_default();
            opening::refuse(pipe, error.clone()).await;
            Err(NotOpened::transient(error.code, text))
        }
    }
}

/// The connections of one try, each of which counts against its address until it has proven a
/// server.
struct Calls<'a> {
    host: &'a Arc<Host>,
    remote: &'a Domain,
    /// When each was made; a search connects to an address once.
    made: Mutex<HashMap<SocketAddr, Timestamp>>,
}

impl Calls<'_> {
    fn may_connect(&self, address: SocketAddr) -> Result<(), String> {
        let config = self.host.settings.load();
        // Where the operator says that a server is, no zone names somebody else.
        if config.route.iter().any(|route| route.domain == *self.remote) {
            return Ok(());
        }
        let most = config.federation.unproven_connects_per_minute as usize;
        let now = self.host.clock.now();
        let taken = self.host.peers.unproven().connect(now, self.remote, address, most);
        taken.map_err(|too_often| too_often.to_string())?;
        self.made.lock().unwrap_or_else(PoisonError::into_inner).insert(address, now);
        Ok(())
    }

    fn proven(&self, address: SocketAddr) {
        let made = self.made.lock().unwrap_or_else(PoisonError::into_inner).remove(&address);
        if let Some(made) = made {
            self.host.peers.unproven().proven(self.remote, address, made);
        }
    }
}

async fn connect(
    calls: &Calls<'_>,
    local: &Domain,
    remote: &Domain,
    stream: TcpStream,
    address: SocketAddr,
    by: Instant,
) -> Result<(Pipe, Opened), AttemptError> {
    let host = calls.host;
    let failed = |text: String| AttemptError::Failed(text);
    let tls = host.settings.load().tls.as_ref().and_then(|tls| tls.dial.get(local).cloned());
    let tls = tls.ok_or_else(|| failed(format!("{local} has no certificate for links")))?;
    let stream = match tokio::time::timeout_at(by, handshake(tls, remote, stream)).await {
        Ok(shaken) => shaken?,
        Err(_) => return Err(failed("no TLS within the time".to_owned())),
    };
    calls.proven(address);
    let mut pipe = Pipe::new(stream, by);
    match opening::call(host, &mut pipe, local, remote, by).await {
        Ok(opened) => Ok((pipe, opened)),
        Err(error) => {
            let told = match error.code {
                Code::Untrusted => AttemptError::Untrusted(error.to_string()),
                _ => AttemptError::Failed(error.to_string()),
            };
            opening::refuse(pipe, error).await;
            Err(told)
        }
    }
}

/// TLS with a server of `remote`, which it proves to be.
///
/// # Errors
/// [`AttemptError`], and whether it is that it did not prove it.
pub(crate) async fn handshake(
    tls: Arc<ClientConfig>,
    remote: &Domain,
    stream: TcpStream,
) -> Result<TlsStream<Gate>, AttemptError> {
    let failed = |text: String| AttemptError::Failed(text);
    let name = ServerName::try_from(remote.as_str().to_owned())
        .map_err(|_| failed(format!("{remote} is no name for TLS")))?;
    let _ = stream.set_nodelay(true);
    let connecting = TlsConnector::from(tls).connect(name, Gate::new(stream));
    let stream = connecting.await.map_err(|error| match HandshakeError::of_io(&error) {
        HandshakeError::Unproven(unproven) => AttemptError::Untrusted(unproven.to_string()),
        error => failed(error.to_string()),
    })?;
    speaks_links(stream.get_ref().1).map_err(|error| failed(error.to_string()))?;
    Ok(stream)
}

fn not_opened(error: &NotReached) -> NotOpened {
    let kind = error.kind;
    let cause = Cause::here(kind.code(), words::line(&error.text));
    NotOpened { cause, definite: kind.is_definite() }
}

/// The same as an error.
impl From<NotOpened> for Error {
    fn from(not: NotOpened) -> Error {
        Error::new(not.cause.code, not.cause.text.unwrap_or_default()).by(not.cause.by)
    }
}
