//! The ways to a domain: where they are written, and what is held of DNS's answers.
//!
//! A search itself is left to `search`; what completes a connection is the caller's.

use std::collections::HashMap;
use std::future::Future;
use std::net::SocketAddr;

use impp_protocol::{Domain, Service};
use tokio::net::TcpStream;
use tokio::time::Instant;

use crate::addresses::Policy;
use crate::connect::MayConnect;
use crate::dns::Dns;
use crate::order::Order;
use crate::outcome::{AttemptError, NotReached, Reached};
use crate::plan::Plan;
use crate::search::Search;
use crate::target::Target;

/// How domains are found.
#[derive(Clone, Debug, Default)]
pub struct Settings {
    /// Which records count, and which first.
    pub order: Order,
    /// DNS servers; the system's if there are none.
    pub dns: Vec<SocketAddr>,
    /// Which addresses names may lead to.
    pub policy: Policy,
    /// Where domains are that are not looked up; the policy does not hold for them.
    pub routes: HashMap<Domain, Vec<Target>>,
}

/// Finds and reaches the servers of domains.
#[derive(Debug)]
pub struct Locator {
    settings: Settings,
    dns: Dns,
}

impl Locator {
    /// A locator with these settings; it holds the answers that it gets.
    pub fn new(settings: Settings) -> Locator {
        let dns = Dns::new(&settings.dns);
        Locator { settings, dns }
    }

    /// Finds a server of `domain` for `service`, connects, and has `attempt` complete the
    /// connection; the first one that it completes is the answer. It connects to
    /// [`CONNECTS_MAX`](crate::CONNECTS_MAX) addresses at most, whatever the records say. Nothing is tried after
    /// `deadline`, nor awaited longer. Records that led to nobody are asked for anew the next time,
    /// whatever their TTL.
    ///
    /// # Errors
    /// [`NotReached`] with everything that was tried.
    pub async fn reach<T, F>(
        &self,
        domain: &Domain,
        service: Service,
        deadline: Instant,
        attempt: impl Fn(TcpStream, SocketAddr) -> F,
    ) -> Result<Reached<T>, NotReached>
    where
        F: Future<Output = Result<T, AttemptError>>,
    {
        self.reach_if(domain, service, deadline, &|_| Ok(()), attempt).await
    }

    /// The same where each address is asked for first: an address that may not be connected to is
    /// passed over, and its step says why.
    ///
    /// # Errors
    /// As [`Locator::reach`].
    pub async fn reach_if<T, F>(
        &self,
        domain: &Domain,
        service: Service,
        deadline: Instant,
        may_connect: MayConnect<'_>,
        attempt: impl Fn(TcpStream, SocketAddr) -> F,
    ) -> Result<Reached<T>, NotReached>
    where
        F: Future<Output = Result<T, AttemptError>>,
    {
        let mut search = Search::new(&self.settings, &self.dns, domain, service, deadline);
        match search.run(may_connect, &attempt).await {
            Ok((value, address, target, via)) => {
                Ok(Reached { value, address, target, via, steps: search.steps })
            }
            Err(kind) => {
                // The servers may have moved since the answers came.
                self.dns.forget(&search.steps);
                Err(NotReached::new(kind, domain, service, search.steps))
            }
        }
    }

    /// Asks anew next time for what a domain did not have: it has shown that it is there.
    pub fn heard_from(&self, domain: &Domain) {
        self.dns.forget_absent(Some(domain));
    }

    /// Asks anew next time for whatever was not there, and of the servers that the system has then.
    pub fn read_again(&self) {
        self.dns.read_again();
    }

    /// Looks up everything that [`Locator::reach`] would need, and connects to nothing.
    pub async fn lookup(&self, domain: &Domain, service: Service, deadline: Instant) -> Plan {
        let mut search = Search::new(&self.settings, &self.dns, domain, service, deadline);
        let (candidates, kind) = search.plan().await;
        let reachable = candidates.iter().any(|candidate| !candidate.addresses.is_empty());
        let kind = kind.or_else(|| (!reachable).then(|| search.kind()));
        Plan { candidates, kind, steps: search.steps }
    }
}
