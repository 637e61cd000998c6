//! What is written: units of operations, the answers to them, and their limits.
//!
//! What a unit does to a store is decided in `plan.rs`.

use bytes::Bytes;
use impp_protocol::{Address, Domain, Timestamp};

use crate::{Payer, RecordKey, StoreError};

/// Most operations of one unit.
pub const UNIT_OPS_MAX: usize = 256;
/// Longest body of a unit.
pub const BODY_BYTES_MAX: usize = 1024 * 1024;
/// Longest head of an append.
pub const HEAD_BYTES_MAX: usize = 64 * 1024;
/// Longest key of a record.
pub const KEY_BYTES_MAX: usize = 1024;
/// Longest value of a record.
pub const VALUE_BYTES_MAX: usize = 1024 * 1024;
/// Largest sum of a unit's body, heads, keys and values.
pub const UNIT_BYTES_MAX: usize = 4 * 1024 * 1024;
/// Most items that one [`Op::Trim`] takes away.
pub const TRIM_ITEMS_MAX: usize = 256;

const _: () = assert!(BODY_BYTES_MAX + VALUE_BYTES_MAX + HEAD_BYTES_MAX < UNIT_BYTES_MAX);

/// What is written together: all of it, or nothing.
#[derive(Clone, Debug)]
pub struct Unit {
    /// Makes a repeat of the unit find the first one's answer. Works without appends too.
    pub dedup: Option<Dedup>,
    /// Stored once, for every append that refers to it; goes with the last of them.
    pub body: Option<Bytes>,
    /// The time of its items, by the caller's clock.
    pub time: Timestamp,
    /// Carried out in this order.
    pub ops: Vec<Op>,
    /// Who pays for it from the reserve, if the disk is full.
    pub payer: Payer,
    /// If it has a de-duplication key: it is refused where so many of its sender's are known.
    pub dedup_max: Option<u64>,
    /// In which lane it waits; in none it keeps its place among all units.
    pub lane: Option<Lane>,
    /// Whose share of the queue it takes, if not that of its lane: who asks, where another's order is
    /// kept.
    pub share: Option<Lane>,
}

/// Whose units wait together, in their order. Lanes take turns, and each has its share of the queue:
/// only what depends on nothing that another lane writes may have one.
#[derive(Clone, Debug, PartialEq, Eq, Hash)]
pub enum Lane {
    /// What an account asks for.
    Account(Address),
    /// What another domain does.
    Domain(Domain),
}

impl Unit {
    /// Operations alone: with no message, nothing that tells a repeat, and nobody who pays for it.
    pub fn of(time: Timestamp, ops: Vec<Op>) -> Unit {
        let payer = Payer::Nobody;
        Unit { dedup: None, body: None, time, ops, payer, dedup_max: None, lane: None, share: None }
    }

    /// The same, and on a full disk somebody pays for it.
    #[must_use]
    pub fn paid_by(self, payer: Payer) -> Unit {
        Unit { payer, ..self }
    }

    /// Whose share of the queue it takes, if anybody's.
    pub(crate) fn takes_of(&self) -> Option<&Lane> {
        self.share.as_ref().or(self.lane.as_ref())
    }

    /// The same, in a lane.
    #[must_use]
    pub fn in_lane(self, lane: Lane) -> Unit {
        Unit { lane: Some(lane), ..self }
    }
}

/// The name of a unit that may be sent again.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Dedup {
    /// A UUIDv7: its first 48 bits are milliseconds. Plain octets, because a store does not know
    /// what they are the name of.
    pub id: [u8; 16],
    /// With `id` and `to` the key: two senders cannot take each other's ids.
    pub from: Address,
    /// See `from`.
    pub to: Address,
    /// Of what was asked: the same key with another digest is a conflict.
    pub digest: [u8; 32],
}

/// One operation of a unit.
#[derive(Clone, Debug)]
pub enum Op {
    /// Adds an item to the end of a log.
    Append(Append),
    /// Writes or, with no value, deletes a record.
    Put {
        /// Where.
        key: RecordKey,
        /// On what condition; a unit sees its own earlier puts.
        expect: Expect,
        /// What, or nothing to delete it.
        value: Option<Bytes>,
    },
    /// Writes nothing, and refuses the unit where a counted append of its body would be.
    Fits {
        /// Whose log.
        owner: Address,
        /// As of [`Append::limit`].
        limit: Limit,
    },
    /// A device acknowledged items: they are no longer counted. Never taken back; refused if the log
    /// has never come so far.
    Custody {
        /// Whose log.
        owner: Address,
        /// Up to this seq, inclusive.
        upto: u64,
    },
    /// Takes away what a log's owner may lose, the oldest first, at most [`TRIM_ITEMS_MAX`]: items in
    /// custody as long as each is older than `before`; and further ones, while all that may be lost
    /// are more than `most`: those in custody, then those that are not counted. A counted item that
    /// is not in custody never goes. Ask again while [`LogState::oldest`] moves.
    ///
    /// [`LogState::oldest`]: crate::LogState::oldest
    Trim {
        /// Whose log.
        owner: Address,
        /// Items of an earlier time go.
        before: Timestamp,
        /// So much may stay.
        most: Limit,
    },
    /// Takes one item away, whatever its custody, and leaves a mark in its place: an item of this kind
    /// and of the same time, without head and body, that does not count. Where items had to go already
    /// ([`LogState::oldest`]) none is left. Refused where no item is, or a mark.
    ///
    /// [`LogState::oldest`]: crate::LogState::oldest
    Erase {
        /// Whose log.
        owner: Address,
        /// Which item.
        seq: u64,
        /// The mark's kind.
        mark: u8,
    },
    /// Takes away all items of a log, whatever their custody. Its last seq and its fence stay,
    /// so neither an old cursor nor an old writer finds its way into what comes after.
    Purge {
        /// Whose log.
        owner: Address,
    },
    /// Forgets the de-duplication keys of ids of an earlier time, and raises the durable floor behind
    /// the newest of them: below it everything is answered [`Rejection::OutOfWindow`], as nobody
    /// knows any more. Where nothing is forgotten the floor stays, and it never falls.
    ExpireDedup {
        /// Ids of an earlier time go.
        before: Timestamp,
    },
}

