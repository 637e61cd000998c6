//! The rate of a connection's requests: a bucket that fills with time.

use std::time::Duration;

use tokio::time::Instant;

/// Requests over the rate in a row before the connection is closed.
const ABUSE_MAX: u64 = 1000;

/// See the module.
#[derive(Debug)]
pub struct Rate {
    per_second: u64,
    burst: u64,
    /// In millionths of a request.
    tokens: u64,
    filled: Instant,
    over: u64,
}

const ONE: u64 = 1_000_000;

impl Rate {
    /// A full bucket.
    pub fn new(now: Instant, per_second: u64, burst: u64) -> Rate {
        let (per_second, burst) = (per_second.max(1), burst.max(1));
        Rate { per_second, burst, tokens: burst.saturating_mul(ONE), filled: now, over: 0 }
    }

    /// Takes one request.
    ///
    /// # Errors
    /// How long to wait, in whole seconds.
    pub fn take(&mut self, now: Instant) -> Result<(), Duration> {
        let micros = u64::try_from(now.duration_since(self.filled).as_micros()).unwrap_or(u64::MAX);
        let gained = micros.saturating_mul(self.per_second);
        self.tokens = self.tokens.saturating_add(gained).min(self.burst.saturating_mul(ONE));
        self.filled = now;
        match self.tokens.checked_sub(ONE) {
            Some(left) => {
                (self.tokens, self.over) = (left, 0);
                Ok(())
            }
            None => {
                self.over += 1;
                Err(Duration::from_secs(1))
            }
        }
    }

    /// Whether the peer goes on regardless.
    pub fn is_abused(&self) -> bool {
        self.over >= ABUSE_MAX
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_burst_and_then_the_rate() {
        let start = Instant::now();
        let mut rate = Rate::new(start, 10, 3);
        assert_eq!((0..5).filter(|_| rate.take(start).is_ok()).count(), 3);
        let later = start + Duration::from_millis(250);
        assert_eq!((0..5).filter(|_| rate.take(later).is_ok()).count(), 2);
        assert!(!rate.is_abused());
        for _ in 0..ABUSE_MAX {
            let _ = rate.take(later);
        }
        assert!(rate.is_abused());
    }
}
