//! How a database is made, brought to the newest version, and opened.
//!
//! What the versions are is left to `migrations.rs`, reading and writing the rows to `tables.rs`, `readers.rs` and `sweep.rs`.

use std::path::Path;
use std::time::Duration;

use rusqlite::config::DbConfig;
use rusqlite::{Connection, OpenFlags};

use super::beneath;
use super::fault::open_error;
use super::home::{Found, Home};
use super::migrations::MIGRATIONS;
use super::pages::{QUICK_CHECK_MAX, check, check_quickly, damaged};
use super::rows::{self, Meta};
use super::tables::write_meta;
use crate::StoreError;
use crate::memory::random_incarnation;
use crate::plan::Counters;

/// Marks a database as ours, in its header: "IMPP".
pub(crate) const APPLICATION_ID: u32 = 0x494d_5050;

/// The newest format known.
pub(crate) const SCHEMA_VERSION: u32 = MIGRATIONS.len() as u32;

/// Opens the database for the writer: made, migrated and looked over.
pub(crate) fn open(home: &Home, verify: bool) -> Result<Connection, StoreError> {
    match home.look()? {
        Found::Nothing => make(home)?,
        // A file that was copied there may be in the system's cache alone.
        Found::Store => home.sync_database()?,
    }
    let cut_off = home.was_cut_off();
    beneath::look(home)?;
    let mut connection = connect(&home.database(), true)?;
    // Until the format is known to be ours, not even a checkpoint may change the file.
    connection
        .set_db_config(DbConfig::SQLITE_DBCONFIG_NO_CKPT_ON_CLOSE, true)
        .map_err(open_error)?;
    check_version(&connection)?;
    migrate(&mut connection, MIGRATIONS)?;
    look_over(&connection)?;
    if verify {
        check(&connection, "integrity_check(1)")?;
    } else if cut_off {
        check_quickly(&mut connection, QUICK_CHECK_MAX)?;
    }
    Ok(connection)
}

/// A connection with this program's settings.
pub(crate) fn connect(path: &Path, write: bool) -> Result<Connection, StoreError> {
    let mode =
        if write { OpenFlags::SQLITE_OPEN_READ_WRITE } else { OpenFlags::SQLITE_OPEN_READ_ONLY };
    let flags = mode | OpenFlags::SQLITE_OPEN_NO_MUTEX | OpenFlags::SQLITE_OPEN_NOFOLLOW;
    let connection = Connection::open_with_flags(path, flags).map_err(open_error)?;
    let set = || -> rusqlite::Result<()> {
        connection.busy_timeout(BUSY_TIMEOUT)?;
        connection.set_prepared_statement_cache_capacity(STATEMENTS_MAX);
        // Statistics are compiled in, and with them a plan hangs on the values bound: nearly every
        // read would compile its statement anew. Ours are planned for any values.
        connection.set_db_config(DbConfig::SQLITE_DBCONFIG_ENABLE_QPSG, true)?;
        connection.set_db_config(DbConfig::SQLITE_DBCONFIG_DEFENSIVE, true)?;
        connection.set_db_config(DbConfig::SQLITE_DBCONFIG_TRUSTED_SCHEMA, false)?;
        // A memory map would turn a bad sector into a signal that ends the process.
        connection.pragma_update(None, "mmap_size", 0)?;
        connection.pragma_update(None, "temp_store", "MEMORY")?;
        connection.pragma_update(None, "cache_size", -CACHE_KIB)?;
        if write {
            connection.pragma_update(None, "journal_mode", "WAL")?;
            connection.pragma_update(None, "synchronous", "FULL")?;
            connection.pragma_update(None, "journal_size_limit", WAL_KEPT_BYTES_MAX)?;
        }
        Ok(())
    };
    set().map_err(open_error)?;
    Ok(connection)
}

/// Copies the write-ahead log into the database, and syncs both. Unlike SQLite's automatic
/// checkpoint, it says when that fails.
pub(crate) fn checkpoint(connection: &Connection, mode: &str) -> rusqlite::Result<()> {
    connection.query_row(&format!("PRAGMA wal_checkpoint({mode})"), [], |_| Ok(()))
}

/// Gives back to the file system some of the pages that deletions left free.
pub(crate) fn vacuum(connection: &Connection) -> rusqlite::Result<()> {
    let free: u64 =
        connection.pragma_query_value(None, "freelist_count", |row| rows::number(row, 0))?;
    if free > 0 {
        let mut statement =
            connection.prepare_cached(&format!("PRAGMA incremental_vacuum({VACUUM_PAGES_MAX})"))?;
        let mut rows = statement.query([])?;
        while rows.next()?.is_some() {}
    }
    Ok(())
}

