//! Reaching another domain's server: finding it, TLS that proves it, HELLO.
//!
//! Where it is looked for is decided by `impp_locate`.

use std::collections::HashMap;
use std::net::SocketAddr;
use std::sync::Arc;

use impp_federation::queue::Cause;
use impp_federation::unproven::Unproven;
use impp_locate::{AttemptError, Locator, NotReached, Service};
use impp_protocol::{Code, Domain, Error, Timestamp};
use impp_trust::{HandshakeError, speaks_links};
use parking_lot::Mutex;
use rustls::ClientConfig;
use rustls::pki_types::ServerName;
use tokio::net::TcpStream;
use tokio::time::Instant;
use tokio_rustls::TlsConnector;
use tokio_rustls::client::TlsStream;

use super::opening::{self, Opened, Openings};
use super::words;
use crate::core::clock::Clock;
use crate::core::config::seconds;
use crate::core::ground::Ground;
use crate::core::routes::Routes;
use crate::core::settings::Settings;
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
    pub(super) fn transient(code: Code, text: impl Into<String>) -> NotOpened {
        NotOpened { cause: Cause::here(code, text), definite: false }
    }
}

/// What reaches other domains' servers.
pub struct Dialler {
    clock: Clock,
    settings: Arc<Settings>,
    routes: Arc<Routes>,
    locator: Arc<Locator>,
    pub(super) openings: Openings,
    /// Where connecting has led to nobody in the last while.
    unproven: Mutex<Unproven>,
}

/// The connections of one try, each of which counts against its address until it has proven a
/// server.
struct Calls<'a> {
    dialler: &'a Dialler,
    local: &'a Domain,
    remote: &'a Domain,
    by: Instant,
    /// When each was made; a search connects to an address once.
    made: Mutex<HashMap<SocketAddr, Timestamp>>,
}

impl Dialler {
    /// It finds servers by this locator, and opens links so.
    pub fn new(
        ground: &Ground,
        routes: Arc<Routes>,
        locator: Arc<Locator>,
        openings: Openings,
    ) -> Dialler {
        let Ground { clock, settings, .. } = ground.clone();
        Dialler { clock, settings, routes, locator, openings, unproven: Mutex::default() }
    }

    /// Whether a domain here can have links.
    pub(super) fn may_dial(&self, local: &Domain) -> bool {
        self.routes.federates(local)
    }

    /// Dials a domain for a service: an open pipe to its server, which has said HELLO.
    ///
    /// # Errors
    /// [`NotOpened`].
    pub(super) async fn dial(
        &self,
        local: &Domain,
        remote: &Domain,
        service: Service,
    ) -> Result<(Pipe, Opened), NotOpened> {
        let by = Instant::now() + seconds(self.settings.load().federation.dial_seconds);
        let calls = Calls { dialler: self, local, remote, by, made: Mutex::default() };
        let may_connect = |address| calls.may_connect(address);
        let attempt = |stream, address| calls.connect(stream, address);
        let reached = self.locator.reach_if(remote, service, by, &may_connect, attempt).await;
        let (pipe, opened) = reached.map_err(|error| not_opened(&error))?.value;
        if !opened.services.serve(service) {
            let word = service.word();
            let text = format!("the server of {remote} that was found does not serve {word}");
            opening::refuse(pipe, Error::new(Code::NotOffered, text.clone())).await;
            return Err(NotOpened::transient(Code::NotOffered, text));
        }
        Ok((pipe, opened))
    }
}

impl std::fmt::Debug for Dialler {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        f.debug_struct("Dialler").finish_non_exhaustive()
    }
}

impl Calls<'_> {
    fn may_connect(&self, address: SocketAddr) -> Result<(), String> {
        let config = self.dialler.settings.load();
        // Where the operator says that a server is, no zone names somebody else.
        if config.route.iter().any(|route| route.domain == *self.remote) {
            return Ok(());
        }
        let most = config.federation.unproven_connects_per_minute as usize;
        let now = self.dialler.clock.now();
        let taken = self.dialler.unproven.lock().connect(now, self.remote, address, most);
        taken.map_err(|too_often| too_often.to_string())?;
        self.made.lock().insert(address, now);
        Ok(())
    }

    fn proven(&self, address: SocketAddr) {
        let made = self.made.lock().remove(&address);
        if let Some(made) = made {
            self.dialler.unproven.lock().proven(self.remote, address, made);
        }
    }

    async fn connect(
        &self,
        stream: TcpStream,
        address: SocketAddr,
    ) -> Result<(Pipe, Opened), AttemptError> {
        let (local, remote, by) = (self.local, self.remote, self.by);
        let failed = |text: String| AttemptError::Failed(text);
        let tls = self.dialler.settings.load_full().tls.clone();
        let tls = tls.and_then(|tls| tls.dial.get(local).cloned());
        let tls = tls.ok_or_else(|| failed(format!("{local} has no certificate for links")))?;
        let stream = match tokio::time::timeout_at(by, handshake(tls, remote, stream)).await {
            Ok(shaken) => shaken?,
            Err(_) => return Err(failed("no TLS within the time".to_owned())),
        };
        self.proven(address);
        let mut pipe = Pipe::new(stream, by);
        match self.dialler.openings.call(&mut pipe, local, remote, by).await {
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
