//! The one thread that writes: takes all units that wait into one transaction, and answers them
//! after the sync that covers them.
//!
//! - The disk is full: the group is decided again with the reserve given up, and what grows is
//!   answered [`StoreError::NoSpace`], until there is room again.
//! - Another process holds the database: [`StoreError::Busy`]; nothing was done.
//! - Reading, writing or syncing failed, or the database is damaged: [`StoreError::Failed`], and
//!   nothing is ever written again. Reads go on.
//!
//! After a failed sync nobody knows what the disk holds, and a second sync that succeeds tells
//! nothing about the first: so there is no retry, and a restart finds out.
//!
//! What a unit does is left to `plan.rs`, the SQL to `tables.rs`.

use std::sync::Arc;
use std::sync::atomic::{AtomicU64, Ordering};
use std::sync::mpsc::{Receiver, RecvTimeoutError, TryRecvError};
use std::time::Instant;

use rusqlite::config::DbConfig;
use rusqlite::{Connection, ErrorCode, ffi};

use super::home::Home;
use super::readers::Readers;
use super::room::{LOOK_INTERVAL, PAGE_BYTES, RESERVE_BYTES, Room, WAL_FRAMES_MAX};
use super::schema::{checkpoint, open_error};
use super::shared::Shared;
use super::sweep;
use super::tables::{Logs, Tables, number};
use crate::pending::Promise;
use crate::plan::{Counters, Verdict, decide};
use crate::unit::{Op, Outcome, UNIT_BYTES_MAX, Unit};
use crate::{Health, StoreError};

/// A unit in the queue.
pub(crate) struct Waiting {
    pub(crate) unit: Unit,
    /// What it was admitted for.
    pub(crate) bytes: usize,
    pub(crate) promise: Promise<Outcome>,
}

/// What the writer is asked.
pub(crate) enum Job {
    Unit(Waiting),
    Close(Promise<()>),
}

/// Everything that the thread owns. Fields are dropped in this order: the lock goes last.
pub(crate) struct Writer {
    readers: Readers,
    connection: Connection,
    shared: Arc<Shared>,
    room: Room,
    counters: Counters,
    logs: Logs,
    /// Whether there may be something to sweep.
    sweeping: bool,
    /// Length of the write-ahead log after the last commit.
    wal_frames: Arc<AtomicU64>,
    /// Set once, by a failure after which nothing is written.
    failed: Option<String>,
    home: Home,
}

type Answers = Vec<Result<Outcome, StoreError>>;

/// What an error of SQLite means for the writer.
enum Trouble {
    /// No room; nothing of the transaction will ever show.
    Full,
    /// No room for the index of the write-ahead log, found after the transaction was written
    /// there: a crash before the next commit would bring it back.
    FullLate,
    Busy,
    Fatal,
}

