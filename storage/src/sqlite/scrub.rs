//! Reads everything, a slice at a time, so that damage is found before somebody asks for it and
//! while there is still a backup that is well.
//!
//! When it is time for a slice is left to `writer.rs`; a reader's thread does it.

use std::time::Duration;

use rusqlite::types::{Value, ValueRef};
use rusqlite::{Result, Row, params_from_iter};

use super::digest::{LAYOUTS, Layout, UNCOUNTED, UNLISTED};
use super::fault::Fault;
use super::migrations::{COUNTS_SINCE, TALK_SINCE};
use super::rows::{Rows, named};

/// How far it has come.
#[derive(Debug)]
pub(crate) struct Scrub {
    layouts: &'static [&'static Layout],
    /// How often it has come round.
    round: u64,
    /// Which of the tables.
    table: usize,
    /// The key of the last row that was read in it.
    after: Option<Vec<Value>>,
}

impl Default for Scrub {
    fn default() -> Scrub {
        Scrub { layouts: &LAYOUTS, round: 0, table: 0, after: None }
    }
}

impl Scrub {
    /// Of a store of an earlier format, as far as it has such tables.
    pub(crate) fn of_version(version: u32) -> Scrub {
        let layouts = match version {
            version if version < COUNTS_SINCE => UNCOUNTED,
            version if version < TALK_SINCE => UNLISTED,
            _ => &LAYOUTS,
        };
        Scrub { layouts, ..Scrub::default() }
    }

    /// How often it has come round.
    pub(crate) fn rounds(&self) -> u64 {
        self.round
    }

    /// Reads one slice, and tells what is damaged in it; answers how many bytes it was, about.
    pub(crate) fn slice(&mut self, rows: Rows<'_>) -> Result<u64> {
        let Some(layout) = self.layouts.get(self.table) else {
            (self.round, self.table) = (self.round + 1, 0);
            return Ok(0);
        };
        // SQLite leaves out rows whose keys do not belong where they stand, on the way up those
        // that are too low and on the way down those that are too high. So it goes both ways.
        let (down, mut bytes) = (self.round % 2 == 1, 0);
        match self.walk(rows, layout, down, &mut bytes) {
            Ok(()) => {}
            Err(error) => match Fault::from(error).of(|| layout.name.into()) {
                Fault::Sqlite(error) => return Err(error),
                Fault::Damaged(what) => {
                    rows.told.tell(&what);
                    self.after = None;
                }
            },
        }
        self.table += usize::from(self.after.is_none());
        Ok(bytes)
    }

    fn walk(&mut self, rows: Rows<'_>, layout: &Layout, down: bool, bytes: &mut u64) -> Result<()> {
        // All of it as of one moment.
        let view = rows.connection.unchecked_transaction()?;
        let listed = match (layout.name, rows.about) {
            ("item", Some(_)) | ("talk", _) => rows.listed()?,
            _ => 0,
        };
        let mut statement = view.prepare_cached(&layout.walk(self.after.is_some(), down))?;
        let after = self.after.take().unwrap_or_default();
        let mut last: Option<Vec<Part>> =
            (!after.is_empty()).then(|| after.iter().map(|value| Part::of(value.into())).collect());
        let mut found = statement.query(params_from_iter(after))?;
        let mut looked = 0;
        while let Some(row) = found.next()? {
            if rows.may_use(layout.check(row, 0)?) {
                look_at_order(rows, layout, row, &mut last, down)?;
            }
            *bytes += look(rows, layout, row, listed)?;
            looked += 1;
            for column in 0..layout.columns.len() {
                *bytes += size(row.get_ref(column)?);
            }
            if looked == SLICE_ROWS_MAX || *bytes >= SCRUB_BYTES_PER_SLICE {
                let key = (0..layout.keys).map(|column| row.get(column));
                self.after = Some(key.collect::<Result<_>>()?);
                break;
            }
        }
        Ok(())
    }
}

/// A column of a key, ordered as SQLite orders those of one type.
#[derive(Debug, PartialEq, Eq, PartialOrd, Ord)]
enum Part {
    Number(i64),
    Bytes(Vec<u8>),
}

impl Part {
    fn of(value: ValueRef<'_>) -> Part {
        match value {
            ValueRef::Integer(number) => Part::Number(number),
            ValueRef::Text(bytes) | ValueRef::Blob(bytes) => Part::Bytes(bytes.to_vec()),
            // No key has one.
            ValueRef::Null | ValueRef::Real(_) => Part::Number(0),
        }
    }
}

