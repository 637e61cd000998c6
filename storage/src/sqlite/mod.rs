//! The back end on disk: one SQLite database, one thread that writes, some that read.
//!
//! This file opens it and hands work to the threads; what they do is theirs.
//!
//! | file | holds |
//! |---|---|
//! | `home.rs` | the directory: modes, lock, what is ours in it |
//! | `migrations.rs`, `schema.rs` | tables, and how they came to be; opening, connections |
//! | `wal.rs`, `beneath.rs` | the log, before SQLite reads it; whether it is this database's |
//! | `pages.rs` | SQLite's own checks |
//! | `jobs.rs`, `turns.rs` | what waits for the writer; whose turn it is |
//! | `writer.rs` | group commit, and what follows from each error |
//! | `tables.rs`, `removal.rs` | what the writer writes, and takes away |
//! | `rows.rs` | rows as they are read, each held against its digest |
//! | `known.rs` | what the writer need not read |
//! | `recent.rs` | the newest records of de-duplication, in memory |
//! | `fresh.rs` | the newest counted items, in memory |
//! | `kept.rs` | what is counted of logs and senders |
//! | `salvage.rs` | those of a kind that can be read, where some cannot |
//! | `digest.rs` | the digests |
//! | `talk.rs` | which items are about whom |
//! | `sweep.rs` | removal, in slices, of what is no longer seen |
//! | `summing.rs` | digests, in slices, for rows of older stores |
//! | `scrub.rs` | the slow look at everything |
//! | `examine.rs` | a look at everything, at rest |
//! | `readers.rs`, `pages_of.rs` | the reading threads; pages of logs, either way |
//! | `place.rs`, `witness.rs` | whether it is a copy that was put back |
//! | `room.rs` | the reserve for a full disk |
//! | `fault.rs`, `told.rs` | what an error means; what was found damaged |

mod beneath;
mod digest;
mod examine;
mod fault;
mod fresh;
mod home;
mod jobs;
mod kept;
mod known;
mod migrations;
mod pages;
mod pages_of;
mod place;
mod readers;
mod recent;
mod removal;
mod room;
mod rows;
mod salvage;
mod schema;
mod scrub;
mod shared;
mod summing;
mod sweep;
mod tables;
mod talk;
mod told;
mod turns;
mod wal;
mod witness;
mod writer;

use std::path::Path;
use std::sync::Arc;
use std::sync::mpsc::{SyncSender, TrySendError, sync_channel};
use std::thread::{self, JoinHandle};

use impp_protocol::{Address, Domain};
use rusqlite::Connection;

pub use self::examine::{Examined, examine, glance};
pub use self::place::Restored;
pub use self::readers::READERS_MAX;
pub use self::room::RESERVE_BYTES;

use self::fault::open_error;
use self::home::Home;
use self::jobs::{Held, Job, Waiting};
use self::readers::{Query, Readers};
use self::room::{Room, Sake};
use self::shared::{Shared, UNITS_QUEUED_MAX};
use self::writer::Writer;
use crate::pending::Promise;
use crate::unit::{Outcome, UNIT_BYTES_MAX, Unit};
use crate::{
    About, Dedup, Health, Lack, LogState, Observer, Page, Pending, ReadBack, ReadLog, Record,
    RecordKey, Salvaged, Scan, Stats, Store, StoreError, Table,
};

/// How a store on disk is opened.
#[derive(Clone, Debug)]
pub struct Options {
    /// Threads that read, one at least and [`READERS_MAX`] at most.
    pub readers: usize,
    /// Kept free for a full disk, at most an eighth of it; zero keeps none.
    pub reserve_bytes: u64,
    /// Reads the whole database while opening, and refuses it if any of it is damaged. It takes
    /// about a second for each gigabyte.
    pub verify: bool,
    /// Tells whom an item is about. With it an index is kept by which [`ReadBack`] finds what is about
    /// one person; without it that is sought among all items.
    pub about: Option<About>,
}

