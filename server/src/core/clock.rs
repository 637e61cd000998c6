//! The server's two lines of time. *Steady* time stands on the system's monotonic clock, counts what
//! the machine sleeps, and goes on over restarts; leases and all that waits stand on it. *Wall* time
//! is the system's clock as it is at this moment; whatever people, clients and other servers say or
//! are told stands on it.
//!
//! Which stands on which, and why: `docs/decisions/0010-time.md`. Noticing that the wall clock was
//! changed is left to `life/following.rs`.

use std::sync::Arc;
use std::sync::atomic::{AtomicI64, Ordering};
use std::time::{Duration, SystemTime, UNIX_EPOCH};

use impp_protocol::Timestamp;
use rustix::time::{ClockId, clock_gettime};
use tokio::sync::Notify;
use tokio::time::Instant;

use super::records::ClockRecord;

/// By less than this a clock that is put right slowly, and a look that comes late, may be off.
pub const TOLERANCE: Duration = Duration::from_secs(2);
/// A read of both lines that takes longer was interrupted, and tells nothing of their distance;
const READ_MAX: Duration = Duration::from_millis(50);
/// it is tried again so often.
const READS_MAX: u32 = 8;
/// Less than this is how such a read goes, and no change of the distance: a time that is told twice is
/// the same both times.
const READ_OFF_MAX: Duration = Duration::from_millis(100);

/// Where time is read.
pub trait Watch: Send + Sync {
    /// How long ago some moment was, that stays the same as long as this runs; the machine's sleep
    /// counts.
    fn elapsed(&self) -> Duration;

    /// What the wall clock says.
    fn wall(&self) -> Timestamp;
}

/// The system's clocks.
struct System;

/// See the module. Clones are the same clock.
#[derive(Clone)]
pub struct Clock(Arc<Lines>);

struct Lines {
    watch: Arc<dyn Watch>,
    /// Steady time at the start, and what the watch said then.
    started: Timestamp,
    origin: Duration,
    /// How far ahead of steady time the wall clock was found last, in milliseconds.
    ahead: AtomicI64,
    /// How far ahead of steady time the wall clock is believed to be, in milliseconds.
    trusted: AtomicI64,
    /// The runtime's timers are late: the machine has slept, and they have with it.
    slept: Notify,
}

impl Clock {
    /// The system's, as of a store that has never had one.
    pub fn start() -> Clock {
        Clock::of(Arc::new(System), None)
    }

    /// This watch's. Steady time goes on by the wall clock where the server before this one has left
    /// it, and never from before that: so nothing is held for longer than it should be, though the
    /// clock is wrong at this start, as it is on a machine that keeps no time while it is off.
    pub fn of(watch: Arc<dyn Watch>, kept: Option<&ClockRecord>) -> Clock {
        let (origin, wall) = (watch.elapsed(), watch.wall());
        let kept = kept.copied().unwrap_or_default();
        let started = wall.shifted(-kept.ahead).max(Timestamp::from_millis(kept.seen));
        let ahead = wall.ahead_of(started);
        let (trusted, ahead) = (kept.trusted.min(ahead).into(), ahead.into());
        Clock(Arc::new(Lines { watch, started, origin, ahead, trusted, slept: Notify::new() }))
    }

    /// The same watch's, where the server before this one has left it.
    pub fn resumed(&self, kept: Option<&ClockRecord>) -> Clock {
        Clock::of(self.0.watch.clone(), kept)
    }

    /// What the next start is to know.
    pub fn record(&self) -> ClockRecord {
        ClockRecord {
            ahead: self.ahead(),
            trusted: self.0.trusted.load(Ordering::Relaxed),
            seen: self.now().as_millis(),
        }
    }

    /// Steady time at the start.
    pub fn started(&self) -> Timestamp {
        self.0.started
    }

    /// Steady time.
    pub fn now(&self) -> Timestamp {
        self.0.started.after(self.0.watch.elapsed().saturating_sub(self.0.origin))
    }

    /// Wall time.
    pub fn wall(&self) -> Timestamp {
        self.0.watch.wall()
    }

    /// How far ahead of steady time the wall clock is, in milliseconds.
    pub fn ahead(&self) -> i64 {
        let (mut ahead, found) = (0, self.0.ahead.load(Ordering::Relaxed));
        for _ in 0..READS_MAX {
            let (before, wall, after) = (self.now(), self.wall(), self.now());
            ahead = wall.ahead_of(before);
            if after.since(before) < READ_MAX {
                break;
            }
        }
        if u128::from(ahead.abs_diff(found)) <= READ_OFF_MAX.as_millis() {
            return found;
        }
        self.0.ahead.store(ahead, Ordering::Relaxed);
        ahead
    }

    /// A steady time, as it is told.
    pub fn told(&self, steady: Timestamp) -> Timestamp {
        steady.shifted(self.ahead())
    }

    /// A time that somebody has named, as it stands now among what waits here.
    pub fn named(&self, wall: Timestamp) -> Timestamp {
        wall.shifted(-self.ahead())
    }

    /// Wall time, but for a step forward that has not stood for long: what is taken away by it does
    /// not come back when the clock is put right.
    pub fn trusted(&self) -> Timestamp {
        let wall = self.wall();
        let trusted = self.now().shifted(self.0.trusted.load(Ordering::Relaxed));
        if wall.since(trusted) > TOLERANCE { trusted } else { wall }
    }

    /// See [`Clock::trusted`].
    pub fn trust(&self, ahead: i64) {
        self.0.trusted.store(ahead, Ordering::Relaxed);
    }

    /// The runtime's instant of a steady time, as long as the machine does not sleep before.
    pub fn instant(&self, time: Timestamp) -> Instant {
        Instant::now() + time.since(self.now())
    }

    /// Waits for a steady time.
    pub async fn reach(&self, time: Timestamp) {
        loop {
            let slept = self.0.slept.notified();
            if self.now() >= time {
                return;
            }
            tokio::select! { () = tokio::time::sleep_until(self.instant(time)) => {}, () = slept => {} }
        }
    }

    /// The machine has slept: whoever waits looks again for how long.
    pub fn has_slept(&self) {
        self.0.slept.notify_waiters();
    }
}

impl Watch for System {
    fn elapsed(&self) -> Duration {
        // Since the machine was started; never negative.
        Duration::try_from(clock_gettime(ClockId::Boottime)).unwrap_or_default()
    }

    fn wall(&self) -> Timestamp {
        let wall = SystemTime::now().duration_since(UNIX_EPOCH).unwrap_or_default();
        Timestamp::from_millis(u64::try_from(wall.as_millis()).unwrap_or(u64::MAX))
    }
}

impl std::fmt::Debug for Clock {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        f.debug_tuple("Clock").field(&self.now()).finish()
    }
}

#[cfg(test)]
pub(crate) mod tests;
