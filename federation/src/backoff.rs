//! How long to wait before trying again: exponential, with full jitter, so that many who failed
//! together do not come back together.
//!
//! Randomness comes in as an argument.

use std::time::Duration;

/// The bounds of waiting.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Backoff {
    /// The longest wait after the first failure; it doubles from failure to failure,
    pub min: Duration,
    /// up to this.
    pub max: Duration,
}

impl Backoff {
    /// The wait after `failures` failures in a row, at least one: somewhere from nothing to the
    /// longest, as `random` says.
    pub fn wait(&self, failures: u32, random: u64) -> Duration {
        let doublings = failures.saturating_sub(1).min(31);
        let longest = self.min.saturating_mul(1 << doublings).min(self.max);
        let millis = u64::try_from(longest.as_millis()).unwrap_or(u64::MAX - 1);
        Duration::from_millis(random % (millis + 1))
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn it_doubles_up_to_its_longest_and_is_spread_over_all_of_it() {
        let backoff = Backoff { min: Duration::from_secs(1), max: Duration::from_secs(10) };
        let longest = |failures| {
            (0..20_000).map(|random| backoff.wait(failures, random)).max().unwrap().as_millis()
        };
        assert_eq!([1, 2, 3, 4, 5, 60].map(longest), [1000, 2000, 4000, 8000, 10_000, 10_000]);
        assert_eq!(backoff.wait(3, 0), Duration::ZERO);
    }
}
