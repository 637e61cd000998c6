//! The trait of every back end, and what its reads ask and answer.
//!
//! Writing is one method; what can be written is in `unit.rs`.

use std::sync::Arc;

use bytes::Bytes;
use impp_protocol::{Address, Domain};

use crate::{Dedup, Lack, Observer, Page, Pending, StoreError, Unit, unit::Outcome};

/// Most records that one [`Scan`] may ask for.
pub const SCAN_ITEMS_MAX: usize = 10_000;

/// Logs of principals, records with versions, and de-duplication of what is written.
///
/// No method blocks, but [`close`](Store::close) for a moment: each hands its work over and
/// returns a future of the answer. A read sees every unit whose answer was given before the read
/// was asked, and nothing that is not yet durable.
pub trait Store: Send + Sync + 'static {
    /// Queues one unit. Units take effect each whole or not at all, those of one [`Lane`] in the order
    /// of submission, as is a unit without one with all others; and the answer comes only after the
    /// sync that covers it. When the bounded queue, or the lane's share of it, is full the answer is
    /// [`StoreError::Busy`], at once.
    ///
    /// [`Lane`]: crate::Lane
    fn submit(&self, unit: Unit) -> Pending<Outcome>;

    /// The record under a key.
    fn get(&self, key: RecordKey) -> Pending<Option<Record>>;

    /// Records of one domain and table, in the order of their keys, with their whole keys.
    fn scan(&self, range: Scan) -> Pending<Vec<(Vec<u8>, Record)>>;

    /// All records of one domain and table whose keys begin so that can be read, where a
    /// [`scan`](Store::scan) has answered that something among them is damaged. It reads very much where
    /// keys are damaged, or all are asked for.
    fn salvage(&self, domain: Domain, table: Table, prefix: Vec<u8>) -> Pending<Salvaged>;

    /// Items of one log behind a cursor: as many as fit, at least one if there is any.
    fn read(&self, query: ReadLog) -> Pending<Page>;

    /// Items of one log in front of a place, the newest first: as many as fit, at least one if there is
    /// any. `more` says that there are older ones. With one person these are all that are about them,
    /// and among them may be others: who asks looks at each.
    fn read_back(&self, query: ReadBack) -> Pending<Page>;

    /// The bounds and counters of one log.
    fn log_state(&self, owner: Address) -> Pending<LogState>;

    /// The digest under which a unit with this de-duplication key was accepted, if one was; the
    /// key's own digest is not looked at.
    fn accepted(&self, key: Dedup) -> Pending<Option<[u8; 32]>>;

    /// From now on this one is told what becomes of logs, and who was told before is not any more.
    fn observe(&self, observer: Arc<dyn Observer>);

    /// Random bytes made with the store: a cursor of another store is told by them.
    fn incarnation(&self) -> [u8; 16];

    /// Counters since this process opened the store.
    fn stats(&self) -> Stats;

    /// Whether units can be written.
    fn health(&self) -> Health;

    /// Answers everything already queued, then puts the store away in good order and lets go of
    /// its lock. Later calls answer [`StoreError::Stopped`].
    fn close(&self) -> Pending<()>;
}

/// A kind of record; the callers name theirs.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord, Hash)]
pub struct Table(pub u8);

/// Where a record is.
#[derive(Clone, Debug, PartialEq, Eq, PartialOrd, Ord, Hash)]
pub struct RecordKey {
    /// The hosted domain that it belongs to.
    pub domain: Domain,
    /// Its kind.
    pub table: Table,
    /// The caller's key, at most [`KEY_BYTES_MAX`](crate::KEY_BYTES_MAX).
    pub key: Vec<u8>,
}

/// A record as stored.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Record {
    /// The caller's bytes.
    pub value: Bytes,
    /// Rises with every change; no version is given twice while the store lives, so a condition
    /// on a record that was deleted and made again fails.
    pub version: u64,
}

/// A range of records.
#[derive(Clone, Debug)]
pub struct Scan {
    /// Of this domain.
    pub domain: Domain,
    /// Of this kind.
    pub table: Table,
    /// With keys that start with this.
    pub prefix: Vec<u8>,
    /// Only behind this key (the last one of the previous answer).
    pub after: Option<Vec<u8>>,
    /// At most so many, at most [`SCAN_ITEMS_MAX`]. Fewer come only if there are no more.
    pub max: usize,
}

/// What can be read of a range of records.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct Salvaged {
    /// With their whole keys, in the order of these.
    pub records: Vec<(Vec<u8>, Record)>,
    /// The keys of those that are there and damaged.
    pub damaged: Vec<Vec<u8>>,
    /// Whether there may be more, of which not even the keys are known.
    pub unsure: bool,
}

/// A read of one log.
#[derive(Clone, Debug)]
pub struct ReadLog {
    /// Whose log.
    pub owner: Address,
    /// Only items with a seq above this.
    pub after: u64,
    /// At most so many items (zero is read as one).
    pub items_max: usize,
    /// Ends the page before the item that would pass this, but never before the first.
    pub bytes_max: usize,
}

/// A read of one log, backwards.
#[derive(Clone, Debug)]
pub struct ReadBack {
    /// Whose log.
    pub owner: Address,
    /// Only items with a seq up to this.
    pub upto: u64,
    /// Items that are about nobody or others may be left out.
    pub with: Option<Address>,
    /// As of [`ReadLog`].
    pub items_max: usize,
    /// As of [`ReadLog`].
    pub bytes_max: usize,
}

/// Bounds and counters of one log.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct LogState {
    /// The highest seq ever given in this log, zero if none was; a purge keeps it.
    pub last: u64,
    /// The seq from which on nothing has gone: the lowest one held, `last + 1` if none is, or behind
    /// the newest that had to go from between those held.
    pub oldest: u64,
    /// Up to where a device has taken custody.
    pub custody: u64,
    /// Counted items above custody.
    pub unacked_items: u64,
    /// Their bytes, heads and bodies.
    pub unacked_bytes: u64,
}

/// Counters since the store was opened.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub struct Stats {
    /// Commits that were synced to the disk (zero in memory).
    pub syncs: u64,
    /// Units answered, whatever the answer.
    pub units: u64,
    /// Groups of units that were decided together.
    pub groups: u64,
    /// Rows found damaged, by whoever came by; named in the log, and no longer counted from a
    /// thousand on (zero in memory).
    pub damaged: u64,
    /// Bytes of rows that the slow look at everything has read (zero in memory).
    pub scrubbed_bytes: u64,
}

/// Whether a store can be written.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum Health {
    /// It can.
    Ok,
    /// The disk is full: units that grow and that nobody pays for ([`Payer`](crate::Payer)) are refused
    /// with [`StoreError::NoSpace`]; others and reads go on. It ends by itself.
    NoSpace(Lack),
    /// Writing failed with this reason; only reads go on, until a restart.
    Failed(String),
}

impl Scan {
    pub(crate) fn check(&self) -> Result<(), StoreError> {
        if self.max > SCAN_ITEMS_MAX {
            return Err(StoreError::TooLarge { what: "scan", got: self.max, max: SCAN_ITEMS_MAX });
        }
        Ok(())
    }
}
