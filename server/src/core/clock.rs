//! The server's one clock: wall time read once at the start, then counted by the monotonic clock.
//!
//! So no timer, lease or id window follows a jump of the wall clock while the server runs.

use std::time::{SystemTime, UNIX_EPOCH};

use impp_protocol::Timestamp;
use tokio::time::Instant;

/// See the module.
#[derive(Clone, Copy, Debug)]
pub struct Clock {
    started: Timestamp,
    origin: Instant,
}

impl Clock {
    /// Starts at the wall clock's time.
    pub fn start() -> Clock {
        let wall = SystemTime::now().duration_since(UNIX_EPOCH).unwrap_or_default();
        let millis = u64::try_from(wall.as_millis()).unwrap_or(u64::MAX);
        Clock::started_at(Timestamp::from_millis(millis))
    }

    /// Starts at this time.
    pub fn started_at(started: Timestamp) -> Clock {
        Clock { started, origin: Instant::now() }
    }

    /// When it started.
    pub fn started(&self) -> Timestamp {
        self.started
    }

    /// The time.
    pub fn now(&self) -> Timestamp {
        self.started.after(self.origin.elapsed())
    }

    /// The monotonic instant of a time.
    pub fn instant(&self, time: Timestamp) -> Instant {
        self.origin + time.since(self.started)
    }
}
