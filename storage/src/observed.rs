//! What becomes of logs, for whoever has to know it at once: told by every back end in the same words,
//! from what a unit has planned.
//!
//! What is made of it is left to the observer.

use impp_protocol::Address;

use crate::plan::{Plan, Write};
use crate::{Item, Op, Unit};

/// Who is told what became of logs.
pub trait Observer: std::fmt::Debug + Send + Sync + 'static {
    /// What was committed, in the order of the commits, before whoever asked for it is answered. The
    /// writer waits meanwhile, so it takes note and no more.
    fn committed(&self, changes: Vec<LogChange>);
}

/// What became of a log.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum LogChange {
    /// It has one item more.
    Grew {
        /// Whose log.
        owner: Address,
        /// The highest seq that was given in it before, zero if none was.
        before: u64,
        /// As it is read from now on.
        item: Item,
    },
    /// Some of its items are gone.
    Shrank {
        /// Whose log.
        owner: Address,
        /// Which ones.
        gone: Vec<u64>,
        /// As [`LogState::oldest`](crate::LogState::oldest) is from now on.
        oldest: u64,
    },
    /// One of its items is another now, in the same place.
    Marked {
        /// Whose log.
        owner: Address,
        /// As it is read from now on.
        item: Item,
    },
    /// All of it is gone.
    Purged {
        /// Whose log.
        owner: Address,
    },
    /// Of a commit nobody knows whether it was done: what is known of any log may not be what it holds.
    Unsure,
}

impl Plan<'_> {
    /// What becomes of logs when this is committed, for an observer.
    pub(crate) fn changes(&self, unit: &Unit) -> Vec<LogChange> {
        let (time, data) = (unit.time, self.body.as_ref().map(|body| body.data));
        let grew = self.writes.iter().filter_map(move |write| {
            let Write::Item { before, seq, append, body, .. } = write else { return None };
            let (kind, head) = (append.kind, append.head.clone());
            let body = body.and(data).cloned();
            let item = Item { seq: *seq, kind, head, body, time };
            Some(LogChange::Grew { owner: append.owner.clone(), before: *before, item })
        });
        let shrank = self.writes.iter().filter_map(|write| {
            let Write::Remove { log, items, left } = write else { return None };
            let (owner, row) = self.logs.iter().find(|(_, row)| row.id == *log)?;
            let oldest = row.state(left.or_else(|| self.first_of(*log))).oldest;
            let gone = items.iter().map(|item| item.seq).collect();
            Some(LogChange::Shrank { owner: (*owner).clone(), gone, oldest })
        });
        let marked = self.writes.iter().filter_map(|write| {
            let Write::Mark { log, item, kind } = write else { return None };
            let (owner, _) = self.logs.iter().find(|(_, row)| row.id == *log)?;
            Some(LogChange::Marked { owner: (*owner).clone(), item: item.mark(*kind) })
        });
        let purged = purged(unit);
        // What goes was there before: so it may be told behind what has come. And who is purged
        // begins anew behind all of it.
        grew.chain(shrank).chain(marked).chain(purged).collect()
    }

    /// The first item that this adds to a log.
    fn first_of(&self, of: u64) -> Option<u64> {
        self.writes.iter().find_map(|write| match write {
            Write::Item { log, seq, .. } if *log == of => Some(*seq),
            _ => None,
        })
    }
}

/// Whose logs go whole.
fn purged(unit: &Unit) -> impl Iterator<Item = LogChange> {
    unit.ops.iter().filter_map(|op| match op {
        Op::Purge { owner } => Some(LogChange::Purged { owner: owner.clone() }),
        _ => None,
    })
}
