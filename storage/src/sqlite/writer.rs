//! The one thread that writes: takes all units that wait into one transaction, and answers them
//! after the sync that covers them.
//!
//! - The disk is full: the group is decided again with a part of the reserve given up, and what
//!   grows is answered [`StoreError::NoSpace`], until there is room again, but for what somebody
//!   pays for from the reserve (`reserve.rs`).
//! - Another process holds the database: [`StoreError::Busy`]; nothing was done.
//! - The index of conversations is damaged: it is closed, and the group is decided again without it.
//! - Reading, writing or syncing failed, or the database is damaged elsewhere: [`StoreError::Failed`],
//!   and nothing is ever written again. Reads go on.
//!
//! After a failed sync nobody knows what the disk holds, and a second sync that succeeds tells
//! nothing about the first: so there is no retry, and a restart finds out.
//!
//! How a group is done is in `groups.rs`; what a unit does is left to `plan.rs`, the SQL to `tables.rs`.

mod groups;
mod idle;

use std::sync::Arc;
use std::sync::atomic::{AtomicU64, Ordering};
use std::sync::mpsc::{Receiver, TryRecvError};
use std::time::{Duration, Instant};

use rusqlite::Connection;
use rusqlite::config::DbConfig;

use super::fault::{Trouble, classify, open_error};
use super::home::Home;
use super::jobs::{Held, Job, Queue};
use super::known::Logs;
use super::readers::Readers;
use super::room::{LOOK_INTERVAL, Room, Sake};
use super::rows::{Meta, Rows};
use super::schema::{checkpoint, vacuum};
use super::scrub::SCRUB_INTERVAL;
use super::shared::Shared;
use super::summing::Summing;
use super::sweep;
use super::tables::write_place;
use super::witness::Beholder;
use crate::{Health, Lack, StoreError};

use self::idle::Listing;

/// Everything that the thread owns. Fields are dropped in this order: the lock goes last.
pub(crate) struct Writer {
    readers: Readers,
    connection: Connection,
    witness: Beholder,
    shared: Arc<Shared>,
    room: Room,
    meta: Meta,
    logs: Logs,
    /// Whether there may be something to sweep.
    sweeping: bool,
    /// What is left to do until every row has a digest, if anything is.
    summing: Option<Summing>,
    listing: Listing,
    /// When a slice was last asked of the scrub.
    scrubbed: Instant,
    /// Length of the write-ahead log after the last commit.
    wal_frames: Arc<AtomicU64>,
    /// Set once, by a failure after which nothing is written.
    failed: Option<String>,
    home: Home,
}

impl Writer {
    pub(crate) fn open(
        held: Held,
        meta: Meta,
        readers: Readers,
        shared: Arc<Shared>,
    ) -> Result<Writer, StoreError> {
        let Held { home, mut connection, witness, room } = held;
        let due = sweep::is_due(&connection, meta.counters.dedup_floor);
        let sweeping = due.map_err(open_error)?;
        let summing = (!meta.summed).then(Summing::default);
        let listing = Listing::open(shared.rows(&connection))?;
        let wal_frames = Arc::new(AtomicU64::new(0));
        let frames = Arc::clone(&wal_frames);
        // In place of SQLite's own automatic checkpoint, which keeps its errors to itself.
        connection
            .wal_hook(Some(move |_: &mut rusqlite::hooks::Wal, pages| {
                frames.store(u64::try_from(pages).unwrap_or(0), Ordering::Relaxed);
                Ok(())
            }))
            .map_err(open_error)?;
        if room.is_tight() {
            shared.set_health(Health::NoSpace(room.lack()));
        }
        Ok(Writer {
            readers,
            connection,
            witness,
            shared,
            room,
            meta,
            logs: Logs::default(),
            sweeping,
            summing,
            listing,
            scrubbed: Instant::now(),
            wal_frames,
            failed: None,
            home,
        })
    }

    /// Works until told to close, or until nobody can ask any more.
    pub(crate) fn run(mut self, jobs: Receiver<Job>) {
        let mut queue = Queue::new(jobs);
        let promise = loop {
            if !self.wait(&mut queue) {
                break None;
            }
            let group = queue.gather(&self.shared);
            if !group.is_empty() {
                self.settle(group);
            }
            if let Some(promise) = queue.closing() {
                break Some(promise);
            }
        };
        drop(queue);
        let result = self.close();
        if let Err(error) = &result {
            tracing::error!(%error, "the store did not close in good order");
        }
        if let Some(promise) = promise {
            promise.keep(result);
        }
    }

