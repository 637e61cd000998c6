//! The way to other domains: where an address is served, seen from this server.
//!
//! Only the domains hosted here can be reached yet; locating others by DNS and links to them will
//! stand behind the same two traits.

pub mod prove;

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
