//! Decides what a unit does: one pure function from a unit and the facts it depends on to an
//! answer, or to the writes that make it so.
//!
//! Looking the facts up and carrying the writes out is left to the back ends. As everything
//! that can refuse a unit is looked at before anything is written, no unit ever needs undoing.

mod gone;

use std::time::Duration;

use bytes::Bytes;
use impp_protocol::{Address, Timestamp};

use crate::RecordKey;
use crate::counts::next_version;
pub(crate) use crate::counts::{Counters, LogRow, Usage};
use crate::unit::{Append, Dedup, Expect, Limit, Op, Outcome, Rejection, TRIM_ITEMS_MAX, Unit};

/// What is kept under a de-duplication key.
#[derive(Clone, Debug)]
pub(crate) struct Seen {
    pub(crate) digest: [u8; 32],
    pub(crate) seqs: Vec<u64>,
}

/// The facts that a decision depends on, as of all units before it.
pub(crate) trait Facts {
    type Error;
    fn log(&mut self, owner: &Address) -> Result<LogRow, Self::Error>;
    fn version(&mut self, key: &RecordKey) -> Result<Option<u64>, Self::Error>;
    /// The bytes of a record's value, if there is one, whatever its digest says.
    fn length(&mut self, key: &RecordKey) -> Result<Option<usize>, Self::Error>;
    fn seen(&mut self, dedup: &Dedup) -> Result<Option<Seen>, Self::Error>;
    /// The time of the newest id before `before` under which something was accepted.
    fn newest_seen(&mut self, before: Timestamp) -> Result<Option<Timestamp>, Self::Error>;
    /// How many records of de-duplication of a sender there are.
    fn known(&mut self, from: &Address) -> Result<u64, Self::Error>;
    /// What is counted of the items of a log above `after` and up to `upto`.
    fn counted(&mut self, log: u64, after: u64, upto: u64) -> Result<Usage, Self::Error>;
    /// An item of a log, if there is one at that place.
    fn at(&mut self, log: u64, seq: u64) -> Result<Option<Kept>, Self::Error>;
    /// Shows the items of a log that its owner may lose, the oldest first, until `see` says no more:
    /// all in custody, then those behind `after` that are not counted. None is shown that is damaged.
    fn losable(
        &mut self,
        log: u64,
        custody: u64,
        after: u64,
        see: &mut dyn FnMut(Kept) -> bool,
    ) -> Result<(), Self::Error>;
    /// The first item of a log that is none of these, whatever can be read of it.
    fn first_but(&mut self, log: u64, gone: &[u64]) -> Result<Option<u64>, Self::Error>;
}

/// An item that is looked at because it may go.
#[derive(Clone, Copy, Debug)]
pub(crate) struct Kept {
    pub(crate) seq: u64,
    pub(crate) kind: u8,
    pub(crate) time: Timestamp,
    /// Of its head and body; and of these, what stays for others who refer to the body.
    pub(crate) bytes: u64,
    pub(crate) shared: u64,
    /// What it counts for until it is in custody, if it does.
    pub(crate) counts: Option<u64>,
    /// The body that it refers to, where bodies have numbers.
    pub(crate) body: Option<u64>,
}

/// A decision.
pub(crate) enum Verdict<'u> {
    /// Nothing is to be written.
    Answer(Outcome),
    /// These writes, whole.
    Commit(Plan<'u>),
}

/// The writes of one unit.
pub(crate) struct Plan<'u> {
    /// In this order.
    pub(crate) writes: Vec<Write<'u>>,
    /// The logs touched, as they are afterwards.
    pub(crate) logs: Vec<(&'u Address, LogRow)>,
    /// The counters afterwards.
    pub(crate) counters: Counters,
    /// The body, if any item refers to it.
    pub(crate) body: Option<Body<'u>>,
    pub(crate) seqs: Vec<u64>,
    pub(crate) versions: Vec<u64>,
}

/// A body to store, before the items that refer to it.
pub(crate) struct Body<'u> {
    /// The seq of the first item that refers to it.
    pub(crate) id: u64,
    pub(crate) refs: u64,
    pub(crate) data: &'u Bytes,
}

/// One write.
pub(crate) enum Write<'u> {
    Item {
        log: u64,
        /// The last seq given in this log before.
        before: u64,
        seq: u64,
        append: &'u Append,
        body: Option<u64>,
        /// What it counts for, if it does.
        counts: Option<u64>,
    },
    Record {
        key: &'u RecordKey,
        version: u64,
        value: Option<&'u Bytes>,
    },
    Remove {
        log: u64,
        items: Vec<Kept>,
        /// The first of those that were there before this unit and stay.
        left: Option<u64>,
    },
    /// In the place of an item comes one of this kind, and of its time, that holds nothing.
    Mark {
        log: u64,
        item: Kept,
        kind: u8,
    },
    Purge {
        log: u64,
    },
}