impl Default for Options {
    fn default() -> Options {
        Options { readers: 2, reserve_bytes: RESERVE_BYTES, verify: false, about: None }
    }
}

/// A store in a directory. Dropping it closes it, and waits for that.
#[derive(Debug)]
pub struct SqliteStore {
    jobs: SyncSender<Job>,
    queries: SyncSender<Query>,
    shared: Arc<Shared>,
    incarnation: [u8; 16],
    restored: Option<Restored>,
    writer: Option<JoinHandle<()>>,
}

impl SqliteStore {
    /// Opens the store in a directory, or makes one there.
    ///
    /// # Errors
    /// [`StoreError::Locked`], [`Newer`](StoreError::Newer), [`Foreign`](StoreError::Foreign),
    /// [`Damaged`](StoreError::Damaged): what lies there was left as it is.
    /// [`NoSpace`](StoreError::NoSpace), [`Io`](StoreError::Io),
    /// [`Failed`](StoreError::Failed): the system did not let it.
    pub fn open(dir: &Path, options: Options) -> Result<SqliteStore, StoreError> {
        let home = Home::take(dir)?;
        home.look()?;
        let mut room = Room::open(home.dir(), options.reserve_bytes)?;
        let connection = with_room(&mut room, || schema::open(&home, options.verify))?;
        secure(&connection, &mut room)?;
        home.sync()?;
        let (meta, witness, restored) = with_room(&mut room, || {
            let mut meta = rows::meta(&connection)?;
            let (witness, restored) = witness::behold(&home, &connection, &mut meta)?;
            Ok((meta, witness, restored))
        })?;
        let incarnation = meta.incarnation;
        let shared = Arc::new(Shared::new(meta.summed, options.about));
        let readers = Readers::start(&home, options.readers, &shared)?;
        let queries = readers.queries();
        let held = Held { home, connection, witness, room };
        let writer = Writer::open(held, meta, readers, Arc::clone(&shared))?;
        let (jobs, receiver) = sync_channel(UNITS_QUEUED_MAX);
        let alarm = Alarm(Arc::clone(&shared));
        let writer = thread::Builder::new()
            .name("store-write".into())
            .spawn(move || {
                let _alarm = alarm;
                writer.run(receiver);
            })
            .map_err(|e| StoreError::Failed { reason: format!("no thread: {e}") })?;
        Ok(SqliteStore { jobs, queries, shared, incarnation, restored, writer: Some(writer) })
    }

    /// Whether it is a copy that was put back or moved, and by what that was told.
    pub fn restored(&self) -> Option<Restored> {
        self.restored
    }

    fn ask<T>(&self, query: impl FnOnce(Promise<T>) -> Query) -> Pending<T> {
        let (promise, pending) = Pending::promise();
        match self.queries.try_send(query(promise)) {
            Ok(()) => pending,
            Err(TrySendError::Full(_)) => Pending::ready(Err(StoreError::Busy)),
            Err(TrySendError::Disconnected(_)) => Pending::ready(Err(StoreError::Stopped)),
        }
    }
}

impl Store for SqliteStore {
    fn submit(&self, unit: Unit) -> Pending<Outcome> {
        let bytes = match unit.check() {
            Ok(bytes) => bytes + UNIT_OVERHEAD_BYTES,
            Err(error) => return Pending::ready(Err(error)),
        };
        let share = unit.takes_of().cloned();
        if !self.shared.enter(share.as_ref(), bytes) {
            return Pending::ready(Err(StoreError::Busy));
        }
        let (promise, pending) = Pending::promise();
        let error = match self.jobs.try_send(Job::Unit(Waiting { unit, bytes, promise })) {
            Ok(()) => return pending,
            Err(TrySendError::Full(_)) => StoreError::Busy,
            Err(TrySendError::Disconnected(_)) => StoreError::Stopped,
        };
        self.shared.leave(share.as_ref(), bytes);
        Pending::ready(Err(error))
    }

    fn get(&self, key: RecordKey) -> Pending<Option<Record>> {
        self.ask(|promise| Query::Get(key, promise))
    }

