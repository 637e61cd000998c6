//! A look at all of a store at rest, for its operator: what is damaged in it, by name.
//!
//! It has the store's lock meanwhile, changes nothing in the database, and holds no more than names.

use std::os::unix::fs::MetadataExt;
use std::path::Path;

use rusqlite::Connection;

use super::fault::{Fault, open_error};
use super::home::{Found, Home, at};
use super::migrations::{SUMS_SINCE, TALK_SINCE, WITNESS_SINCE};
use super::pages::{QUICK_CHECK_MAX, check_quickly};
use super::place::{Restored, Verdict, judge};
use super::rows::{self, Rows, number};
use super::schema;
use super::scrub::Scrub;
use super::told::Told;
use super::{beneath, witness};
use crate::{About, StoreError};

/// What was found.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct Examined {
    /// What is damaged, by name; so many at most that nobody would look at each.
    pub damaged: Vec<String>,
    /// Bytes of rows that were held against their digests, each way; zero where rows have none yet.
    pub bytes: u64,
    /// Whether the next start takes it for a copy that was put back or moved.
    pub restored: Option<Restored>,
}

/// Looks at everything in a store that no process has open; with `about`, whether all items are found
/// with whom they are about.
///
/// # Errors
/// [`StoreError`], where it could not be looked at. Damage by which a store does not open is an error
/// too, if there is nothing to go on from.
pub fn examine(dir: &Path, about: Option<About>) -> Result<Examined, StoreError> {
    // A look makes no folder, nor a store in one.
    std::fs::metadata(dir).map_err(at(dir))?;
    let home = Home::take(dir)?;
    if home.look()? == Found::Nothing {
        let reason = "there is no store in it".to_owned();
        return Err(StoreError::Io { path: dir.into(), reason });
    }
    beneath::look(&home)?;
    let connection = schema::connect(&home.database(), false)?;
    let version = schema::check_version(&connection)?;
    let told = Told::default();
    let mut examined = Examined::default();
    if version >= SUMS_SINCE {
        let about = about.filter(|_| version >= TALK_SINCE);
        examined.bytes = rows(&connection, version, &told, about)?;
        bodies(&connection, &told).or_else(|fault| note(&told, fault.of(|| "bodies".into())))?;
    }
    if version >= WITNESS_SINCE {
        let judged = restored(&home, &connection, &told);
        examined.restored = judged.or_else(|error| note(&told, error))?;
    }
    pages(&connection, &told)?;
    examined.damaged = told.names();
    Ok(examined)
}

/// Looks whether a store that no process has open would open, as a start does: its lock, what lies
/// there, its log, its format, its pages as far as a start looks. Nothing is written to the database.
/// `false` if there is none yet.
///
/// # Errors
/// [`StoreError`], as a start would have it.
pub fn glance(dir: &Path) -> Result<bool, StoreError> {
    std::fs::metadata(dir).map_err(at(dir))?;
    let home = Home::take(dir)?;
    if home.look()? == Found::Nothing {
        return Ok(false);
    }
    beneath::look(&home)?;
    let mut connection = schema::connect(&home.database(), false)?;
    schema::check_version(&connection)?;
    check_quickly(&mut connection, QUICK_CHECK_MAX)?;
    Ok(true)
}

/// Holds all rows against their digests, up and down their keys; how many bytes they were.
fn rows(
    connection: &Connection,
    version: u32,
    told: &Told,
    about: Option<About>,
) -> Result<u64, StoreError> {
    let summed = match rows::meta(connection) {
        Ok(meta) => meta.summed,
        Err(fault) => note(told, fault)?,
    };
    let rows = Rows { connection, summed, told, about };
    let (mut scrub, mut bytes) = (Scrub::of_version(version), 0);
    while scrub.rounds() < BOTH_WAYS {
        bytes += scrub.slice(rows).map_err(open_error)?;
    }
    Ok(bytes)
}

/// Whether each item's body is there.
fn bodies(connection: &Connection, told: &Told) -> Result<(), Fault> {
    let sql = "SELECT seq, body FROM item
               WHERE body IS NOT NULL AND body NOT IN (SELECT id FROM body)";
    let mut statement = connection.prepare(sql)?;
    let mut rows = statement.query([])?;
    while let Some(row) = rows.next()? {
        told.tell(&format!("item {}: body {} is missing", number(row, 0)?, number(row, 1)?));
    }
    Ok(())
}

/// What SQLite finds of its pages.
fn pages(connection: &Connection, told: &Told) -> Result<(), StoreError> {
    let found = || -> Result<(), Fault> {
        let mut statement = connection.prepare(&format!("PRAGMA integrity_check({PAGES_MAX})"))?;
        let mut rows = statement.query([])?;
        while let Some(row) = rows.next()? {
            let finding: String = row.get(0)?;
            if finding != "ok" {
                told.tell(&format!("store.sqlite: {finding}"));
            }
        }
        Ok(())
    };
    found().or_else(|fault| note(told, fault.of(|| "store.sqlite".into())))
}

/// What the next start makes of the file beside the database.
fn restored(
    home: &Home,
    connection: &Connection,
    told: &Told,
) -> Result<Option<Restored>, StoreError> {
    let database = home.database();
    let inode = std::fs::metadata(&database).map_err(at(&database))?.ino();
    let place = match rows::place(connection) {
        Err(Fault::Damaged(what)) => {
            told.tell(&what);
            return Ok(Some(Restored::Damaged));
        }
        place => place?,
    };
    let meta = rows::meta(connection)?;
    let verdict = judge(&place, meta.counters.written(), inode, witness::look(home)?);
    Ok(match verdict {
        Verdict::New | Verdict::Same => None,
        Verdict::Restored(why) => Some(why),
    })
}

/// Damage is what is sought; whatever else goes wrong ends the look.
fn note<T: Default>(told: &Told, error: impl Into<StoreError>) -> Result<T, StoreError> {
    match error.into() {
        StoreError::Damaged { what } => {
            told.tell(&what);
            Ok(T::default())
        }
        error => Err(error),
    }
}

/// Rounds of the scrub after which it has gone both ways.
const BOTH_WAYS: u64 = 2;
/// Findings of SQLite that are named.
const PAGES_MAX: u32 = 100;
