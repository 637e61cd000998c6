//! A pace: a few at once, then one in a while, the last never dropped. Each view of a presentity has one
//! for what it shows (`contents`), each watcher one for the views that a sphere grants it (`change`).

use std::time::Duration;

use impp_protocol::Timestamp;

/// Changes that may still be shown at once.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) struct Pace {
    tokens: u64,
    refilled: Timestamp,
}

/// How fast a presentity may be shown changing.
#[derive(Clone, Copy, Debug)]
pub struct PaceLimit {
    /// Changes at once after a rest.
    pub burst: u64,
    /// Then one in so long.
    pub interval: Duration,
}

impl Pace {
    /// One that has rested.
    pub(crate) fn rested(now: Timestamp, limit: PaceLimit) -> Pace {
        Pace { tokens: limit.burst, refilled: now }
    }

    /// When a change may be shown, if not now.
    pub(crate) fn waits_until(&mut self, now: Timestamp, limit: PaceLimit) -> Option<Timestamp> {
        let interval = u64::try_from(limit.interval.as_millis()).unwrap_or(u64::MAX).max(1);
        let gained = now.since(self.refilled).as_millis() as u64 / interval;
        if self.tokens + gained >= limit.burst {
            (self.tokens, self.refilled) = (limit.burst, now);
        } else {
            self.tokens += gained;
            self.refilled = self.refilled.after(Duration::from_millis(gained * interval));
        }
        (self.tokens == 0).then(|| self.refilled.after(limit.interval))
    }

    /// Whether so much time has passed since the last ones that it is as one that has rested.
    pub(crate) fn has_rested(mut self, now: Timestamp, limit: PaceLimit) -> bool {
        self.waits_until(now, limit);
        self.tokens >= limit.burst
    }

    /// One is shown.
    pub(crate) fn spend(&mut self) {
        self.tokens = self.tokens.saturating_sub(1);
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn h4_a_burst_and_then_one_in_an_interval() {
        let limit = PaceLimit { burst: 2, interval: Duration::from_secs(2) };
        let at = |millis: u64| Timestamp::from_millis(1_000_000 + millis);
        let mut pace = Pace::rested(at(0), limit);
        let mut take = |now| {
            let waits = pace.waits_until(now, limit);
            if waits.is_none() {
                pace.spend();
            }
            waits
        };
        assert_eq!([take(at(0)), take(at(0))], [None, None]);
        assert_eq!(take(at(500)), Some(at(2000)));
        assert_eq!(take(at(2000)), None);
        assert_eq!(take(at(2100)), Some(at(4000)));
        assert_eq!([take(at(60_000)), take(at(60_000))], [None, None]);
        assert_eq!(take(at(60_000)), Some(at(62_000)));
    }
}
