//! How long to wait before the next try: exponential, with full jitter.
//!
//! Randomness comes in as an argument; waiting is left to the caller.

use std::time::Duration;

/// The bound of the first wait.
pub const FIRST_MILLIS_MAX: u64 = 500;
/// The bound that no wait exceeds, unless the server asks for more.
pub const WAIT_MILLIS_MAX: u64 = 30_000;
/// What a server's `retry_after` is spread by, so that not all its clients return at once.
pub const SPREAD_MILLIS_MAX: u64 = 1_000;

const _: () = assert!(FIRST_MILLIS_MAX < WAIT_MILLIS_MAX);

/// The waits of one row of failures.
#[derive(Clone, Debug, Default)]
pub struct Backoff {
    failures: u32,
}

impl Backoff {
    /// The wait after one more failure. `random` is any 64 random bits.
    pub fn next(&mut self, retry_after: Option<Duration>, random: u64) -> Duration {
        let bound = FIRST_MILLIS_MAX.saturating_mul(1 << self.failures.min(32));
        self.failures = self.failures.saturating_add(1);
        let jitter = random % (bound.min(WAIT_MILLIS_MAX) + 1);
        match retry_after {
            None => Duration::from_millis(jitter),
            Some(after) => after + Duration::from_millis(jitter.min(SPREAD_MILLIS_MAX)),
        }
    }

    /// Something succeeded: the row ends.
    pub fn reset(&mut self) {
        self.failures = 0;
    }
}

/// 64 random bits for [`Backoff::next`]; without a source of randomness there is no jitter.
pub(crate) fn random() -> u64 {
    getrandom::u64().unwrap_or(u64::MAX)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn waits_are_anything_up_to_a_bound_that_doubles_to_its_own() {
        let mut backoff = Backoff::default();
        for failures in 0..70 {
            let bound = FIRST_MILLIS_MAX.saturating_mul(1 << failures.min(32)).min(WAIT_MILLIS_MAX);
            let wait = |random| backoff.clone().next(None, random);
            assert_eq!(wait(bound), Duration::from_millis(bound));
            assert_eq!(wait(bound + 1), Duration::ZERO);
            backoff.next(None, 0);
        }
        backoff.reset();
        assert!(backoff.next(None, u64::MAX) <= Duration::from_millis(FIRST_MILLIS_MAX));
    }

    #[test]
    fn a_servers_word_is_kept_and_spread() {
        let after = Duration::from_secs(7);
        for random in [0, 1, 499, 12_345, u64::MAX] {
            let wait = Backoff::default().next(Some(after), random);
            assert!(wait >= after && wait <= after + Duration::from_millis(SPREAD_MILLIS_MAX));
        }
    }
}
