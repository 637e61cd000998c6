//! When who must be looked at again: one ordered table for all leases, graces and paces.
//!
//! Sleeping until the next one, and doing what is due, is left to the host's timer task.

use std::collections::BTreeSet;
use std::sync::{Mutex, PoisonError};

use impp_presence::followed::MirrorKey;
use impp_protocol::hashing::HashMap;
use impp_protocol::{Address, SessionId, Timestamp};
use tokio::sync::Notify;

/// What a timer is about; each has at most one.
#[derive(Clone, Debug, PartialEq, Eq, PartialOrd, Ord, Hash)]
pub enum Due {
    /// A presentity: a layer or subscription ends, or a paced change may go out.
    Presentity(Address),
    /// A session whose connection is lost: its resume window ends.
    Session(SessionId),
    /// A presentity of another domain: a lease ends, or its home is to be asked.
    Mirror(MirrorKey),
}

/// Timers by time and by what they are about.
#[derive(Debug, Default)]
pub struct Timers {
    table: Mutex<Table>,
    /// Told when the first timer may have changed.
    pub changed: Notify,
}

#[derive(Debug, Default)]
struct Table {
    by_time: BTreeSet<(Timestamp, Due)>,
    by_due: HashMap<Due, Timestamp>,
}

impl Timers {
    /// Sets, moves or (with `None`) removes the timer of `due`.
    pub fn set(&self, due: Due, at: Option<Timestamp>) {
        let mut table = self.table.lock().unwrap_or_else(PoisonError::into_inner);
        let old = match at {
            Some(at) => table.by_due.insert(due.clone(), at),
            None => table.by_due.remove(&due),
        };
        if old == at {
            return;
        }
        if let Some(old) = old {
            table.by_time.remove(&(old, due.clone()));
        }
        if let Some(at) = at {
            table.by_time.insert((at, due));
            let is_first = table.by_time.first().is_some_and(|first| first.0 == at);
            drop(table);
            if is_first {
                self.changed.notify_one();
            }
        }
    }

    /// When the next timer is due.
    pub fn next(&self) -> Option<Timestamp> {
        let table = self.table.lock().unwrap_or_else(PoisonError::into_inner);
        table.by_time.first().map(|first| first.0)
    }

    /// Takes one timer that is due.
    pub fn take(&self, now: Timestamp) -> Option<Due> {
        let mut table = self.table.lock().unwrap_or_else(PoisonError::into_inner);
        if table.by_time.first().is_none_or(|first| first.0 > now) {
            return None;
        }
        let (_, due) = table.by_time.pop_first()?;
        table.by_due.remove(&due);
        Some(due)
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn timers_come_in_order_and_each_thing_has_one() {
        let timers = Timers::default();
        let due = |text: &str| Due::Presentity(Address::parse(text).unwrap());
        let at = |millis| Some(Timestamp::from_millis(millis));
        timers.set(due("a@a.example"), at(30));
        timers.set(due("b@a.example"), at(20));
        timers.set(due("a@a.example"), at(10));
        timers.set(due("c@a.example"), at(5));
        timers.set(due("c@a.example"), None);
        assert_eq!(timers.next(), at(10));
        assert_eq!(timers.take(Timestamp::from_millis(9)), None);
        assert_eq!(timers.take(Timestamp::from_millis(40)), Some(due("a@a.example")));
        assert_eq!(timers.take(Timestamp::from_millis(40)), Some(due("b@a.example")));
        assert_eq!(timers.take(Timestamp::from_millis(40)), None);
    }
}
