//! The way to other domains: what waits for them and for whom, whom to leave alone, which link is
//! kept.
//!
//! Pure machines; the tasks and sockets of links are the server's, where a domain is finds `locate`,
//! and what proves one is in `trust`.

pub mod backoff;
pub mod queue;
pub mod settle;
pub mod shares;
pub mod unproven;

use impp_protocol::Domain;

/// Where what is for a domain goes.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum Route {
    /// This server hosts it.
    Local,
    /// Another server does, to be found and reached over a link.
    Remote,
    /// Nobody is known who does.
    Unknown,
}

/// Finds the way to a domain.
pub trait Locate: Send + Sync {
    /// The way to `domain`.
    fn locate(&self, domain: &Domain) -> Route;
}

/// Domains hosted here, and others if they are reached at all.
#[derive(Clone, Debug)]
pub struct Hosted {
    domains: Vec<Domain>,
    others: bool,
}

impl Hosted {
    /// The way to these, and with `others` to all that have a name of more than one label.
    pub fn new(domains: Vec<Domain>, others: bool) -> Hosted {
        Hosted { domains, others }
    }
}

impl Locate for Hosted {
    fn locate(&self, domain: &Domain) -> Route {
        match self.domains.contains(domain) {
            true => Route::Local,
            false if self.others && domain.is_global() => Route::Remote,
            false => Route::Unknown,
        }
    }
}