    /// Waits for something to do, and meanwhile does what can be done when there is nothing; `false`
    /// if nobody can ask any more.
    fn wait(&mut self, queue: &mut Queue) -> bool {
        loop {
            let now = Instant::now();
            if self.room.is_look_due(now) && self.failed.is_none() {
                self.make_room();
            }
            if self.failed.is_none() {
                self.witness.tell(self.meta.counters.written(), now);
            }
            // What failed is not read again and again: each time it would be told.
            if self.failed.is_none() && now.duration_since(self.scrubbed) >= SCRUB_INTERVAL {
                self.scrubbed = now;
                self.readers.scrub(&self.shared);
            }
            let patience = if self.failed.is_some() {
                None
            } else if self.has_idle_work() {
                Some(Duration::ZERO)
            } else {
                Some(if self.room.is_tight() { LOOK_INTERVAL } else { SCRUB_INTERVAL })
            };
            match queue.wait(patience) {
                Ok(()) => return true,
                Err(TryRecvError::Disconnected) => return false,
                Err(TryRecvError::Empty) if self.failed.is_some() => {}
                Err(TryRecvError::Empty) => self.work_idle(),
            }
        }
    }

    /// A transaction of the writer's own; what `work` answers, if it did not fail.
    fn transact<T>(&mut self, work: impl FnOnce(Rows<'_>) -> rusqlite::Result<T>) -> Option<T> {
        let done = || -> rusqlite::Result<T> {
            self.connection.prepare_cached("BEGIN IMMEDIATE")?.execute([])?;
            let answer = work(self.shared.rows(&self.connection))?;
            self.connection.prepare_cached("COMMIT")?.execute([])?;
            Ok(answer)
        };
        match done() {
            Ok(answer) => {
                self.shared.count_sync();
                self.checkpoint_if_due();
                Some(answer)
            }
            Err(error) => {
                self.handle(&error, Sake::Anybody);
                None
            }
        }
    }

    fn checkpoint_if_due(&mut self) {
        if self.wal_frames.load(Ordering::Relaxed) >= self.room.wal_frames_max() {
            self.checkpoint("PASSIVE", Sake::Anybody);
        }
    }

    /// Copies the write-ahead log into the database.
    fn checkpoint(&mut self, mode: &str, sake: Sake) {
        while let Err(error) = checkpoint(&self.connection, mode)
            && let (Trouble::Full(_), true) = self.handle(&error, sake)
        {}
    }

    /// While the disk is full: gives back pages that deletions left free in the database, then
    /// looks whether there is room again.
    fn make_room(&mut self) {
        if let Err(error) = vacuum(&self.connection) {
            self.handle(&error, Sake::Room);
        }
        if self.failed.is_none() {
            // Where the operator's part alone is left, the log's own room is not given to who fills the
            // disk: each of the operator's acts would need another piece of that part.
            let mode = if self.room.keeps_log() { "PASSIVE" } else { "TRUNCATE" };
            self.checkpoint(mode, Sake::Room);
        }
        if self.failed.is_none() && self.room.look(Instant::now()) {
            tracing::info!("there is room on the store's disk again");
            // It may have found none.
            self.sweeping = true;
            self.shared.set_health(Health::Ok);
        }
    }

    /// Puts the writer into the state that an error calls for, with no transaction open; and whether
    /// there may be room now where there was none.
    fn handle(&mut self, error: &rusqlite::Error, sake: Sake) -> (Trouble, bool) {
        self.logs.clear();
        let (mut trouble, mut again) = (classify(error, || self.room.probe()), false);
        if !self.connection.is_autocommit()
            && let Err(error) = self.connection.execute_batch("ROLLBACK")
        {
            tracing::error!(%error, "rollback failed");
            trouble = Trouble::Fatal;
        } else if self.closes_talk() {
            return (Trouble::Index, true);
        }
        match trouble {
            Trouble::Full(_) | Trouble::FullLate => {
                let lack = if let Trouble::Full(lack) = trouble { lack } else { Lack::Bytes };
                if !self.room.is_tight() {
                    tracing::error!(dir = %self.home.dir().display(), %lack, "the store's disk is full");
                    self.shared.set_health(Health::NoSpace(lack));
                }
                again = !self.room.is_tight();
                again |= self.room.run_out(lack, sake);
            }
            Trouble::Busy => tracing::warn!(%error, "another process holds the database"),
            Trouble::Index | Trouble::Fatal => {
                let reason = self.room.in_words(error);
                let dir = self.home.dir().display();
                tracing::error!(%dir, reason, "the store failed; nothing is written until a restart");
                self.shared.set_health(Health::Failed(reason.clone()));
                self.failed = Some(reason);
            }
        }
        (trouble, again)
    }

    fn close(mut self) -> Result<(), StoreError> {
        if self.failed.is_none()
            && let Some(place) = self.witness.put_away(self.meta.counters.written())
        {
            self.transact(|rows| write_place(rows.connection, &place));
        }
        self.readers.stop();
        if let Some(reason) = self.failed.take() {
            return Err(StoreError::Failed { reason });
        }
        checkpoint(&self.connection, "TRUNCATE").map_err(open_error)?;
        // Nothing is left to copy; now closing may take the empty files away.
        self.connection
            .set_db_config(DbConfig::SQLITE_DBCONFIG_NO_CKPT_ON_CLOSE, false)
            .map_err(open_error)?;
        self.connection.close().map_err(|(_, error)| open_error(error))?;
        self.home.sync()
    }
}

#[cfg(test)]
mod tests;
