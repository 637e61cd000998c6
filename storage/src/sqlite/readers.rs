//! The reader threads: each with a connection of its own, fed from one bounded queue.
//!
//! Every answer is read from one committed state of the database. Writing is left to
//! `writer.rs`.

use std::sync::mpsc::{Receiver, SyncSender, sync_channel};
use std::sync::{Arc, Mutex, PoisonError};
use std::thread::{self, JoinHandle};

use bytes::Bytes;
use impp_protocol::{Address, Timestamp};
use rusqlite::config::DbConfig;
use rusqlite::{Connection, OptionalExtension, params};

use super::home::Home;
use super::schema::{connect, open_error};
use super::tables::{load_log, number};
use crate::page::Filler;
use crate::pending::Promise;
use crate::{Dedup, Item, LogState, Page, ReadLog, Record, RecordKey, Scan, StoreError};

/// Most reader threads.
pub const READERS_MAX: usize = 16;

/// A question and where its answer goes.
pub(crate) enum Query {
    Get(RecordKey, Promise<Option<Record>>),
    Scan(Scan, Promise<Vec<(Vec<u8>, Record)>>),
    Read(ReadLog, Promise<Page>),
    LogState(Address, Promise<LogState>),
    Accepted(Dedup, Promise<Option<[u8; 32]>>),
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
    pub(crate) fn start(home: &Home, count: usize) -> Result<Readers, StoreError> {
        let (queries, receiver) = sync_channel(QUERIES_QUEUED_MAX);
        let receiver = Arc::new(Mutex::new(receiver));
        let mut readers = Readers { queries, threads: Vec::new() };
        for number in 0..count.clamp(1, READERS_MAX) {
            let connection = connect(&home.database(), false)?;
            connection
                .set_db_config(DbConfig::SQLITE_DBCONFIG_NO_CKPT_ON_CLOSE, true)
                .map_err(open_error)?;
            let receiver = Arc::clone(&receiver);
            let thread = thread::Builder::new()
                .name(format!("store-read-{number}"))
                .spawn(move || run(connection, &receiver))
                .map_err(|e| StoreError::Failed { reason: format!("no thread: {e}") })?;
            readers.threads.push(thread);
        }
        Ok(readers)
    }

