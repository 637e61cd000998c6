//! How much the log says of links that did not open: how many domains are dead is up to whoever
//! writes to them.

use impp_protocol::Timestamp;
use parking_lot::Mutex;

use crate::core::budget::{Budget, Cost, Flow, Terms};

/// Lines at once after a rest,
const LINES_BURST: u64 = 128;
/// and then a second.
const LINES_PER_SECOND: u64 = 2;

/// See the module.
#[derive(Debug, Default)]
pub(super) struct Told(Mutex<Lines>);

#[derive(Debug, Default)]
struct Lines {
    budget: Budget,
    /// Since the last one that was written.
    untold: u64,
}

impl Told {
    /// Whether a line may be written now: then how many were not since the last one, if any.
    pub(super) fn line(&self, now: Timestamp) -> Option<Untold> {
        let terms = Terms {
            work: Flow { per_second: LINES_PER_SECOND, burst: LINES_BURST },
            stored: Flow { per_second: 0, burst: 0 },
        };
        let mut lines = self.0.lock();
        if lines.budget.take(now, terms, Cost { work: 1, stored: 0 }).is_err() {
            lines.untold += 1;
            return None;
        }
        let untold = std::mem::take(&mut lines.untold);
        Some(Untold((untold > 0).then_some(untold)))
    }
}

/// How many lines were not written before this one, if any.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) struct Untold(pub(super) Option<u64>);

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn b10_a_burst_then_two_a_second_and_the_rest_is_counted() {
        let told = Told::default();
        let at = |millis: u64| Timestamp::from_millis(1_700_000_000_000 + millis);
        let first = (0..1000).filter(|_| told.line(at(0)) == Some(Untold(None))).count() as u64;
        assert_eq!(first, LINES_BURST);
        assert_eq!(told.line(at(400)), None);
        assert_eq!(told.line(at(500)), Some(Untold(Some(1000 - LINES_BURST + 1))));
        assert_eq!(told.line(at(1000)), Some(Untold(None)));
    }
}