/// An item to add to a log.
#[derive(Clone, Debug)]
pub struct Append {
    /// Whose log.
    pub owner: Address,
    /// The writer's epoch over this log: one lower than the highest seen is fenced off.
    pub fence: u64,
    /// The caller's kind.
    pub kind: u8,
    /// Small metadata, stored with the item.
    pub head: Bytes,
    /// Whether the item refers to the unit's body.
    pub with_body: bool,
    /// Whether it counts, with its head and body, until it is in custody.
    pub counted: bool,
    /// If counted: refused when the counters would pass this.
    pub limit: Option<Limit>,
}

/// How much of a log there may be of what is limited.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Limit {
    /// Items.
    pub items: u64,
    /// Bytes of heads and bodies.
    pub bytes: u64,
}

impl Limit {
    /// As much as there is.
    pub const NONE: Limit = Limit { items: u64::MAX, bytes: u64::MAX };
}

/// The condition of a put.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Expect {
    /// None.
    Any,
    /// There is no such record.
    Absent,
    /// The record has this version.
    Version(u64),
}

/// How a unit ended.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum Outcome {
    /// All of it is done and durable.
    Committed {
        /// One for each append, in order.
        seqs: Vec<u64>,
        /// One for each put, in order; a deletion has one too.
        versions: Vec<u64>,
    },
    /// It was done before, and is durable.
    Duplicate {
        /// Those of the first time; the items may be gone since.
        seqs: Vec<u64>,
    },
    /// Nothing of it was done.
    Rejected(Rejection),
}

/// Why nothing of a unit was done. `op` counts from zero.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Rejection {
    /// A put's condition did not hold.
    Conflict {
        /// Which operation.
        op: usize,
        /// The record's version, if there is one.
        version: Option<u64>,
    },
    /// The de-duplication key was used for something else.
    DedupConflict,
    /// Records of ids as old as this one were forgotten, so nobody knows any more.
    OutOfWindow,
    /// So many ids of its sender are known that no further one is taken. Those that were forgotten count
    /// until they are swept, soon after.
    DedupFull,
    /// An append would pass its limit.
    Full {
        /// Which operation.
        op: usize,
    },
    /// There is no such item to take away.
    Absent {
        /// Which operation.
        op: usize,
    },
    /// Custody of what the log never had.
    Beyond {
        /// Which operation.
        op: usize,
    },
    /// A newer writer owns the log.
    Fenced {
        /// Which operation.
        op: usize,
    },
}

impl Dedup {
    /// The time in the id.
    pub fn time(&self) -> Timestamp {
        time_of(&self.id)
    }
}

/// The time in an id.
pub(crate) fn time_of(id: &[u8; 16]) -> Timestamp {
    let [a, b, c, d, e, f, ..] = *id;
    Timestamp::from_millis(u64::from_be_bytes([0, 0, a, b, c, d, e, f]))
}

impl Unit {
    /// Holds it against the limits; answers its size.
    pub(crate) fn check(&self) -> Result<usize, StoreError> {
        limit("unit's operations", self.ops.len(), UNIT_OPS_MAX)?;
        let body = self.body.as_ref().map_or(0, Bytes::len);
        limit("body", body, BODY_BYTES_MAX)?;
        let mut bytes = body;
        for op in &self.ops {
            match op {
                Op::Append(append) => {
                    limit("head", append.head.len(), HEAD_BYTES_MAX)?;
                    bytes += append.head.len();
                    if append.with_body && self.body.is_none() {
                        return Err(StoreError::BadUnit("an append refers to a missing body"));
                    }
                }
                Op::Put { key, value, .. } => {
                    let value = value.as_ref().map_or(0, Bytes::len);
                    limit("key", key.key.len(), KEY_BYTES_MAX)?;
                    limit("value", value, VALUE_BYTES_MAX)?;
                    bytes += key.key.len() + value;
                }
                _ => {}
            }
        }
        limit("unit", bytes, UNIT_BYTES_MAX)?;
        Ok(bytes)
    }
}

fn limit(what: &'static str, got: usize, max: usize) -> Result<(), StoreError> {
    if got > max { Err(StoreError::TooLarge { what, got, max }) } else { Ok(()) }
}