    pub(crate) fn queries(&self) -> SyncSender<Query> {
        self.queries.clone()
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

fn run(mut connection: Connection, queries: &Mutex<Receiver<Query>>) {
    loop {
        // Whoever holds the lock waits for the next query, the others for the lock.
        let next = queries.lock().unwrap_or_else(PoisonError::into_inner).recv();
        match next {
            Ok(Query::Get(key, promise)) => promise.keep(answer(get(&connection, &key))),
            Ok(Query::Scan(range, promise)) => promise.keep(answer(scan(&connection, &range))),
            Ok(Query::Read(query, promise)) => promise.keep(answer(read(&mut connection, &query))),
            Ok(Query::LogState(owner, promise)) => {
                promise.keep(answer(log_state(&mut connection, &owner)));
            }
            Ok(Query::Accepted(key, promise)) => {
                promise.keep(answer(accepted(&connection, &key)));
            }
            Ok(Query::Stop) | Err(_) => break,
        }
    }
}

fn answer<T>(result: rusqlite::Result<T>) -> Result<T, StoreError> {
    use rusqlite::ErrorCode::{DatabaseBusy, DatabaseLocked};
    result.map_err(|error| match error.sqlite_error_code() {
        Some(DatabaseBusy | DatabaseLocked) => StoreError::Busy,
        _ => open_error(error),
    })
}

fn get(connection: &Connection, key: &RecordKey) -> rusqlite::Result<Option<Record>> {
    connection
        .prepare_cached(
            "SELECT value, version FROM record WHERE domain = ?1 AND kind = ?2 AND key = ?3",
        )?
        .query_row(params![key.domain.as_str(), key.table.0, key.key], |row| {
            Ok(Record { value: blob(row, 0)?, version: number(row, 1)? })
        })
        .optional()
}

fn accepted(connection: &Connection, key: &Dedup) -> rusqlite::Result<Option<[u8; 32]>> {
    connection
        .prepare_cached(
            "SELECT digest FROM dedup WHERE id = ?1 AND sender = ?2 AND recipient = ?3",
        )?
        .query_row(params![key.id, key.from.as_str(), key.to.as_str()], |row| row.get(0))
        .optional()
}

fn scan(connection: &Connection, range: &Scan) -> rusqlite::Result<Vec<(Vec<u8>, Record)>> {
    let mut statement = connection.prepare_cached(
        "SELECT key, value, version FROM record
         WHERE domain = ?1 AND kind = ?2 AND key >= ?3 ORDER BY key",
    )?;
    let from = match &range.after {
        Some(after) if *after > range.prefix => after,
        _ => &range.prefix,
    };
    let mut rows = statement.query(params![range.domain.as_str(), range.table.0, from])?;
    let mut found = Vec::new();
    while found.len() < range.max
        && let Some(row) = rows.next()?
    {
        let key: Vec<u8> = row.get(0)?;
        if !key.starts_with(&range.prefix) {
            break;
        }
        if range.after.as_ref().is_none_or(|after| key > *after) {
            found.push((key, Record { value: blob(row, 1)?, version: number(row, 2)? }));
        }
    }
    Ok(found)
}

fn read(connection: &mut Connection, query: &ReadLog) -> rusqlite::Result<Page> {
    // One transaction, so that items and bounds are of one moment.
    let transaction = connection.transaction()?;
    let row = load_log(&transaction, &query.owner)?;
    let mut filler = Filler::new(query.items_max, query.bytes_max);
    {
        let mut statement = transaction.prepare_cached(READ_ITEMS)?;
        let after = i64::try_from(query.after).unwrap_or(i64::MAX);
        let mut rows = statement.query([row.id.cast_signed(), after])?;
        while let Some(row) = rows.next()? {
            if !filler.take(item(row)?) {
                break;
            }
        }
    }
    let LogState { oldest, .. } = row.state(oldest(&transaction, row.id)?);
    Ok(Page { items: filler.items, more: filler.more, oldest })
}

fn log_state(connection: &mut Connection, owner: &Address) -> rusqlite::Result<LogState> {
    let transaction = connection.transaction()?;
    let row = load_log(&transaction, owner)?;
    Ok(row.state(oldest(&transaction, row.id)?))
}

fn oldest(connection: &Connection, log: u64) -> rusqlite::Result<Option<u64>> {
    connection
        .prepare_cached("SELECT seq FROM item WHERE log = ?1 ORDER BY seq LIMIT 1")?
        .query_row([log.cast_signed()], |row| number(row, 0))
        .optional()
}

fn item(row: &rusqlite::Row<'_>) -> rusqlite::Result<Item> {
    let body = row.get_ref(4)?.as_blob_or_null()?;
    Ok(Item {
        seq: number(row, 0)?,
        kind: row.get(1)?,
        time: Timestamp::from_millis(number(row, 2)?),
        head: blob(row, 3)?,
        body: body.map(Bytes::copy_from_slice),
    })
}

fn blob(row: &rusqlite::Row<'_>, column: usize) -> rusqlite::Result<Bytes> {
    Ok(Bytes::copy_from_slice(row.get_ref(column)?.as_blob()?))
}

/// Items of a log behind a cursor, with their bodies.
pub(crate) const READ_ITEMS: &str = "
    SELECT item.seq, item.kind, item.time, item.head, body.data
    FROM item LEFT JOIN body ON body.id = item.body
    WHERE item.log = ?1 AND item.seq > ?2 ORDER BY item.seq";

/// Reads waiting for a thread.
const QUERIES_QUEUED_MAX: usize = 4096;