/// Commits, without a change.
pub(crate) fn touch(connection: &Connection) -> rusqlite::Result<()> {
    connection.pragma_update(None, "user_version", SCHEMA_VERSION)
}

/// Makes a database aside, then puts it in place: a crash leaves none or a whole one.
fn make(home: &Home) -> Result<(), StoreError> {
    let path = home.draft()?;
    let mut connection = Connection::open_with_flags(&path, OpenFlags::SQLITE_OPEN_READ_WRITE)
        .map_err(open_error)?;
    prepare(&connection).map_err(open_error)?;
    migrate(&mut connection, MIGRATIONS)?;
    let incarnation = random_incarnation()?;
    let meta = Meta { incarnation, counters: Counters::default(), summed: true };
    write_meta(&connection, &meta).map_err(open_error)?;
    connection.close().map_err(|(_, error)| open_error(error))?;
    home.adopt_draft()
}

/// What must be set before the first table.
fn prepare(connection: &Connection) -> rusqlite::Result<()> {
    // Lets a full disk get back what was deleted (`room.rs`).
    connection.pragma_update(None, "auto_vacuum", "INCREMENTAL")?;
    connection.pragma_update(None, "application_id", APPLICATION_ID)
}

/// The format, if it is one that is known.
pub(crate) fn check_version(connection: &Connection) -> Result<u32, StoreError> {
    let found = version(connection).map_err(open_error)?;
    if found > SCHEMA_VERSION {
        return Err(StoreError::Newer { found, known: SCHEMA_VERSION });
    }
    if found == 0 {
        return Err(StoreError::Damaged { what: "the database has no format".into() });
    }
    Ok(found)
}

fn version(connection: &Connection) -> rusqlite::Result<u32> {
    connection.pragma_query_value(None, "user_version", |row| row.get(0))
}

fn migrate(connection: &mut Connection, steps: &[&str]) -> Result<(), StoreError> {
    let mut run = || -> rusqlite::Result<()> {
        // Else no step may change the words of a table.
        connection.set_db_config(DbConfig::SQLITE_DBCONFIG_DEFENSIVE, false)?;
        let from = version(connection)?;
        for (number, step) in (1u32..).zip(steps).skip_while(|(number, _)| *number <= from) {
            let transaction = connection.transaction()?;
            transaction.execute_batch(step)?;
            transaction.pragma_update(None, "user_version", number)?;
            transaction.commit()?;
        }
        connection.set_db_config(DbConfig::SQLITE_DBCONFIG_DEFENSIVE, true)?;
        Ok(())
    };
    run().map_err(open_error)
}

/// What can be told of a database's health without reading all of it.
fn look_over(connection: &Connection) -> Result<(), StoreError> {
    let seq = rows::meta(connection)?.counters.seq;
    let last: u64 = connection
        .query_row("SELECT ifnull(max(seq), 0) FROM item", [], |row| rows::number(row, 0))
        .map_err(open_error)?;
    if last > seq {
        return Err(damaged("an item is newer than the counter of items"));
    }
    Ok(())
}

/// Pages given back to the file system at once.
const VACUUM_PAGES_MAX: u64 = 512;
/// How long to wait for a lock that another process (a backup) holds.
const BUSY_TIMEOUT: Duration = Duration::from_secs(5);
/// Prepared statements kept per connection; more than this program has.
const STATEMENTS_MAX: usize = 64;
/// Page cache per connection.
const CACHE_KIB: i64 = 16 * 1024;
/// What the write-ahead log is cut back to after a burst.
const WAL_KEPT_BYTES_MAX: i64 = 64 * 1024 * 1024;

#[cfg(test)]
pub(crate) mod tests {
    use super::*;

    /// An empty database of a version.
    pub(crate) fn at_version(version: usize) -> Connection {
        let mut connection = Connection::open_in_memory().unwrap();
        migrate(&mut connection, &MIGRATIONS[..version]).unwrap();
        connection
    }

    /// Brings a database to the newest version.
    pub(crate) fn bring_up(connection: &mut Connection) {
        migrate(connection, MIGRATIONS).unwrap();
    }

    fn schema(connection: &Connection) -> Vec<(String, String)> {
        let sql = "SELECT name, ifnull(sql, '') FROM sqlite_schema ORDER BY name";
        let mut statement = connection.prepare(sql).unwrap();
        let rows = statement.query_map([], |row| Ok((row.get(0)?, row.get(1)?))).unwrap();
        rows.map(Result::unwrap).collect()
    }

