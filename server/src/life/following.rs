//! Following the wall clock: somebody sets it, or the machine has slept. What depends on it is told;
//! leases, timers and queues stand on steady time and are not concerned.

use std::sync::Arc;
use std::time::Duration;

use impp_protocol::Timestamp;
use impp_storage::{Op, Payer, Store, StoreError, Unit};
use tokio::time::Instant;

use crate::core::clock::{Clock, TOLERANCE};
use crate::core::metrics::Metrics;
use crate::core::principals::Principals;
use crate::core::records::place;

/// How often is looked.
const LOOK: Duration = Duration::from_secs(1);
/// So long a step forward has to stand before something is taken away by it.
const TRUSTED: Duration = Duration::from_secs(24 * 3600);
/// How often is noted how far steady time has come; no restart goes back further.
const NOTED: Duration = Duration::from_secs(3600);

/// See the module.
pub(super) struct Following {
    pub clock: Clock,
    pub store: Arc<dyn Store>,
    pub metrics: Arc<Metrics>,
    pub principals: Arc<Principals>,
}

impl Following {
    /// For ever.
    pub(super) async fn run(self) {
        let clock = &self.clock;
        let mut eye = Eye::new(clock.now(), clock.ahead(), clock.record().trusted);
        let (mut noted, mut unnoted) = (clock.now(), false);
        loop {
            // The runtime's time is taken around the other: a pause in between is no sleep.
            let (begun, before) = (Instant::now(), clock.now());
            tokio::time::sleep(LOOK).await;
            let now = clock.now();
            let slept = now.since(before).saturating_sub(begun.elapsed());
            if slept > TOLERANCE {
                tracing::warn!("clock: the machine has slept for {} s", slept.as_secs());
                clock.has_slept();
            }
            let moved = eye.look(now, clock.ahead());
            clock.trust(eye.trusted);
            if moved != Moved::Not {
                self.principals.wall_moved();
            }
            if moved != Moved::Not || unnoted || now.since(noted) >= NOTED {
                match self.note().await {
                    Ok(()) => (noted, unnoted) = (now, false),
                    // Once more with the next look; told once.
                    Err(error) if !unnoted => {
                        tracing::warn!(%error, "how the clock stands could not be noted");
                        unnoted = true;
                    }
                    Err(_) => {}
                }
            }
            // When it is noted: whoever reads this finds it after a restart.
            if let Moved::Stepped(millis) = moved {
                self.metrics.clock_steps.inc();
                let (seconds, wall) = (millis as f64 / 1000.0, clock.wall());
                tracing::warn!("clock: stepped by {seconds:+.0} s; it is {wall} by it now");
            }
        }
    }

    async fn note(&self) -> Result<(), StoreError> {
        let unit = Unit::of(self.clock.now(), vec![note(&self.clock)?]).paid_by(Payer::Operator);
        self.store.submit(unit).await.map(drop)
    }
}

/// The operation that notes how the lines of time stand.
pub(super) fn note(clock: &Clock) -> Result<Op, StoreError> {
    Ok(place::meta::clock()?.set(Some(&clock.record())))
}

/// What a look has found.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
enum Moved {
    Not,
    /// A little with each look, and enough by now.
    Drifted,
    /// At once, by so many milliseconds.
    Stepped(i64),
}

/// What is known of the wall clock, in milliseconds that it is ahead of steady time.
struct Eye {
    /// At the last look.
    last: i64,
    /// When it was last told.
    told: i64,
    /// As far as it is believed.
    trusted: i64,
    /// Since when it has been further ahead than that.
    further: Option<Timestamp>,
}

impl Eye {
    fn new(now: Timestamp, ahead: i64, trusted: i64) -> Eye {
        let further = (ahead > trusted).then_some(now);
        Eye { last: ahead, told: ahead, trusted, further }
    }

    fn look(&mut self, now: Timestamp, ahead: i64) -> Moved {
        let tolerance = TOLERANCE.as_millis() as i64;
        // A step back is believed at once, and what drifts.
        let since = match ahead <= self.trusted.saturating_add(tolerance) {
            true => None,
            false => Some(self.further.unwrap_or(now)),
        };
        let stood = since.is_some_and(|since| now.since(since) >= TRUSTED);
        self.further = since.filter(|_| !stood);
        if self.further.is_none() {
            self.trusted = ahead;
        }
        let (by, drifted) = (ahead - self.last, (ahead - self.told).abs() > tolerance);
        self.last = ahead;
        if by.abs() > tolerance || drifted {
            self.told = ahead;
        }
        match (by.abs() > tolerance, drifted) {
            (true, _) => Moved::Stepped(by),
            (false, true) => Moved::Drifted,
            (false, false) => Moved::Not,
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    const HOUR: i64 = 3_600_000;

    fn at(millis: i64) -> Timestamp {
        Timestamp::from_millis(millis.cast_unsigned())
    }

    /// G12: a step is told once, and so is a drift that has come to more than a look may be off; a
    /// step forward is believed when it has stood, one back at once.
    #[test]
    fn g12_steps_are_told_once_and_believed_when_they_have_stood() {
        let mut eye = Eye::new(at(0), 0, 0);
        assert_eq!(eye.look(at(1000), 3), Moved::Not);
        assert_eq!(eye.trusted, 3);
        assert_eq!(eye.look(at(2000), HOUR), Moved::Stepped(HOUR - 3));
        assert_eq!(eye.look(at(3000), HOUR + 1), Moved::Not);
        assert_eq!(eye.trusted, 3);
        assert_eq!(eye.look(at(4000), -HOUR), Moved::Stepped(-2 * HOUR - 1));
        assert_eq!(eye.trusted, -HOUR);
        for look in 1..=20 {
            let expected = if look % 11 == 0 { Moved::Drifted } else { Moved::Not };
            assert_eq!(eye.look(at(4000 + look), -HOUR + 200 * look), expected, "{look}");
        }
        let ahead = -HOUR + 4000;
        assert_eq!(eye.trusted, ahead);
        assert_eq!(eye.look(at(HOUR), ahead + HOUR), Moved::Stepped(HOUR));
        for (hour, trusted) in [(2, ahead), (24, ahead), (25, ahead + HOUR)] {
            assert_eq!(eye.look(at(hour * HOUR), ahead + HOUR), Moved::Not);
            assert_eq!(eye.trusted, trusted, "{hour}");
        }
    }

    /// What has not stood when the server is started again has to stand anew.
    #[test]
    fn a_restart_believes_no_sooner() {
        let mut eye = Eye::new(at(0), HOUR, 0);
        assert_eq!(eye.look(at(1), HOUR), Moved::Not);
        assert_eq!(eye.trusted, 0);
        assert_eq!(eye.look(at(24 * HOUR), HOUR), Moved::Not);
        assert_eq!(eye.trusted, HOUR);
    }
}