/// Decides one unit.
pub(crate) fn decide<'u, F: Facts>(
    unit: &'u Unit,
    counters: Counters,
    facts: &mut F,
) -> Result<Verdict<'u>, F::Error> {
    if let Some(dedup) = &unit.dedup {
        if dedup.time() < counters.dedup_floor {
            return Ok(Verdict::Answer(Outcome::Rejected(Rejection::OutOfWindow)));
        }
        if let Some(seen) = facts.seen(dedup)? {
            return Ok(Verdict::Answer(if seen.digest == dedup.digest {
                Outcome::Duplicate { seqs: seen.seqs }
            } else {
                Outcome::Rejected(Rejection::DedupConflict)
            }));
        }
        if let Some(most) = unit.dedup_max
            && facts.known(&dedup.from)? >= most
        {
            return Ok(Verdict::Answer(Outcome::Rejected(Rejection::DedupFull)));
        }
    }
    let mut planner = Planner { unit, facts, plan: Plan::new(counters) };
    for (index, op) in unit.ops.iter().enumerate() {
        if let Some(rejection) = planner.plan_op(index, op)? {
            return Ok(Verdict::Answer(Outcome::Rejected(rejection)));
        }
    }
    let mut plan = planner.plan;
    if plan.counters.written() == counters.written() {
        plan.counters.version += 1;
    }
    Ok(Verdict::Commit(plan))
}

impl Plan<'_> {
    fn new(counters: Counters) -> Self {
        Plan {
            writes: Vec::new(),
            logs: Vec::new(),
            counters,
            body: None,
            seqs: Vec::new(),
            versions: Vec::new(),
        }
    }
}

struct Planner<'u, 'f, F> {
    unit: &'u Unit,
    facts: &'f mut F,
    plan: Plan<'u>,
}