/// Holds the place of a row against the last one's. The rows of a page that stands where another belongs
/// are each as they were written.
fn look_at_order(
    rows: Rows<'_>,
    layout: &Layout,
    row: &Row<'_>,
    last: &mut Option<Vec<Part>>,
    down: bool,
) -> Result<()> {
    let key = (0..layout.keys).map(|column| row.get_ref(column).map(Part::of));
    let key: Vec<Part> = key.collect::<Result<_>>()?;
    let is_behind = |last: &Vec<Part>| if down { key < *last } else { key > *last };
    if !last.as_ref().is_none_or(is_behind) {
        let what = format!("{}: it stands where it does not belong", name(layout, row)?);
        if layout.name == "talk" { rows.told.tell_of_talk(&what) } else { rows.told.tell(&what) }
    }
    *last = Some(key);
    Ok(())
}

/// Holds a row against its digest, and an item against the indexes too; answers what it has read beside
/// the row.
fn look(rows: Rows<'_>, layout: &Layout, row: &Row<'_>, listed: u64) -> Result<u64> {
    let is_talk = layout.name == "talk";
    if !rows.may_use(layout.check(row, 0)?) {
        let what = format!("{}: it does not fit its digest", name(layout, row)?);
        if is_talk { rows.told.tell_of_talk(&what) } else { rows.told.tell(&what) }
    } else if layout.name == "item" {
        let [log, seq] = [row.get(1)?, row.get(0)?];
        if !is_in_log(rows, log, seq)? {
            rows.told.tell(&format!("item {seq}: the index of items is wrong about it"));
        }
        return rows.look_for_talk(log.cast_unsigned(), seq.cast_unsigned(), listed);
    } else if is_talk && is_listed(row, listed)? && !is_in_log(rows, row.get(0)?, row.get(2)?)? {
        rows.told.tell_of_talk(&format!("{}: it leads to no item", name(layout, row)?));
    }
    Ok(0)
}

/// Whether a row of the index of conversations counts: while that is emptied, none does.
fn is_listed(row: &Row<'_>, listed: u64) -> Result<bool> {
    Ok(row.get::<_, i64>(2)?.cast_unsigned() <= listed)
}

/// Whether the index of items has one.
fn is_in_log(rows: Rows<'_>, log: i64, seq: i64) -> Result<bool> {
    let sql = "SELECT 1 FROM item INDEXED BY item_by_log WHERE log = ?1 AND seq = ?2";
    rows.connection.prepare_cached(sql)?.exists([log, seq])
}

/// What a row is called, as its readers call it.
fn name(layout: &Layout, row: &Row<'_>) -> Result<String> {
    let text = |column| -> Result<String> {
        Ok(match row.get_ref(column)? {
            ValueRef::Integer(number) => number.cast_unsigned().to_string(),
            ValueRef::Text(bytes) => String::from_utf8_lossy(bytes).escape_debug().to_string(),
            ValueRef::Blob(bytes) => bytes.iter().map(|byte| format!("{byte:02x}")).collect(),
            ValueRef::Null | ValueRef::Real(_) => "?".into(),
        })
    };
    Ok(match (layout.name, row.get_ref(1)?, row.get_ref(2.min(layout.columns.len()))?) {
        ("record", ValueRef::Integer(kind), ValueRef::Blob(key)) => {
            named(&text(0)?, kind.clamp(0, 255) as u8, key)
        }
        ("log", ..) => format!("log of {}@{}", text(1)?, text(0)?),
        ("dedup", ..) => format!("de-duplication {}", text(0)?),
        ("talk", ..) => format!("talk of log {}, item {}", text(0)?, text(2)?),
        _ => format!("{} {}", layout.name, text(0)?),
    })
}

/// About what a value takes of a row.
fn size(value: ValueRef<'_>) -> u64 {
    match value {
        ValueRef::Text(bytes) | ValueRef::Blob(bytes) => bytes.len() as u64,
        _ => 8,
    }
}

/// How fast it reads: a gigabyte in an hour or so, and nobody notices.
const SCRUB_BYTES_PER_SLICE: u64 = 256 * 1024;
/// From one slice to the next.
pub(crate) const SCRUB_INTERVAL: Duration = Duration::from_secs(1);
/// Rows read in one slice.
const SLICE_ROWS_MAX: usize = 4096;
