//! The reader threads: each with a connection of its own, fed from one bounded queue.
//!
//! Every answer is read from one committed state of the database. Writing is left to
//! `writer.rs`.

use std::sync::mpsc::{Receiver, SyncSender, sync_channel};
use std::sync::{Arc, Mutex, PoisonError};
use std::thread::{self, JoinHandle};

use impp_protocol::{Address, Domain};
use rusqlite::Connection;
use rusqlite::config::DbConfig;

use super::fault::{Fault, open_error};
use super::home::Home;
use super::pages_of::{read, read_back};
use super::rows::{Answer, Rows, oldest};
use super::salvage::salvage;
use super::schema::connect;
use super::shared::Shared;
use crate::pending::Promise;
use crate::{
    Dedup, LogState, Page, ReadBack, ReadLog, Record, RecordKey, Salvaged, Scan, StoreError, Table,
};

/// Most reader threads.
pub const READERS_MAX: usize = 16;

/// A question and where its answer goes.
pub(crate) enum Query {
    Get(RecordKey, Promise<Option<Record>>),
    Scan(Scan, Promise<Vec<(Vec<u8>, Record)>>),
    Salvage((Domain, Table, Vec<u8>), Promise<Salvaged>),
    Read(ReadLog, Promise<Page>),
    ReadBack(ReadBack, Promise<Page>),
    LogState(Address, Promise<LogState>),
    Accepted(Dedup, Promise<Option<[u8; 32]>>),
    /// Reads a slice of all there is.
    Scrub,
    /// Ends one thread.
    Stop,
}

/// The running threads.
#[derive(Debug)]
pub(crate) struct Readers {
    queries: SyncSender<Query>,
    threads: Vec<JoinHandle<()>>,
}

impl Readers {
    /// Starts them, on a database that the writer has opened.
    pub(crate) fn start(
        home: &Home,
        count: usize,
        shared: &Arc<Shared>,
    ) -> Result<Readers, StoreError> {
        let (queries, receiver) = sync_channel(QUERIES_QUEUED_MAX);
        let receiver = Arc::new(Mutex::new(receiver));
        let mut readers = Readers { queries, threads: Vec::new() };
        for number in 0..count.clamp(1, READERS_MAX) {
            let connection = connect(&home.database(), false)?;
            connection
                .set_db_config(DbConfig::SQLITE_DBCONFIG_NO_CKPT_ON_CLOSE, true)
                .map_err(open_error)?;
            let (receiver, shared) = (Arc::clone(&receiver), Arc::clone(shared));
            let thread = thread::Builder::new()
                .name(format!("store-read-{number}"))
                .spawn(move || run(connection, &receiver, &shared))
                .map_err(|e| StoreError::Failed { reason: format!("no thread: {e}") })?;
            readers.threads.push(thread);
        }
        Ok(readers)
    }

    pub(crate) fn queries(&self) -> SyncSender<Query> {
        self.queries.clone()
    }

    /// Asks for a slice of the scrub, if the last one is done and there is a place in the queue.
    pub(crate) fn scrub(&self, shared: &Shared) {
        if shared.begin_scrub() && self.queries.try_send(Query::Scrub).is_err() {
            shared.end_scrub(0);
        }
    }

    /// Ends the threads after what is queued, and closes their connections.
    pub(crate) fn stop(self) {
        for _ in &self.threads {
            let _ = self.queries.send(Query::Stop);
        }
        for thread in self.threads {
            let _ = thread.join();
        }
    }
}

fn run(mut connection: Connection, queries: &Mutex<Receiver<Query>>, shared: &Shared) {
    loop {
        // Whoever holds the lock waits for the next query, the others for the lock.
        let next = queries.lock().unwrap_or_else(PoisonError::into_inner).recv();
        // Before the connection takes its view of the database.
        let rows = shared.rows(&connection);
        match next {
            Ok(Query::Get(key, promise)) => promise.keep(answer(rows.record(&key))),
            Ok(Query::Scan(range, promise)) => promise.keep(answer(rows.scan(&range))),
            Ok(Query::Salvage((domain, table, prefix), promise)) => {
                promise.keep(answer(salvage(rows, &domain, table, prefix)));
            }
            Ok(Query::Accepted(key, promise)) => {
                let seen = rows.seen(&key).map(|seen| seen.map(|seen| seen.digest));
                promise.keep(answer(seen));
            }
            Ok(Query::Read(query, promise)) => {
                promise.keep(answer(at_once(&mut connection, shared, |rows| read(rows, &query))));
            }
            Ok(Query::ReadBack(query, promise)) => {
                let read = |rows: Rows<'_>| read_back(rows, &query);
                promise.keep(answer(at_once(&mut connection, shared, read)));
            }
            Ok(Query::LogState(owner, promise)) => {
                promise.keep(answer(at_once(&mut connection, shared, |rows| {
                    let (row, _) = rows.log(&owner)?;
                    Ok(row.state(oldest(rows.connection, row.id)?))
                })));
            }
            Ok(Query::Scrub) => shared.end_scrub(shared.scrub(rows)),
            Ok(Query::Stop) | Err(_) => break,
        }
    }
}

/// Asks several things of one moment: in one transaction.
fn at_once<T>(
    connection: &mut Connection,
    shared: &Shared,
    ask: impl FnOnce(Rows<'_>) -> Answer<T>,
) -> Answer<T> {
    let transaction = connection.transaction()?;
    ask(shared.rows(&transaction))
}

fn answer<T>(answer: Answer<T>) -> Result<T, StoreError> {
    use rusqlite::ErrorCode::{DatabaseBusy, DatabaseLocked};
    answer.map_err(|fault| match &fault {
        Fault::Sqlite(error)
            if matches!(error.sqlite_error_code(), Some(DatabaseBusy | DatabaseLocked)) =>
        {
            StoreError::Busy
        }
        _ => fault.into(),
    })
}

/// Reads waiting for a thread.
const QUERIES_QUEUED_MAX: usize = 4096;