    /// G14: whatever version a database has, the rest of the list brings it to the newest.
    #[test]
    fn g14_migrations_run_from_each_version() {
        let longer: Vec<&str> = MIGRATIONS
            .iter()
            .copied()
            .chain(["ALTER TABLE purged ADD COLUMN why TEXT", "CREATE TABLE more (a) STRICT;"])
            .take(MIGRATIONS.len() + 1)
            .collect();
        for steps in [MIGRATIONS, &longer] {
            let mut fresh = Connection::open_in_memory().unwrap();
            migrate(&mut fresh, steps).unwrap();
            assert_eq!(version(&fresh).unwrap() as usize, steps.len());
            for from in 0..steps.len() {
                let mut old = Connection::open_in_memory().unwrap();
                migrate(&mut old, &steps[..from]).unwrap();
                migrate(&mut old, steps).unwrap();
                assert_eq!(schema(&old), schema(&fresh), "from {from}");
                assert_eq!(version(&old).unwrap(), version(&fresh).unwrap());
            }
        }
    }

    /// A step that fails leaves the version before it.
    #[test]
    fn a_migration_is_whole_or_not_at_all() {
        use crate::sqlite::migrations::V1;
        let mut connection = Connection::open_in_memory().unwrap();
        let steps = [V1, "CREATE TABLE half (a) STRICT; CREATE TABLE purged (b)"];
        assert!(migrate(&mut connection, &steps).is_err());
        assert_eq!(version(&connection).unwrap(), 1);
        assert!(!schema(&connection).iter().any(|(name, _)| name == "half"));
    }

    /// A page of a log is one walk along the index, whatever the log's length.
    #[test]
    fn reading_a_log_seeks_its_cursor() {
        let mut connection = Connection::open_in_memory().unwrap();
        migrate(&mut connection, MIGRATIONS).unwrap();
        use crate::sqlite::pages_of::{READ_SEQS, READ_SEQS_BACK};
        for (sql, sign) in [(READ_SEQS, ">"), (READ_SEQS_BACK, "<")] {
            let mut statement = connection.prepare(&format!("EXPLAIN QUERY PLAN {sql}")).unwrap();
            let rows = statement.query_map([1, 1], |row| row.get(3)).unwrap();
            let steps: Vec<String> = rows.map(Result::unwrap).collect();
            let walk =
                format!("SEARCH item USING COVERING INDEX item_by_log (log=? AND rowid{sign}?)");
            assert_eq!(steps, [walk]);
        }
    }

    /// And of a conversation, along its own.
    #[test]
    fn reading_a_conversation_seeks_its_cursor() {
        let mut connection = Connection::open_in_memory().unwrap();
        migrate(&mut connection, MIGRATIONS).unwrap();
        let sql = format!("EXPLAIN QUERY PLAN {}", crate::sqlite::talk::READ_TALK_BACK);
        let mut statement = connection.prepare(&sql).unwrap();
        let rows = statement.query_map([1, 1, 1], |row| row.get(3)).unwrap();
        let steps: Vec<String> = rows.map(Result::unwrap).collect();
        assert_eq!(steps, ["SEARCH talk USING PRIMARY KEY (log=? AND other=? AND seq<?)"]);
    }

    /// Whatever values are bound, no statement is compiled a second time; by the writer's connection
    /// and by a reader's.
    #[test]
    fn a_statement_is_not_compiled_anew_for_other_values() {
        let folder = tempfile::tempdir().unwrap();
        let path = folder.path().join("db");
        let mut made = Connection::open(&path).unwrap();
        migrate(&mut made, MIGRATIONS).unwrap();
        drop(made);
        for writes in [true, false] {
            let connection = connect(&path, writes).unwrap();
            let mut log = connection.prepare(crate::sqlite::pages_of::READ_SEQS).unwrap();
            let mut records = connection.prepare(crate::sqlite::rows::SCAN_RECORDS).unwrap();
            for n in 0..20_i64 {
                assert!(log.query([n, n * 7]).unwrap().next().unwrap().is_none());
                let key = vec![n as u8; n as usize];
                let domain = format!("d{n}.example");
                let mut found = records.query(rusqlite::params![domain, n, key]).unwrap();
                assert!(found.next().unwrap().is_none());
            }
            for statement in [&log, &records] {
                let anew = statement.get_status(rusqlite::StatementStatus::RePrepare);
                assert_eq!(anew, 0, "compiled anew");
            }
        }
    }
}
