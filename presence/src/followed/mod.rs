//! Presentities of other domains as their followers here see them: what the home server has said, for
//! whom, and what it has still to be asked. `machine` is pure: what the home says and the time come
//! in, whom to wake, what to store and what to ask comes out.
//!
//! Links, frames and what clients are sent are left to the server. The home decides who
//! sees what; here it is only kept apart.

mod agenda;
mod asking;
mod cache;
mod follower;
mod machine;
mod notified;
mod staged;
mod standing;
#[cfg(test)]
mod tests;

use std::collections::BTreeSet;
use std::time::Duration;

use impp_protocol::{Address, Domain, Error};

use crate::ids::ListenerId;
use crate::presentity::PaceLimit;
pub use follower::Follower;
pub use machine::Mirror;

/// A presentity of another domain, as one of our domains sees it.
#[derive(Clone, Debug, PartialEq, Eq, PartialOrd, Ord, Hash)]
pub struct MirrorKey {
    /// Our domain, whose principals follow it.
    pub local: Domain,
    /// Whose presence.
    pub presentity: Address,
}

/// Settings that a mirror looks at.
#[derive(Clone, Copy, Debug)]
pub struct Terms {
    /// The lease that is asked for.
    pub lease: Duration,
    /// For so long nothing may be confirmed before it is told that it may be old.
    pub stale: Duration,
    /// A home that is linked again has so long to confirm, however many there are to ask for.
    pub answer: Duration,
    /// How often a follower looks at what a home shows, whatever pace the home keeps.
    pub pace: PaceLimit,
}

/// What follows from a change. That of a presentity here is other, as is said there
/// ([`crate::Effects`]).
#[derive(Debug, Default)]
pub struct Effects {
    /// Sessions that have to look.
    pub wake: BTreeSet<ListenerId>,
    /// Followers of whom something else survives now.
    pub records: BTreeSet<Address>,
    /// Followers whom nobody here keeps any more: they need nothing of the other domain.
    pub let_go: BTreeSet<Address>,
    /// Followers of whom the home has said how they stand, or that they may not follow.
    pub answered: Vec<(Address, Result<(), Error>)>,
    /// There is something to ask the home.
    pub asks: bool,
    /// What the home has said of followers or groups for which it was not asked.
    pub unsolicited: u64,
    /// What it has said that does not fit what it said before.
    pub repairs: u64,
}

impl Effects {
    /// Both together.
    #[must_use]
    pub fn and(mut self, other: Effects) -> Effects {
        self.wake.extend(other.wake);
        self.records.extend(other.records);
        self.let_go.extend(other.let_go);
        self.answered.extend(other.answered);
        self.asks |= other.asks;
        self.unsolicited += other.unsolicited;
        self.repairs += other.repairs;
        self
    }
}
