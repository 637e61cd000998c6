//! The newest counted items of logs, as the writer has written them: what a device takes custody of is
//! nearly always among them, and need not be read to be counted.
//!
//! Of each log it knows all counted items behind a place, or none. What lies before that is left to
//! `tables.rs`, which reads it.

use std::collections::VecDeque;

use impp_protocol::hashing::HashMap;

use crate::plan::{Usage, Write};

/// See the module. By the id of the log, which a purge makes another.
#[derive(Debug, Default)]
pub(super) struct Fresh(HashMap<u64, Behind>);

/// The counted items of one log behind a place.
#[derive(Debug)]
struct Behind {
    place: u64,
    /// With their bytes, in order.
    items: VecDeque<(u64, u64)>,
}

impl Fresh {
    /// Something was written.
    pub(super) fn wrote(&mut self, write: &Write<'_>) {
        match write {
            Write::Item { log, before, seq, counts, .. } => {
                self.came(*log, *before, *seq, *counts);
            }
            // Whatever went: what is left is for the disk to say.
            Write::Remove { log, .. } | Write::Mark { log, .. } | Write::Purge { log } => {
                drop(self.0.remove(log))
            }
            Write::Record { .. } => {}
        }
    }

    /// An item, behind which nothing is yet; `before` is the one in front of it, and `bytes` what it counts
    /// for, if it does.
    fn came(&mut self, log: u64, before: u64, seq: u64, bytes: Option<u64>) {
        let known = || Behind { place: before, items: VecDeque::new() };
        let behind = self.0.entry(log).or_insert_with(known);
        if let Some(bytes) = bytes {
            behind.items.push_back((seq, bytes));
        }
        while behind.items.len() > ITEMS_MAX
            && let Some((seq, _)) = behind.items.pop_front()
        {
            behind.place = seq;
        }
    }

    /// What is counted of a log above `after` and up to `upto`, if that is known.
    pub(super) fn counted(&self, log: u64, after: u64, upto: u64) -> Option<Usage> {
        let behind = self.0.get(&log).filter(|behind| behind.place <= after)?;
        let end = behind.items.partition_point(|(seq, _)| *seq <= upto);
        let begin = behind.items.partition_point(|(seq, _)| *seq <= after);
        let add = |usage: Usage, (_, bytes): &(u64, u64)| usage.and(*bytes);
        Some(behind.items.range(begin..end).fold(Usage::default(), add))
    }

    /// Custody was taken up to there: nobody asks for less any more.
    pub(super) fn in_custody(&mut self, log: u64, upto: u64) {
        if let Some(behind) = self.0.get_mut(&log) {
            behind.items.drain(..behind.items.partition_point(|(seq, _)| *seq <= upto));
            behind.place = behind.place.max(upto);
        }
    }

    /// Called between groups.
    pub(super) fn bound(&mut self) {
        if self.0.len() > LOGS_MAX {
            self.0.clear();
        }
    }
}

/// Items known of one log: more than wait for a device that is there.
const ITEMS_MAX: usize = 64;
/// Logs of which any are known: in all 16 MiB at most, and hardly ever one.
const LOGS_MAX: usize = 16_384;

#[cfg(test)]
mod tests {
    use super::*;

    fn usage(items: u64, bytes: u64) -> Usage {
        Usage { items, bytes }
    }

    #[test]
    fn what_was_written_is_counted_without_a_look_at_it() {
        let mut fresh = Fresh::default();
        fresh.came(1, 4, 10, Some(100));
        fresh.came(1, 10, 11, None);
        fresh.came(2, 0, 12, Some(7));
        fresh.came(1, 11, 13, Some(50));
        assert_eq!(fresh.counted(1, 4, 13), Some(usage(2, 150)));
        assert_eq!(fresh.counted(1, 4, 12), Some(usage(1, 100)));
        assert_eq!(fresh.counted(1, 10, 20), Some(usage(1, 50)));
        assert_eq!(fresh.counted(2, 0, 12), Some(usage(1, 7)));
        // What was there before is for the disk to say.
        assert_eq!(fresh.counted(1, 3, 13), None);
        assert_eq!(fresh.counted(3, 0, 13), None);
    }

    #[test]
    fn of_a_log_from_which_something_went_nothing_is_known_until_more_comes() {
        let mut fresh = Fresh::default();
        fresh.came(1, 4, 10, Some(100));
        fresh.came(2, 4, 11, Some(100));
        fresh.wrote(&Write::Remove { log: 1, items: Vec::new(), left: None });
        assert_eq!(fresh.counted(1, 4, 10), None);
        assert_eq!(fresh.counted(2, 4, 11), Some(usage(1, 100)));
        fresh.came(1, 10, 12, Some(7));
        assert_eq!(fresh.counted(1, 4, 12), None);
        assert_eq!(fresh.counted(1, 10, 12), Some(usage(1, 7)));
    }

    #[test]
    fn what_is_in_custody_is_forgotten_and_the_rest_is_known() {
        let mut fresh = Fresh::default();
        (1..=9).for_each(|seq| fresh.came(1, seq - 1, seq, Some(10)));
        fresh.in_custody(1, 6);
        assert_eq!(fresh.0[&1].items.len(), 3);
        assert_eq!(fresh.counted(1, 6, 9), Some(usage(3, 30)));
        assert_eq!(fresh.counted(1, 5, 9), None);
    }

    #[test]
    fn of_one_log_the_oldest_are_forgotten_first() {
        let mut fresh = Fresh::default();
        let most = ITEMS_MAX as u64;
        (1..=most + 2).for_each(|seq| fresh.came(1, seq - 1, seq, Some(1)));
        assert_eq!(fresh.counted(1, 1, most + 2), None);
        assert_eq!(fresh.counted(1, 2, most + 2), Some(usage(most, most)));
    }
}
