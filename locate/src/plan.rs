//! Where a search would go, without going there.

use std::net::{IpAddr, SocketAddr};

use serde::Serialize;

use crate::outcome::{NotReachedKind, Via};
use crate::step::Step;

/// What DNS and static routes say of a domain's servers for a service.
#[derive(Clone, Debug)]
pub struct Plan {
    /// The servers that would be tried, in order.
    pub candidates: Vec<Candidate>,
    /// What it means if none of them has an address to try; nothing if one has.
    pub kind: Option<NotReachedKind>,
    /// Everything that was asked, in order.
    pub steps: Vec<Step>,
}

/// A server that would be tried.
#[derive(Clone, Debug, PartialEq, Eq, Serialize)]
pub struct Candidate {
    /// Host and port, for people.
    pub target: String,
    /// How it was found.
    pub via: Via,
    /// Its addresses, in the order in which they would be tried. Of all servers' together a search
    /// connects to [`CONNECTS_MAX`](crate::CONNECTS_MAX), to each once.
    pub addresses: Vec<SocketAddr>,
    /// Addresses of it that are not connected to, and why.
    pub refused: Vec<(IpAddr, String)>,
}
