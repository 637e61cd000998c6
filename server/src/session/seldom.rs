//! What an owner's session is told once in a while at most, the newest (RFC 3857 4.10).

use std::sync::Arc;
use std::time::Duration;

use impp_protocol::Timestamp;

use crate::core::clock::Clock;
use crate::core::listeners::Listener;
use crate::core::sessions::Mailbox;

/// Between two, at least.
pub(super) const PACE: Duration = Duration::from_secs(5);

/// When something may be told again.
#[derive(Clone, Copy, Debug, Default)]
pub(super) struct Seldom {
    rests_until: Timestamp,
    /// Something wakes the session then.
    sleeps: bool,
}

impl Seldom {
    /// Whether it may be told now. If not, the session looks again at what is its owner's when it may be.
    pub(super) fn may(&mut self, clock: &Clock, mailbox: &Arc<Mailbox>) -> bool {
        if self.rests_until <= clock.now() {
            self.sleeps = false;
            return true;
        }
        if !std::mem::replace(&mut self.sleeps, true) {
            let (at, clock, mailbox) = (self.rests_until, clock.clone(), mailbox.clone());
            tokio::spawn(async move {
                clock.reach(at).await;
                mailbox.presentity_dirty(&mailbox.account);
            });
        }
        false
    }

    /// It is told.
    pub(super) fn told(&mut self, now: Timestamp) {
        self.rests_until = now.after(PACE);
    }

    /// What comes next belongs to it.
    pub(super) fn goes_on(&mut self) {
        self.rests_until = Timestamp::default();
    }
}
