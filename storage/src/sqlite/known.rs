//! What the writer knows without reading: rows of logs, how many ids senders have, the newest ids
//! and the newest items.
//!
//! All of it follows from the rows, and is forgotten where a group did not commit. Who reads and writes
//! those is `tables.rs`.

use std::collections::HashMap;

use impp_protocol::Address;

use super::fresh::Fresh;
use super::kept::Count;
use super::recent::Recent;
use crate::LogChange;
use crate::plan::LogRow;

/// Rows of logs that the writer knows, and of senders; those touched are written once per group.
#[derive(Debug, Default)]
pub(crate) struct Logs {
    pub(super) known: HashMap<Address, Known>,
    pub(super) senders: HashMap<Address, Sender>,
    pub(super) recent: Recent,
    pub(super) fresh: Fresh,
    /// What has become of logs since it was last taken, for who observes.
    pub(super) changes: Vec<LogChange>,
}

#[derive(Clone, Copy, Debug)]
pub(super) struct Known {
    pub(super) row: LogRow,
    pub(super) dirty: bool,
    /// As the disk has it.
    pub(super) count: Option<Count>,
}

/// How many ids of a sender are known.
#[derive(Clone, Copy, Debug)]
pub(super) struct Sender {
    pub(super) known: u64,
    pub(super) dirty: bool,
}

impl Logs {
    /// Forgets everything, after a group that did not commit.
    pub(crate) fn clear(&mut self) {
        *self = Logs::default();
    }

    /// Ids were swept: how many are left of whom stands in the rows.
    pub(crate) fn forget_senders(&mut self) {
        self.senders.clear();
    }

    /// What the group has made of logs, once it is committed.
    pub(crate) fn take_changes(&mut self) -> Vec<LogChange> {
        std::mem::take(&mut self.changes)
    }

    /// Called between groups, when no row is dirty.
    pub(crate) fn bound(&mut self) {
        if self.known.len() > LOGS_KNOWN_MAX {
            self.known.clear();
        }
        if self.senders.len() > LOGS_KNOWN_MAX {
            self.senders.clear();
        }
        self.recent.bound();
        self.fresh.bound();
    }
}

/// Rows of logs remembered between groups; of senders as many.
const LOGS_KNOWN_MAX: usize = 16_384;

#[cfg(test)]
mod tests {
    use impp_protocol::Timestamp;

    use super::*;
    use crate::plan::{Counters, Verdict, decide};
    use crate::sqlite::rows::Rows;
    use crate::sqlite::schema::tests::bring_up;
    use crate::sqlite::tables::Tables;
    use crate::sqlite::told::Told;
    use crate::unit::{Dedup, Op, Unit};
    use crate::{Expect, RecordKey, Table};

    /// Whether the same unit is taken each time, in transactions of which this one is rolled back.
    fn is_taken(rows: Rows<'_>, logs: &mut Logs, is_committed: bool) -> bool {
        let address = Address::parse("a@a.example").unwrap();
        let key = RecordKey { domain: address.domain(), table: Table(7), key: vec![1] };
        let put = Op::Put { key, expect: Expect::Any, value: None };
        let (id, digest) = ([9; 16], [1; 32]);
        let dedup = Some(Dedup { id, from: address.clone(), to: address, digest });
        let unit =
            Unit { dedup, dedup_max: Some(9), ..Unit::of(Timestamp::from_millis(1), vec![put]) };
        rows.connection.execute_batch("BEGIN").unwrap();
        let mut tables = Tables::of(rows, logs);
        let verdict = decide(&unit, Counters::default(), &mut tables).unwrap();
        let is_taken = match verdict {
            Verdict::Commit(plan) => tables.carry_out(&unit, plan).is_ok(),
            Verdict::Answer(_) => false,
        };
        drop(tables);
        rows.connection.execute_batch(if is_committed { "COMMIT" } else { "ROLLBACK" }).unwrap();
        if !is_committed {
            logs.clear();
        }
        is_taken
    }

    /// A message of a commit that failed is no repeat when it comes again.
    #[test]
    fn what_was_not_committed_is_not_known() {
        let mut connection = rusqlite::Connection::open_in_memory().unwrap();
        bring_up(&mut connection);
        let (told, mut logs) = (Told::default(), Logs::default());
        let rows = Rows { connection: &connection, summed: true, told: &told, about: None };
        assert!(is_taken(rows, &mut logs, false));
        assert!(is_taken(rows, &mut logs, true));
        assert!(!is_taken(rows, &mut logs, true));
    }
}
