//! The reader threads: each with a connection of its own, fed from one bounded queue.
//!
//! Every answer is read from one committed state of the database. Writing is left to
//! `writer.rs`.

use std::sync::mpsc::{Receiver, SyncSender, sync_channel};
use std::sync::{Arc, Mutex, PoisonError};
use std::thread::{self, JoinHandle};

use bytes::Bytes;
use impp_protocol::{Address, Domain};
use rusqlite::Connection;
use rusqlite::config::DbConfig;

use super::fault::{Fault, open_error};
use super::home::Home;
use super::rows::{Answer, ItemRow, Rows, number, oldest};
use super::salvage::salvage;
use super::schema::connect;
use super::shared::Shared;
use crate::page::Filler;
use crate::pending::Promise;
use crate::{
    Dedup, Item, LogState, Page, ReadLog, Record, RecordKey, Salvaged, Scan, StoreError, Table,
};

/// Most reader threads.
pub const READERS_MAX: usize = 16;

/// A question and where its answer goes.
pub(crate) enum Query {
    Get(RecordKey, Promise<Option<Record>>),
    Scan(Scan, Promise<Vec<(Vec<u8>, Record)>>),
    Salvage(Domain, Table, Promise<Salvaged>),
    Read(ReadLog, Promise<Page>),
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
            Ok(Query::Salvage(domain, table, promise)) => {
                promise.keep(answer(salvage(rows, &domain, table)));
            }
            Ok(Query::Accepted(key, promise)) => {
                let seen = rows.seen(&key).map(|seen| seen.map(|seen| seen.digest));
                promise.keep(answer(seen));
            }
            Ok(Query::Read(query, promise)) => {
                promise.keep(answer(at_once(&mut connection, shared, |rows| read(rows, &query))));
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

fn read(rows: Rows<'_>, query: &ReadLog) -> Answer<Page> {
    let (log, _) = rows.log(&query.owner)?;
    let mut filler = Filler::new(query.items_max, query.bytes_max);
    let mut statement = rows.connection.prepare_cached(READ_SEQS)?;
    let after = i64::try_from(query.after).unwrap_or(i64::MAX);
    let mut seqs = statement.query([log.id.cast_signed(), after])?;
    // The last item of the page, and the highest that the index has led to.
    let (mut last, mut highest) = (query.after, query.after);
    while let Some(row) = seqs.next()? {
        let seq = number(row, 0)?;
        match item(rows, log.id, seq) {
            // Entries of the index that were changed lead to items of others, or to one twice.
            Ok(None) => filler.pass_over(seq, misled(seq)),
            Ok(Some(_)) if seq <= last => filler.pass_over(seq, misled(seq)),
            Ok(Some(item)) => {
                if !filler.take(item) {
                    break;
                }
                last = seq;
            }
            Err(Fault::Damaged(what)) => filler.pass_over(seq, what),
            Err(error) => return Err(error),
        }
        highest = highest.max(seq);
    }
    // The last one is there as long as it is not in custody and not lost, whatever the index says.
    if !filler.more && highest < log.last && log.custody.max(log.lost) < log.last {
        filler.pass_over(log.last, misled(log.last));
    }
    let LogState { oldest, .. } = log.state(oldest(rows.connection, log.id)?);
    let Filler { items, more, damaged, .. } = filler;
    damaged.iter().for_each(|damaged| rows.told.tell(&damaged.what));
    Ok(Page { items, more, damaged, oldest })
}

/// An item of a log with its body; nothing if it is of another log.
fn item(rows: Rows<'_>, log: u64, seq: u64) -> Answer<Option<Item>> {
    let ItemRow { log: of, kind, time, body, head, .. } = rows.item(seq)?;
    let body = match body {
        Some(id) => Some(rows.body(id, |_, data| Ok(Bytes::copy_from_slice(data)))?),
        None => None,
    };
    Ok((of == log).then_some(Item { seq, kind, head, body, time }))
}

fn misled(seq: u64) -> String {
    format!("item {seq}: the index of items is wrong about it")
}

/// The items of a log behind a cursor, as its index says.
pub(crate) const READ_SEQS: &str = "SELECT seq FROM item WHERE log = ?1 AND seq > ?2 ORDER BY seq";

/// Reads waiting for a thread.
const QUERIES_QUEUED_MAX: usize = 4096;
