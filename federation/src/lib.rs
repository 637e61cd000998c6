//! The way to other domains: what waits for them, how they are proven, which link is kept.
//!
//! Pure machines; the tasks and sockets of links are the server's.

pub mod backoff;
pub mod prove;
pub mod queue;
pub mod settle;

pub use impp_locate as locate;
use impp_protocol::Domain;

/// Where what is for a domain goes.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum Route {
    /// This server hosts it.
    Local,
    /// Nobody is known who does.
    Unknown,
}

/// Finds the way to a domain.
pub trait Locate: Send + Sync {
    /// The way to `domain`.
    fn locate(&self, domain: &Domain) -> Route;
}

/// The only way there is: domains hosted here.
#[derive(Clone, Debug)]
pub struct Hosted {
    domains: Vec<Domain>,
}

impl Hosted {
    /// The way to these.
    pub fn new(domains: Vec<Domain>) -> Hosted {
        Hosted { domains }
    }
}

impl Locate for Hosted {
    fn locate(&self, domain: &Domain) -> Route {
        if self.domains.contains(domain) { Route::Local } else { Route::Unknown }
    }
}
