//! Whether a crash is being recovered from.

use std::time::Duration;

use impp_protocol::Timestamp;

use super::Principals;
use crate::core::config::seconds;

/// Whether a crash has lost layers that were bound to sessions: for a while nobody is shown as closed
/// who may only not have returned yet, and nobody knows what they have said of their sphere.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Recovery {
    /// The server that ran before stopped in good order, long enough after a crash.
    Over,
    /// It crashed.
    Begins,
    /// It stopped in good order, and a crash was not overcome by then: it goes on as it would have.
    GoesOn {
        /// Until then at most.
        until: Timestamp,
        /// When it was begun; an older program has not noted that.
        crash: Option<Timestamp>,
    },
}

impl Recovery {
    /// Until when it is recovered from, if it is now, by a server that has started then and takes so
    /// long for it.
    pub(super) fn until(
        self,
        started: Timestamp,
        window: Duration,
        now: Timestamp,
    ) -> Option<Timestamp> {
        let until = match self {
            Recovery::Over => return None,
            Recovery::Begins => started.after(window),
            Recovery::GoesOn { until, .. } => until.min(started.after(window)),
        };
        Some(until).filter(|until| *until > now)
    }

    /// Which crash is recovered from by a server that has started then, by when that was begun.
    pub(super) fn crash(self, started: Timestamp) -> Option<Timestamp> {
        match self {
            Recovery::Over => None,
            Recovery::Begins => Some(started),
            Recovery::GoesOn { crash, .. } => crash,
        }
    }
}

impl Principals {
    /// Until when a crash is being recovered from, if it is now.
    pub fn recovering_until(&self, now: Timestamp) -> Option<Timestamp> {
        let window = seconds(self.ground.settings.load().times.recovery_seconds);
        self.recovery.until(self.ground.clock.started(), window, now)
    }

    /// Which crash that is, by when recovering from it was begun, if that is known.
    pub fn crash(&self, now: Timestamp) -> Option<Timestamp> {
        self.recovering_until(now)?;
        self.recovery.crash(self.ground.clock.started())
    }
}
