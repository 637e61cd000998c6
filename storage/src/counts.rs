//! What a store counts: for each log, and of all.

use impp_protocol::Timestamp;

use crate::LogState;
use crate::unit::Limit;

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
    /// All others: what its owner may lose.
    pub(crate) losable: Usage,
    /// The newest item above custody that was lost; what is up to it, and not in custody, is counted.
    pub(crate) lost: u64,
}

impl LogRow {
    pub(crate) fn state(&self, oldest: Option<u64>) -> LogState {
        LogState {
            last: self.last,
            oldest: oldest.unwrap_or(self.last + 1).max(self.lost + 1),
            custody: self.custody,
            unacked_items: self.unacked.items,
            unacked_bytes: self.unacked.bytes,
        }
    }
}

/// How many items, and their bytes: heads and bodies.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub(crate) struct Usage {
    pub(crate) items: u64,
    pub(crate) bytes: u64,
}

impl Usage {
    pub(crate) fn and(self, bytes: u64) -> Usage {
        Usage { items: self.items + 1, bytes: self.bytes.saturating_add(bytes) }
    }

    pub(crate) fn with(self, other: Usage) -> Usage {
        let bytes = self.bytes.saturating_add(other.bytes);
        Usage { items: self.items.saturating_add(other.items), bytes }
    }

    pub(crate) fn without(self, other: Usage) -> Usage {
        let bytes = self.bytes.saturating_sub(other.bytes);
        Usage { items: self.items.saturating_sub(other.items), bytes }
    }

    pub(crate) fn is_within(self, limit: Limit) -> bool {
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

/// The version of a record after this one, where the store has `counted` so many: the next number, or
/// beyond all that a store may have given of which this one is a copy. Never more than is counted, so
/// that a record that is made anew starts above any version it had.
pub(crate) fn next_version(known: u64, counted: u64) -> u64 {
    let leaps = (counted / LEAP).saturating_sub(known / LEAP);
    known.saturating_add(leaps.saturating_mul(LEAP)).saturating_add(1).min(counted)
}

/// How far counters leap where a store was put back: more than any store gives while a copy of it is
/// of use, and little of what there is.
const LEAP: u64 = 1 << 32;
