//! What an owner's session is told once in a while at most, the newest (RFC 3857 4.10), where the table of
//! things (`acl/src/things.rs`) says so.

use std::time::Duration;

use impp_acl::{Pace, thing};
use impp_protocol::{Timestamp, What};

use super::Client;
use crate::core::clock::Clock;

/// Between two, at least.
pub(in crate::session) const PACE: Duration = Duration::from_secs(5);

/// When a thing may be told again.
#[derive(Clone, Copy, Debug)]
pub(super) struct Seldom {
    what: What,
    rests_until: Timestamp,
    /// Something wakes the session then.
    sleeps: bool,
}

impl Seldom {
    /// Of which nothing was told yet.
    pub(super) fn of(what: What) -> Seldom {
        Seldom { what, rests_until: Timestamp::default(), sleeps: false }
    }

    /// Whether it may be told now. If not, the session looks at the thing again when it may be.
    pub(super) fn may(&mut self, clock: &Clock, client: &Client) -> bool {
        if self.rests_until <= clock.now() {
            self.sleeps = false;
            return true;
        }
        if !std::mem::replace(&mut self.sleeps, true) {
            let (at, what, clock) = (self.rests_until, self.what, clock.clone());
            let mailbox = client.mailbox.clone();
            tokio::spawn(async move {
                clock.reach(at).await;
                mailbox.thing_changed(&mailbox.account, what);
            });
        }
        false
    }

    /// It is told.
    pub(super) fn told(&mut self, now: Timestamp) {
        if thing(self.what).pace == Some(Pace::Seldom) {
            self.rests_until = now.after(PACE);
            // What wakes the session for a telling of before comes too early.
            self.sleeps = false;
        }
    }

    /// What comes next belongs to it.
    pub(super) fn goes_on(&mut self) {
        self.rests_until = Timestamp::default();
    }
}