    fn scan(&self, range: Scan) -> Pending<Vec<(Vec<u8>, Record)>> {
        match range.check() {
            Ok(()) => self.ask(|promise| Query::Scan(range, promise)),
            Err(error) => Pending::ready(Err(error)),
        }
    }

    fn salvage(&self, domain: Domain, table: Table, prefix: Vec<u8>) -> Pending<Salvaged> {
        self.ask(|promise| Query::Salvage((domain, table, prefix), promise))
    }

    fn read(&self, query: ReadLog) -> Pending<Page> {
        self.ask(|promise| Query::Read(query, promise))
    }

    fn read_back(&self, query: ReadBack) -> Pending<Page> {
        self.ask(|promise| Query::ReadBack(query, promise))
    }

    fn log_state(&self, owner: Address) -> Pending<LogState> {
        self.ask(|promise| Query::LogState(owner, promise))
    }

    fn accepted(&self, key: Dedup) -> Pending<Option<[u8; 32]>> {
        self.ask(|promise| Query::Accepted(key, promise))
    }

    fn observe(&self, observer: Arc<dyn Observer>) {
        self.shared.set_observer(observer);
    }

    fn incarnation(&self) -> [u8; 16] {
        self.incarnation
    }

    fn stats(&self) -> Stats {
        self.shared.stats()
    }

    fn health(&self) -> Health {
        self.shared.health()
    }

    fn close(&self) -> Pending<()> {
        let (promise, pending) = Pending::promise();
        // Waits for a place in the queue, unlike the rest: closing cannot be refused.
        let _ = self.jobs.send(Job::Close(promise));
        pending
    }
}

impl Drop for SqliteStore {
    fn drop(&mut self) {
        drop(self.close());
        if let Some(writer) = self.writer.take() {
            let _ = writer.join();
        }
    }
}

/// Brings what the write-ahead log holds onto the disk before anybody sees it: a process that was
/// killed before its sync, or whose sync failed, leaves commits there that only the system's
/// cache holds. Answering a repeat of one of them as done would promise too much. The database itself
/// was synced before it was opened.
///
/// Then commits once, while there is room: this shows that the store can be written, and makes
/// the log's memory-mapped index take its blocks. One that finds none later is a signal.
fn secure(connection: &Connection, room: &mut Room) -> Result<(), StoreError> {
    with_room(room, || schema::checkpoint(connection, "TRUNCATE").map_err(open_error))?;
    schema::touch(connection).map_err(open_error)
}

/// Does what a start needs; all of the reserve may be given up for it.
fn with_room<T>(
    room: &mut Room,
    work: impl Fn() -> Result<T, StoreError>,
) -> Result<T, StoreError> {
    loop {
        let (error, lack) = match work() {
            Err(StoreError::NoSpace(lack)) => {
                let lack = room.probe().unwrap_or(lack);
                (StoreError::NoSpace(lack), Some(lack))
            }
            // A quota, or no inodes, say themselves in many ways.
            Err(error @ StoreError::Failed { .. }) => match room.probe() {
                Some(lack) => (StoreError::NoSpace(lack), Some(lack)),
                None => (error, None),
            },
            done => return done,
        };
        match lack {
            // The reserve has bytes, and no inodes to give.
            Some(lack) if lack != Lack::Files && room.run_out(lack, Sake::Operator) => {}
            _ => return Err(error),
        }
    }
}

/// Tells when the writer's thread ends by a panic.
struct Alarm(Arc<Shared>);

impl Drop for Alarm {
    fn drop(&mut self) {
        if thread::panicking() {
            self.0.set_health(Health::Failed("the writer's thread panicked".into()));
        }
    }
}

/// What a unit weighs in the queue beside its bytes.
const UNIT_OVERHEAD_BYTES: usize = 512;

const _: () = assert!(UNITS_QUEUED_MAX * UNIT_OVERHEAD_BYTES > UNIT_BYTES_MAX);
