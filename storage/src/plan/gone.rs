//! What an owner takes away: one item, or all of a log; and what a unit has taken away so far.

use bytes::Bytes;
use impp_protocol::Address;

use super::{Facts, Kept, LogRow, Plan, Planner, Usage, Write};
use crate::Item;
use crate::unit::Rejection;

impl<'u, F: Facts> Planner<'u, '_, F> {
    pub(super) fn plan_erase(
        &mut self,
        op: usize,
        owner: &'u Address,
        seq: u64,
        mark: u8,
    ) -> Result<Option<Rejection>, F::Error> {
        let mut row = self.log(owner)?;
        let log = row.id;
        let mut gone = self.plan.gone(log);
        let is_gone = log == 0 || gone.contains(&seq) || self.plan.marked(log).contains(&seq);
        let found = if is_gone { None } else { self.facts.at(log, seq)? };
        let Some(item) = found.filter(|item| item.kind != mark) else {
            return Ok(Some(Rejection::Absent { op }));
        };
        match item.counts {
            Some(bytes) if seq > row.custody => {
                row.unacked = row.unacked.without(Usage { items: 1, bytes });
            }
            _ => row.losable = row.losable.without(Usage { items: 1, bytes: item.bytes }),
        }
        if seq > row.lost {
            row.losable = row.losable.and(0);
            self.plan.writes.push(Write::Mark { log, item, kind: mark });
        } else {
            // Who reads here is told that things are missing. And a mark would stay for ever: what
            // goes for want of room goes behind this place.
            gone.push(seq);
            let left = self.facts.first_but(log, &gone)?;
            self.plan.writes.push(Write::Remove { log, items: vec![item], left });
        }
        self.set_log(owner, row);
        Ok(None)
    }

    pub(super) fn plan_purge(&mut self, owner: &'u Address) -> Result<(), F::Error> {
        let row = self.log(owner)?;
        if row.id != 0 {
            self.plan.writes.push(Write::Purge { log: row.id });
            let (id, custody, fence) = (0, row.last, row.fence);
            let purged = LogRow { id, fence, last: row.last, custody, ..LogRow::default() };
            self.set_log(owner, purged);
        }
        Ok(())
    }
}

impl Kept {
    /// What comes in its place: it holds nothing.
    pub(crate) fn mark(&self, kind: u8) -> Item {
        Item { seq: self.seq, kind, head: Bytes::new(), body: None, time: self.time }
    }
}

impl Plan<'_> {
    /// The items of a log that this takes away.
    pub(crate) fn gone(&self, of: u64) -> Vec<u64> {
        let removed = self.writes.iter().filter_map(|write| match write {
            Write::Remove { log, items, .. } if *log == of => Some(items),
            _ => None,
        });
        removed.flatten().map(|item| item.seq).collect()
    }

    /// The items of a log in whose places this puts marks.
    pub(super) fn marked(&self, of: u64) -> Vec<u64> {
        let marked = self.writes.iter().filter_map(|write| match write {
            Write::Mark { log, item, .. } if *log == of => Some(item.seq),
            _ => None,
        });
        marked.collect()
    }

    /// What is counted of items of a log that this takes away, above `after` and up to `upto`.
    pub(super) fn counted_gone(&self, of: u64, after: u64, upto: u64) -> Usage {
        let gone = self.writes.iter().flat_map(|write| -> &[Kept] {
            match write {
                Write::Remove { log, items, .. } if *log == of => items,
                Write::Mark { log, item, .. } if *log == of => std::slice::from_ref(item),
                _ => &[],
            }
        });
        gone.filter(|item| item.seq > after && item.seq <= upto)
            .filter_map(|item| item.counts)
            .fold(Usage::default(), Usage::and)
    }
}
