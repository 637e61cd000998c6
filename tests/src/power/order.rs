//! In which order the store's files were written and synced, read from a record.
//!
//! The format of SQLite's write-ahead log: a header of 32 bytes, then frames, each a header of 24
//! bytes and a page. A frame whose header says how long the database is then ends a transaction.

use std::path::{Path, PathBuf};

use super::calls::{Call, What};

const LOG_HEADER_BYTES: usize = 32;
const FRAME_HEADER_BYTES: usize = 24;
const PAGE_BYTES: usize = 4096;
const FRAME_BYTES: usize = FRAME_HEADER_BYTES + PAGE_BYTES;

/// What was seen of the order, so that nobody takes an empty record for a good one.
#[derive(Clone, Copy, Debug, Default)]
pub struct Seen {
    /// Transactions, each with its sync.
    pub transactions: usize,
    /// Pages copied from the log into the database.
    pub copied: usize,
    /// How often the log was begun anew, after all of it was copied.
    pub begun: usize,
    /// How often the file beside the database was told how much is written, while a server ran.
    pub told: usize,
}

/// What is written and not yet synced.
#[derive(Debug)]
struct Order {
    database: PathBuf,
    log: PathBuf,
    /// The frame that is being written ends a transaction.
    ends: bool,
    /// Frames of a transaction that has not ended, or whose end is not synced.
    unsynced: bool,
    /// A transaction has ended and is not synced.
    ended: bool,
    /// Pages of the database are written and not synced.
    copying: bool,
    /// The file beside the database, when it was made anew, and how often it was told since.
    witness: PathBuf,
    made: u64,
    told: u64,
    /// It was told more often than it may be: for the last time in this run then.
    soon: bool,
    seen: Seen,
}

/// How often what stands beside the database may be told, in microseconds.
const TOLD_EVERY: u64 = 1_000_000;

/// Holds a record against what makes a cut harmless: a transaction begins only after the former
/// one's sync; pages are copied only of what is synced in the log; and the log is begun anew only
/// after the copies are synced. What stands beside the database is told of what is synced alone, and
/// once a second at most while a server runs.
///
/// # Errors
/// The first call that is too early.
pub fn check(store: &Path, calls: &[Call]) -> Result<Seen, String> {
    let mut order = Order {
        database: store.join("store.sqlite"),
        log: store.join("store.sqlite-wal"),
        ends: false,
        unsynced: false,
        ended: false,
        copying: false,
        witness: store.join("witness"),
        made: 0,
        told: 0,
        soon: false,
        seen: Seen::default(),
    };
    for (at, call) in calls.iter().enumerate() {
        let early = |why| format!("call {at}, {:?}, comes too early: {why}", call.what);
        order.see(&call.what).and_then(|()| order.see_beside(call)).map_err(early)?;
    }
    Ok(order.seen)
}

impl Order {
    fn see(&mut self, what: &What) -> Result<(), &'static str> {
        match what {
            What::Write { path, at, bytes } if *path == self.log => {
                if self.ended {
                    return Err("a transaction is not synced");
                }
                match at.checked_sub(LOG_HEADER_BYTES) {
                    None => self.begin_log(),
                    Some(place) => self.write_log(place, bytes),
                }
            }
            What::Length { path, .. } if *path == self.log => self.begin_log(),
            What::Remove(path) if *path == self.log => self.begin_log(),
            What::Write { path, .. } if *path == self.database => {
                if self.unsynced {
                    return Err("what is copied is not synced");
                }
                self.copying = true;
                self.seen.copied += 1;
                Ok(())
            }
            What::Sync(path) if *path == self.log => {
                self.seen.transactions += usize::from(self.ended);
                (self.unsynced, self.ended) = (false, false);
                Ok(())
            }
            What::Sync(path) if *path == self.database => {
                self.copying = false;
                Ok(())
            }
            _ => Ok(()),
        }
    }

    /// A start makes the file anew, and an orderly end tells it for the last time, then syncs it.
    fn see_beside(&mut self, call: &Call) -> Result<(), &'static str> {
        match &call.what {
            What::Rename { to, .. } if *to == self.witness => {
                (self.made, self.told) = (call.at, 0);
                if self.soon { Err("it was told too often before") } else { Ok(()) }
            }
            What::Sync(path) if *path == self.witness => {
                self.soon = false;
                Ok(())
            }
            What::Write { path, .. } if *path == self.witness => {
                if self.ended {
                    return Err("what it is told of is not synced");
                }
                if self.soon {
                    return Err("it is told too often");
                }
                self.told += 1;
                self.soon = call.at < self.made + self.told * TOLD_EVERY;
                self.seen.told += 1;
                Ok(())
            }
            _ => Ok(()),
        }
    }

    fn begin_log(&mut self) -> Result<(), &'static str> {
        if self.copying {
            return Err("what was copied is not synced");
        }
        self.seen.begun += 1;
        Ok(())
    }

    fn write_log(&mut self, place: usize, bytes: &[u8]) -> Result<(), &'static str> {
        self.unsynced = true;
        match (place % FRAME_BYTES, bytes.len()) {
            (0, FRAME_HEADER_BYTES) => self.ends = bytes[4..8] != [0; 4],
            (FRAME_HEADER_BYTES, PAGE_BYTES) => self.ended = self.ends,
            _ => return Err("it is no part of a frame"),
        }
        Ok(())
    }
}
