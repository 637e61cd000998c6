//! Decides what a unit does: one pure function from a unit and the facts it depends on to an
//! answer, or to the writes that make it so.
//!
//! Looking the facts up and carrying the writes out is left to the back ends. As everything
//! that can refuse a unit is looked at before anything is written, no unit ever needs undoing.

use std::time::Duration;

use bytes::Bytes;
use impp_protocol::{Address, Timestamp};

use crate::unit::{Append, Dedup, Expect, Limit, Op, Outcome, Rejection, Unit};
use crate::{LogState, RecordKey};

/// What is kept of a log beside its items; all zero if there never was one.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub(crate) struct LogRow {
    /// Names the items of this log; zero until the first, and again after a purge.
    pub(crate) id: u64,
    pub(crate) fence: u64,
    pub(crate) last: u64,
    pub(crate) custody: u64,
    /// Counted items above custody.
    pub(crate) unacked: Usage,
}

impl LogRow {
    pub(crate) fn state(&self, oldest: Option<u64>) -> LogState {
        LogState {
            last: self.last,
            oldest: oldest.unwrap_or(self.last + 1),
            custody: self.custody,
            unacked_items: self.unacked.items,
            unacked_bytes: self.unacked.bytes,
        }
    }
}

/// Counted items.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub(crate) struct Usage {
    pub(crate) items: u64,
    pub(crate) bytes: u64,
}

impl Usage {
    fn and(self, bytes: u64) -> Usage {
        Usage { items: self.items + 1, bytes: self.bytes.saturating_add(bytes) }
    }

    fn is_within(self, limit: Limit) -> bool {
        self.items <= limit.items && self.bytes <= limit.bytes
    }
}

/// What the whole store counts; only ever rises.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub(crate) struct Counters {
    /// The last seq given.
    pub(crate) seq: u64,
    /// The last version given, or passed over by a unit that gave neither version nor seq.
    pub(crate) version: u64,
    /// Behind the newest id whose de-duplication record was ever swept: of an earlier one that is not
    /// known nobody can say whether it was accepted.
    pub(crate) dedup_floor: Timestamp,
}

impl Counters {
    /// How much was written: rises with every unit that was committed.
    pub(crate) fn written(&self) -> u64 {
        self.seq.saturating_add(self.version)
    }

    /// Beyond all that can have been given by a store of which this one is an older copy.
    pub(crate) fn leap(&mut self) {
        self.seq = self.seq.saturating_add(LEAP);
        self.version = self.version.saturating_add(LEAP);
    }
}

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
    /// What is counted of the items of a log above `after` and up to `upto`.
    fn counted(&mut self, log: u64, after: u64, upto: u64) -> Result<Usage, Self::Error>;
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
    Trim {
        log: u64,
        upto: u64,
        before: Timestamp,
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
            Op::Trim { owner, before } => {
                let row = self.log(owner)?;
                if row.id != 0 {
                    let (log, upto) = (row.id, row.custody);
                    self.plan.writes.push(Write::Trim { log, upto, before: *before });
                }
            }
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
        let version = self.plan.counters.version;
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
        if upto == row.last {
            row.unacked = Usage::default();
        } else if row.unacked.items > 0 {
            let taken = self.counted(row.id, row.custody, upto)?;
            row.unacked.items = row.unacked.items.saturating_sub(taken.items);
            row.unacked.bytes = row.unacked.bytes.saturating_sub(taken.bytes);
        }
        row.custody = upto;
        self.set_log(owner, row);
        Ok(None)
    }

    fn plan_purge(&mut self, owner: &'u Address) -> Result<(), F::Error> {
        let row = self.log(owner)?;
        if row.id != 0 {
            self.plan.writes.push(Write::Purge { log: row.id });
            let purged = LogRow { id: 0, custody: row.last, unacked: Usage::default(), ..row };
            self.set_log(owner, purged);
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
        Ok(usage)
    }
}

/// How far counters leap where a store was put back: more than any store gives while a copy of it is
/// of use, and little of what there is.
const LEAP: u64 = 1 << 32;
