//! The ways to another domain's server: where `impp_locate` finds it, over TCP and TLS.

use std::net::SocketAddr;
use std::sync::Arc;

use futures_util::future::BoxFuture;
use impp_federation::queue::Cause;
use impp_federation::unproven::Unproven;
use impp_locate::{AttemptError, Locator, NotReached, Service};
use impp_protocol::hashing::HashMap;
use impp_protocol::{Code, Domain, Timestamp};
use impp_trust::{HandshakeError, speaks_links};
use parking_lot::Mutex;
use rustls::ClientConfig;
use rustls::pki_types::ServerName;
use tokio::net::TcpStream;
use tokio_rustls::TlsConnector;
use tokio_rustls::client::TlsStream;

use super::dial::{Call, NotOpened, Ways};
use super::{Opened, words};
use crate::core::clock::Clock;
use crate::core::ground::Ground;
use crate::core::settings::Settings;
use crate::wire::channel::channel;
use crate::wire::descriptors::is_kept_for_others;
use crate::wire::gate::Gate;
use crate::wire::pipe::Pipe;

/// See the module.
pub(crate) struct Located {
    clock: Clock,
    settings: Arc<Settings>,
    locator: Locator,
    /// Where connecting has led to nobody in the last while.
    unproven: Mutex<Unproven>,
}

/// The connections of one try, each of which counts against its address until it has proven a
/// server.
struct Calls<'a> {
    located: &'a Located,
    call: Call<'a>,
    /// When each was made; a search connects to an address once.
    made: Mutex<HashMap<SocketAddr, Timestamp>>,
}

impl Located {
    /// Servers are found by this locator.
    pub(crate) fn new(ground: &Ground, locator: Locator) -> Located {
        let Ground { clock, settings, .. } = ground.clone();
        Located { clock, settings, locator, unproven: Mutex::default() }
    }
}

impl Ways for Located {
    fn reach<'a>(&'a self, call: Call<'a>) -> BoxFuture<'a, Result<(Pipe, Opened), NotOpened>> {
        Box::pin(async move {
            let calls = Calls { located: self, call, made: Mutex::default() };
            let may_connect = |address| calls.may_connect(address);
            let attempt = |stream, address| calls.connect(stream, address);
            let Call { remote, service, by, .. } = call;
            let reach = || self.locator.reach_if(remote, service, by, &may_connect, &attempt);
            let mut reached = reach().await;
            // Messages end by it: that is not for an answer of before to say.
            if let Err(error) = &reached
                && error.kind.is_definite()
                && error.is_from_memory()
                && service == Service::Messages
            {
                self.locator.heard_from(remote);
                reached = reach().await;
            }
            Ok(reached.map_err(|error| not_opened(&error))?.value)
        })
    }

    fn heard_from(&self, remote: &Domain) {
        self.locator.heard_from(remote);
    }

    fn read_again(&self) {
        self.locator.read_again();
    }
}

impl Calls<'_> {
    fn may_connect(&self, address: SocketAddr) -> Result<(), String> {
        let config = self.located.settings.load();
        // Where the operator says that a server is, no zone names somebody else.
        if config.route.iter().any(|route| route.domain == *self.call.remote) {
            return Ok(());
        }
        let most = config.federation.unproven_connects_per_minute as usize;
        let now = self.located.clock.now();
        let taken = self.located.unproven.lock().connect(now, self.call.remote, address, most);
        taken.map_err(|too_often| too_often.to_string())?;
        self.made.lock().insert(address, now);
        Ok(())
    }

    fn proven(&self, address: SocketAddr) {
        let made = self.made.lock().remove(&address);
        if let Some(made) = made {
            self.located.unproven.lock().proven(self.call.remote, address, made);
        }
    }

    async fn connect(
        &self,
        stream: TcpStream,
        address: SocketAddr,
    ) -> Result<(Pipe, Opened), AttemptError> {
        let Call { local, remote, by, .. } = self.call;
        let failed = |text: String| AttemptError::Failed(text);
        if is_kept_for_others(&stream) {
            return Err(failed("too many files are open here".to_owned()));
        }
        let tls = self.located.settings.load_full().tls.clone();
        let tls = tls.and_then(|tls| tls.dial.get(local).cloned());
        let tls = tls.ok_or_else(|| failed(format!("{local} has no certificate for links")))?;
        let stream = match tokio::time::timeout_at(by, handshake(tls, remote, stream)).await {
            Ok(shaken) => shaken?,
            Err(_) => return Err(failed("no TLS within the time".to_owned())),
        };
        self.proven(address);
        let greeted = self.call.greet(Pipe::new(channel(stream, None), by)).await;
        greeted.map_err(|error| match error.code {
            Code::Untrusted => AttemptError::Untrusted(error.to_string()),
            _ => failed(error.to_string()),
        })
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
    let cause = Cause::here(kind.code(), words::line(error.summary()));
    NotOpened { cause, why: words::line(&error.text), definite: kind.is_definite() }
}