impl<'u, F: Facts> Planner<'u, '_, F> {
    fn plan_op(&mut self, index: usize, op: &'u Op) -> Result<Option<Rejection>, F::Error> {
        match op {
            Op::Append(append) => return self.plan_append(index, append),
            Op::Put { key, expect, value } => {
                return self.plan_put(index, key, *expect, value.as_ref());
            }
            Op::Fits { owner, limit } => {
                let unacked = self.log(owner)?.unacked;
                let bytes = self.unit.body.as_ref().map_or(0, Bytes::len) as u64;
                if !unacked.and(bytes).is_within(*limit) {
                    return Ok(Some(Rejection::Full { op: index }));
                }
            }
            Op::Custody { owner, upto } => return self.plan_custody(index, owner, *upto),
            Op::Trim { owner, before, most } => self.plan_trim(owner, *before, *most)?,
            Op::Erase { owner, seq, mark } => return self.plan_erase(index, owner, *seq, *mark),
            Op::Purge { owner } => self.plan_purge(owner)?,
            Op::ExpireDedup { before } => self.plan_expiry(*before)?,
        }
        Ok(None)
    }

    fn plan_append(
        &mut self,
        op: usize,
        append: &'u Append,
    ) -> Result<Option<Rejection>, F::Error> {
        let mut row = self.log(&append.owner)?;
        if append.fence < row.fence {
            return Ok(Some(Rejection::Fenced { op }));
        }
        let body = if append.with_body { self.unit.body.as_ref() } else { None };
        let size = (append.head.len() + body.map_or(0, Bytes::len)) as u64;
        if append.counted {
            row.unacked = row.unacked.and(size);
            if append.limit.is_some_and(|limit| !row.unacked.is_within(limit)) {
                return Ok(Some(Rejection::Full { op }));
            }
        } else {
            row.losable = row.losable.and(size);
        }
        self.plan.counters.seq += 1;
        let (before, seq) = (row.last, self.plan.counters.seq);
        if row.id == 0 {
            row.id = seq;
        }
        row.fence = append.fence;
        row.last = seq;
        let body = body.map(|data| self.refer_to(data, seq));
        let counts = append.counted.then_some(size);
        self.plan.writes.push(Write::Item { log: row.id, before, seq, append, body, counts });
        self.plan.seqs.push(seq);
        self.set_log(&append.owner, row);
        Ok(None)
    }

    fn refer_to(&mut self, data: &'u Bytes, seq: u64) -> u64 {
        let body = self.plan.body.get_or_insert(Body { id: seq, refs: 0, data });
        body.refs += 1;
        body.id
    }

    fn plan_put(
        &mut self,
        op: usize,
        key: &'u RecordKey,
        expect: Expect,
        value: Option<&'u Bytes>,
    ) -> Result<Option<Rejection>, F::Error> {
        if expect != Expect::Any {
            let version = self.version(key)?;
            let holds = match expect {
                Expect::Any => true,
                Expect::Absent => version.is_none(),
                Expect::Version(expected) => version == Some(expected),
            };
            if !holds {
                return Ok(Some(Rejection::Conflict { op, version }));
            }
        }
        self.plan.counters.version += 1;
        let counted = self.plan.counters.version;
        let version = match expect {
            // Who knows its version learns by the next one nothing of what else was written.
            Expect::Version(known) => next_version(known, counted),
            Expect::Any | Expect::Absent => counted,
        };
        self.plan.writes.push(Write::Record { key, version, value });
        self.plan.versions.push(version);
        Ok(None)
    }

    fn plan_custody(
        &mut self,
        op: usize,
        owner: &'u Address,
        upto: u64,
    ) -> Result<Option<Rejection>, F::Error> {
        let mut row = self.log(owner)?;
        if upto > row.last {
            return Ok(Some(Rejection::Beyond { op }));
        }
        if upto <= row.custody {
            return Ok(None);
        }
        let taken = if upto == row.last {
            row.unacked
        } else if row.unacked.items > 0 {
            self.counted(row.id, row.custody, upto)?
        } else {
            Usage::default()
        };
        row.unacked = row.unacked.without(taken);
        row.losable = row.losable.with(taken);
        row.custody = upto;
        self.set_log(owner, row);
        Ok(None)
    }

    fn plan_trim(
        &mut self,
        owner: &'u Address,
        before: Timestamp,
        most: Limit,
    ) -> Result<(), F::Error> {
        let mut row = self.log(owner)?;
        let for_age = before > Timestamp::from_millis(0);
        if row.id == 0 || !for_age && row.losable.is_within(most) {
            return Ok(());
        }
        let (log, custody, after) = (row.id, row.custody, row.custody.max(row.lost));
        let (mut items, mut gone) = (Vec::new(), self.plan.gone(log));
        let (before_this, marked) = (gone.len(), self.plan.marked(log));
        self.facts.losable(log, custody, after, &mut |item| {
            if gone[..before_this].contains(&item.seq) {
                return true;
            }
            if marked.contains(&item.seq) {
                // What goes beyond custody goes in order: behind a mark of this unit nothing does.
                return item.seq <= custody;
            }
            let is_old = item.seq <= custody && item.time < before;
            if items.len() == TRIM_ITEMS_MAX || !is_old && row.losable.is_within(most) {
                return false;
            }
            row.losable = row.losable.without(Usage { items: 1, bytes: item.bytes });
            if item.seq > custody {
                row.lost = item.seq;
            }
            gone.push(item.seq);
            items.push(item);
            true
        })?;
        if !items.is_empty() {
            let left = self.facts.first_but(log, &gone)?;
            self.plan.writes.push(Write::Remove { log, items, left });
            self.set_log(owner, row);
        }
        Ok(())
    }

    /// Rises only as far as something goes: a clock that ran ahead sweeps what there is, and is no
    /// reason to refuse what comes after it was set right.
    fn plan_expiry(&mut self, before: Timestamp) -> Result<(), F::Error> {
        if let Some(newest) = self.facts.newest_seen(before)? {
            let floor = &mut self.plan.counters.dedup_floor;
            *floor = (*floor).max(newest.after(Duration::from_millis(1)));
        }
        Ok(())
    }

    // What this unit has planned so far goes before what the back end knows.

    fn log(&mut self, owner: &Address) -> Result<LogRow, F::Error> {
        match self.plan.logs.iter().find(|(planned, _)| *planned == owner) {
            Some((_, row)) => Ok(*row),
            None => self.facts.log(owner),
        }
    }

    fn set_log(&mut self, owner: &'u Address, row: LogRow) {
        match self.plan.logs.iter_mut().find(|(planned, _)| *planned == owner) {
            Some((_, planned)) => *planned = row,
            None => self.plan.logs.push((owner, row)),
        }
    }

    fn version(&mut self, key: &RecordKey) -> Result<Option<u64>, F::Error> {
        let planned = self.plan.writes.iter().rev().find_map(|write| match write {
            Write::Record { key: planned, version, value } if *planned == key => {
                Some(value.map(|_| *version))
            }
            _ => None,
        });
        planned.map_or_else(|| self.facts.version(key), Ok)
    }

    fn counted(&mut self, log: u64, after: u64, upto: u64) -> Result<Usage, F::Error> {
        let mut usage = self.facts.counted(log, after, upto)?;
        for write in &self.plan.writes {
            if let Write::Item { log: planned, seq, counts: Some(bytes), .. } = write
                && *planned == log
                && (after + 1..=upto).contains(seq)
            {
                usage.items += 1;
                usage.bytes += bytes;
            }
        }
        Ok(usage.without(self.plan.counted_gone(log, after, upto)))
    }
}