impl Writer {
    pub(crate) fn open(
        home: Home,
        mut connection: Connection,
        readers: Readers,
        room: Room,
        shared: Arc<Shared>,
    ) -> Result<Writer, StoreError> {
        let counters = load_counters(&connection).map_err(open_error)?;
        let sweeping = sweep::is_due(&connection, counters.dedup_floor).map_err(open_error)?;
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
            shared.set_health(Health::NoSpace);
        }
        Ok(Writer {
            readers,
            connection,
            shared,
            room,
            counters,
            logs: Logs::default(),
            sweeping,
            wal_frames,
            failed: None,
            home,
        })
    }

    /// Works until told to close, or until nobody can ask any more.
    pub(crate) fn run(mut self, jobs: Receiver<Job>) {
        let promise = loop {
            let Some(first) = self.wait(&jobs) else { break None };
            let (group, close) = self.gather(&jobs, first);
            if !group.is_empty() {
                self.settle(group);
            }
            if let Some(promise) = close {
                break Some(promise);
            }
        };
        drop(jobs);
        let result = self.close();
        if let Err(error) = &result {
            tracing::error!(%error, "the store did not close in good order");
        }
        if let Some(promise) = promise {
            promise.keep(result);
        }
    }

    /// The next job; meanwhile, what can be done when there is none.
    fn wait(&mut self, jobs: &Receiver<Job>) -> Option<Job> {
        loop {
            if self.room.is_look_due(Instant::now()) && self.failed.is_none() {
                self.make_room();
            }
            let got = if self.failed.is_some() {
                jobs.recv().map_err(|_| TryRecvError::Disconnected)
            } else if self.sweeping {
                jobs.try_recv()
            } else if self.room.is_tight() {
                jobs.recv_timeout(LOOK_INTERVAL).map_err(|error| match error {
                    RecvTimeoutError::Timeout => TryRecvError::Empty,
                    RecvTimeoutError::Disconnected => TryRecvError::Disconnected,
                })
            } else {
                jobs.recv().map_err(|_| TryRecvError::Disconnected)
            };
            match got {
                Ok(job) => return Some(job),
                Err(TryRecvError::Disconnected) => return None,
                Err(TryRecvError::Empty) if self.sweeping => self.sweep_slice(),
                Err(TryRecvError::Empty) => {}
            }
        }
    }

    /// Takes what waits behind the first job, up to the limits of a group.
    fn gather(&self, jobs: &Receiver<Job>, first: Job) -> (Vec<Waiting>, Option<Promise<()>>) {
        let mut group = Vec::new();
        let mut bytes = 0;
        let mut next = Some(first);
        while let Some(job) = next {
            match job {
                Job::Unit(waiting) => {
                    bytes += waiting.bytes;
                    self.shared.leave(waiting.bytes);
                    group.push(waiting);
                }
                Job::Close(promise) => return (group, Some(promise)),
            }
            let room = group.len() < GROUP_UNITS_MAX && bytes < GROUP_BYTES_MAX;
            next = if room { jobs.try_recv().ok() } else { None };
        }
        (group, None)
    }

    /// Decides, commits and answers one group.
    fn settle(&mut self, group: Vec<Waiting>) {
        let answers = self.answers(&group);
        self.shared.count_group(group.len());
        for (waiting, answer) in group.into_iter().zip(answers) {
            waiting.promise.keep(answer);
        }
        self.logs.bound();
        // After the answers: they need not wait for it.
        if self.failed.is_none() {
            self.checkpoint_if_due();
        }
    }

    fn answers(&mut self, group: &[Waiting]) -> Answers {
        if let Some(reason) = &self.failed {
            let error = StoreError::Failed { reason: reason.clone() };
            return vec![Err(error); group.len()];
        }
        let was_tight = self.room.is_tight();
        let error = match self.attempt(group) {
            Ok(answers) => return answers,
            Err(error) => error,
        };
        let answer = match self.handle(&error) {
            Trouble::Full if !was_tight => return self.answers(group),
            Trouble::Full => StoreError::NoSpace,
            Trouble::Busy => StoreError::Busy,
            Trouble::FullLate | Trouble::Fatal => StoreError::Failed { reason: error.to_string() },
        };
        vec![Err(answer); group.len()]
    }

    /// One transaction over the group. On an error nothing of it is done.
    fn attempt(&mut self, group: &[Waiting]) -> rusqlite::Result<Answers> {
        self.connection.prepare_cached("BEGIN IMMEDIATE")?.execute([])?;
        let mut answers = Vec::with_capacity(group.len());
        let mut counters = self.counters;
        let mut wrote = false;
        let mut tables = Tables { connection: &self.connection, logs: &mut self.logs };
        for Waiting { unit, .. } in group {
            answers.push(match decide(unit, counters, &mut tables)? {
                Verdict::Answer(outcome) => Ok(outcome),
                Verdict::Commit(_) if self.room.is_tight() && unit.grows() => {
                    Err(StoreError::NoSpace)
                }
                Verdict::Commit(plan) => {
                    counters = plan.counters;
                    wrote = true;
                    self.sweeping |= unit.ops.iter().any(leaves_to_sweep);
                    Ok(tables.carry_out(unit, plan)?)
                }
            });
        }
        if wrote {
            tables.finish_group(counters)?;
            if self.sweeping {
                self.sweeping = sweep::sweep(&self.connection, counters.dedup_floor)?;
            }
        }
        self.connection.prepare_cached("COMMIT")?.execute([])?;
        self.counters = counters;
        if wrote {
            self.shared.count_sync();
        }
        Ok(answers)
    }

    fn sweep_slice(&mut self) {
        let work = || -> rusqlite::Result<bool> {
            self.connection.prepare_cached("BEGIN IMMEDIATE")?.execute([])?;
            let more = sweep::sweep(&self.connection, self.counters.dedup_floor)?;
            self.connection.prepare_cached("COMMIT")?.execute([])?;
            Ok(more)
        };
        match work() {
            Ok(more) => {
                self.shared.count_sync();
                self.sweeping = more;
                self.checkpoint_if_due();
            }
            Err(error) => {
                // Once more only when there is something new to sweep, or after a restart.
                self.sweeping = false;
                self.handle(&error);
            }
        }
    }

    fn checkpoint_if_due(&mut self) {
        if self.wal_frames.load(Ordering::Relaxed) >= self.room.wal_frames_max() {
            self.checkpoint("PASSIVE");
        }
    }

    /// Copies the write-ahead log into the database.
    fn checkpoint(&mut self, mode: &str) {
        let was_tight = self.room.is_tight();
        if let Err(error) = checkpoint(&self.connection, mode)
            && matches!(self.handle(&error), Trouble::Full)
            && !was_tight
            && let Err(error) = checkpoint(&self.connection, mode)
        {
            self.handle(&error);
        }
    }

    /// While the disk is full: gives back pages that deletions left free in the database, then
    /// looks whether there is room again.
    fn make_room(&mut self) {
        if let Err(error) = vacuum(&self.connection) {
            self.handle(&error);
        }
        if self.failed.is_none() {
            self.checkpoint("TRUNCATE");
        }
        if self.failed.is_none() && self.room.look(Instant::now()) {
            tracing::info!("there is room on the store's disk again");
            self.shared.set_health(Health::Ok);
        }
    }

    /// Puts the writer into the state that an error calls for, with no transaction open.
    fn handle(&mut self, error: &rusqlite::Error) -> Trouble {
        self.logs.clear();
        let mut trouble = classify(error);
        if !self.connection.is_autocommit()
            && let Err(error) = self.connection.execute_batch("ROLLBACK")
        {
            tracing::error!(%error, "rollback failed");
            trouble = Trouble::Fatal;
        }
        match trouble {
            Trouble::Full | Trouble::FullLate => {
                if !self.room.is_tight() {
                    tracing::error!(dir = %self.home.dir().display(), "the store's disk is full");
                    self.shared.set_health(Health::NoSpace);
                }
                self.room.run_out();
            }
            Trouble::Busy => tracing::warn!(%error, "another process holds the database"),
            Trouble::Fatal => {
                let reason = error.to_string();
                tracing::error!(reason, "the store failed; nothing is written until a restart");
                self.shared.set_health(Health::Failed(reason.clone()));
                self.failed = Some(reason);
            }
        }
        trouble
    }

    fn close(mut self) -> Result<(), StoreError> {
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

fn leaves_to_sweep(op: &Op) -> bool {
    matches!(op, Op::Purge { .. } | Op::ExpireDedup { .. })
}

fn classify(error: &rusqlite::Error) -> Trouble {
    let extended = error.sqlite_error().map_or(0, |error| error.extended_code);
    match error.sqlite_error_code() {
        Some(ErrorCode::DiskFull) => Trouble::Full,
        _ if extended == ffi::SQLITE_IOERR_SHMSIZE => Trouble::FullLate,
        Some(ErrorCode::DatabaseBusy | ErrorCode::DatabaseLocked) => Trouble::Busy,
        // What is not understood is taken for the worst.
        _ => Trouble::Fatal,
    }
}

fn vacuum(connection: &Connection) -> rusqlite::Result<()> {
    let free: u64 = connection.pragma_query_value(None, "freelist_count", |row| number(row, 0))?;
    if free > 0 {
        let mut statement =
            connection.prepare_cached(&format!("PRAGMA incremental_vacuum({VACUUM_PAGES_MAX})"))?;
        let mut rows = statement.query([])?;
        while rows.next()?.is_some() {}
    }
    Ok(())
}

fn load_counters(connection: &Connection) -> rusqlite::Result<Counters> {
    connection.query_row("SELECT seq, version, dedup_floor FROM meta", [], |row| {
        Ok(Counters {
            seq: number(row, 0)?,
            version: number(row, 1)?,
            dedup_floor: impp_protocol::Timestamp::from_millis(number(row, 2)?),
        })
    })
}

/// Most units of one transaction.
const GROUP_UNITS_MAX: usize = 4096;
/// A group takes no further unit from here on.
const GROUP_BYTES_MAX: usize = 4 * 1024 * 1024;
/// Pages given back to the file system at once while the disk is full.
const VACUUM_PAGES_MAX: u64 = 512;

const _: () = assert!(
    RESERVE_BYTES >= WAL_FRAMES_MAX * PAGE_BYTES + (GROUP_BYTES_MAX + UNIT_BYTES_MAX) as u64
);
