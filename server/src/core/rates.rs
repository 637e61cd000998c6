//! How many messages each sender may still send to one recipient, by the rate of the delivery rule
//! that let them in.

use std::time::Duration;

use impp_acl::Rate;
use impp_protocol::hashing::HashMap;
use impp_protocol::{Address, Timestamp};

/// Senders counted at once for one recipient; if more write in one period, the new ones wait.
const SENDERS_MAX: usize = 1024;

/// Messages of the current period, by sender.
#[derive(Debug, Default)]
pub struct Rates {
    counts: HashMap<Address, Count>,
}

#[derive(Debug)]
struct Count {
    until: Timestamp,
    count: u32,
}

impl Rates {
    /// Counts a message.
    ///
    /// # Errors
    /// How long the sender has to wait.
    pub fn take(&mut self, now: Timestamp, sender: &Address, rate: Rate) -> Result<(), Duration> {
        if self.counts.len() >= SENDERS_MAX && !self.counts.contains_key(sender) {
            self.counts.retain(|_, count| count.until > now);
            if self.counts.len() >= SENDERS_MAX {
                return Err(rate.period);
            }
        }
        let fresh = Count { until: now.after(rate.period), count: 0 };
        let count = self.counts.entry(sender.clone()).or_insert(fresh);
        if count.until <= now {
            *count = Count { until: now.after(rate.period), count: 0 };
        }
        if count.count >= rate.count {
            return Err(count.until.since(now).max(Duration::from_secs(1)));
        }
        count.count += 1;
        Ok(())
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_sender_has_so_many_in_a_period_and_others_their_own() {
        let rate = Rate { count: 2, period: Duration::from_secs(60) };
        let at = |secs: u64| Timestamp::from_millis(secs * 1000);
        let (alice, bob) = ("alice@a.example".parse().unwrap(), "bob@a.example".parse().unwrap());
        let mut rates = Rates::default();
        assert_eq!(rates.take(at(0), &alice, rate), Ok(()));
        assert_eq!(rates.take(at(1), &alice, rate), Ok(()));
        assert_eq!(rates.take(at(20), &alice, rate), Err(Duration::from_secs(40)));
        assert_eq!(rates.take(at(20), &bob, rate), Ok(()));
        assert_eq!(rates.take(at(60), &alice, rate), Ok(()));
    }
}
