//! The pace of notifications of one presentity: a few at once, then one in a while, the last
//! never dropped.

use std::time::Duration;

use impp_protocol::Timestamp;

/// Changes that may still be shown at once.
#[derive(Clone, Copy, Debug)]
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
    /// A presentity that has rested.
    pub(crate) fn rested(now: Timestamp, limit: PaceLimit) -> Pace {
        Pace { tokens: limit.burst, refilled: now }
    }

    /// Whether a change may be shown now; else when.
    ///
    /// # Errors
    /// The time at which it may be shown.
    pub(crate) fn take(&mut self, now: Timestamp, limit: PaceLimit) -> Result<(), Timestamp> {
        let interval = u64::try_from(limit.interval.as_millis()).unwrap_or(u64::MAX).max(1);
        let gained = now.since(self.refilled).as_millis() as u64 / interval;
        if self.tokens + gained >= limit.burst {
            (self.tokens, self.refilled) = (limit.burst, now);
        } else {
            self.tokens += gained;
            self.refilled = self.refilled.after(Duration::from_millis(gained * interval));
        }
        if self.tokens == 0 {
            return Err(self.refilled.after(limit.interval));
        }
        self.tokens -= 1;
        Ok(())
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
        assert_eq!(pace.take(at(0), limit), Ok(()));
        assert_eq!(pace.take(at(0), limit), Ok(()));
        assert_eq!(pace.take(at(500), limit), Err(at(2000)));
        assert_eq!(pace.take(at(2000), limit), Ok(()));
        assert_eq!(pace.take(at(2100), limit), Err(at(4000)));
        assert_eq!(pace.take(at(60_000), limit), Ok(()));
        assert_eq!(pace.take(at(60_000), limit), Ok(()));
        assert_eq!(pace.take(at(60_000), limit), Err(at(62_000)));
    }
}
