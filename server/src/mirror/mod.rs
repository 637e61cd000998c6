//! Presentities of other domains as their followers here see them: what the home server has said, for
//! whom, and what it has still to be asked. `machine` is pure: what the home says and the time come
//! in, whom to wake, what to store and what to ask comes out.
//!
//! Links and frames are left to `link`, what clients are sent to the sessions. The home decides who
//! sees what; here it is only kept apart.

mod agenda;
mod cache;
mod follower;
mod machine;
mod notified;
mod table;
#[cfg(test)]
mod tests;

use std::collections::BTreeSet;
use std::time::Duration;

use crate::ids::SessionId;
use impp_protocol::{Address, Domain, Error};

pub use follower::Follower;
pub use machine::Mirror;
pub use table::{Following, Mirrors};

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
}

/// What follows from a change.
#[derive(Debug, Default)]
pub struct Effects {
    /// Sessions that have to look.
    pub wake: BTreeSet<SessionId>,
    /// Followers whose record changed.
    pub records: BTreeSet<Address>,
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
        self.answered.extend(other.answered);
        self.asks |= other.asks;
        self.unsolicited += other.unsolicited;
        self.repairs += other.repairs;
        self
    }
}
