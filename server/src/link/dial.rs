//! Reaching another domain's server, and HELLO.
//!
//! Where it is and how it proves itself is in `ways`.

use std::sync::Arc;

use futures_util::future::BoxFuture;
use impp_federation::queue::Cause;
use impp_locate::Service;
use impp_protocol::{Code, Domain, Error};
use tokio::time::Instant;

use super::opening::{self, Opened, Openings};
use crate::core::config::seconds;
use crate::core::ground::Ground;
use crate::core::routes::Routes;
use crate::core::settings::Settings;
use crate::wire::pipe::Pipe;

/// Why there is no link.
#[derive(Debug)]
pub struct NotOpened {
    /// What is said of it to whoever wanted it: which class of failure it is. Where their words lead
    /// is chosen by whoever writes a zone, so which address answered how is not for them, or we would
    /// look for open ports in their name.
    pub cause: Cause,
    /// The same for the operator: every step.
    pub why: String,
    /// Trying again is useless for now.
    pub definite: bool,
}

impl NotOpened {
    pub(crate) fn transient(code: Code, text: impl Into<String>) -> NotOpened {
        let why = text.into();
        NotOpened { cause: Cause::here(code, why.clone()), why, definite: false }
    }
}

/// What finds a domain's server and connects to it, so that it has proven to be it.
pub(crate) trait Ways: Send + Sync {
    /// Tries one way after the other until there is a pipe on which the greeting succeeds.
    fn reach<'a>(&'a self, call: Call<'a>) -> BoxFuture<'a, Result<(Pipe, Opened), NotOpened>>;

    /// A domain has called and proven itself: it is there, whatever was found before.
    fn heard_from(&self, _remote: &Domain) {}

    /// What is known of where servers are is found out anew: the operator has had all read again.
    fn read_again(&self) {}
}

/// What is dialled.
#[derive(Clone, Copy)]
pub(crate) struct Call<'a> {
    /// For this domain here,
    pub local: &'a Domain,
    /// this one,
    pub remote: &'a Domain,
    /// for this service,
    pub service: Service,
    /// by then.
    pub by: Instant,
    openings: &'a Openings,
}

impl Call<'_> {
    /// The greeting on a pipe to a server that has proven to be the one that is called.
    ///
    /// # Errors
    /// What it said instead of a HELLO that fits.
    pub(crate) async fn greet(&self, mut pipe: Pipe) -> Result<(Pipe, Opened), Error> {
        match self.openings.call(&mut pipe, self.local, self.remote, self.by).await {
            Ok(opened) => Ok((pipe, opened)),
            Err(error) => {
                opening::refuse(pipe, error.clone()).await;
                Err(error)
            }
        }
    }
}

/// What reaches other domains' servers.
pub struct Dialler {
    settings: Arc<Settings>,
    routes: Arc<Routes>,
    pub(super) ways: Arc<dyn Ways>,
    pub(super) openings: Openings,
}

impl Dialler {
    /// It gets to servers in these ways, and opens links so.
    pub(crate) fn new(
        ground: &Ground,
        routes: Arc<Routes>,
        ways: Arc<dyn Ways>,
        openings: Openings,
    ) -> Dialler {
        Dialler { settings: ground.settings.clone(), routes, ways, openings }
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
        let call = Call { local, remote, service, by, openings: &self.openings };
        let (pipe, opened) = self.ways.reach(call).await?;
        if !opened.services.has(service) {
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

/// The same as an error.
impl From<NotOpened> for Error {
    fn from(not: NotOpened) -> Error {
        Error::new(not.cause.code, not.cause.text.unwrap_or_default()).by(not.cause.by)
    }
}
