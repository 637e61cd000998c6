//! Removes, a slice at a time, what already cannot be seen any more: items of purged logs, and
//! de-duplication records before the window.
//!
//! When there is time for a slice is left to `writer.rs`.

use impp_protocol::Timestamp;
use rusqlite::{Connection, OptionalExtension, Result};

use super::tables::remove_items;

/// Removes one slice; answers whether there may be more.
pub(crate) fn sweep(connection: &Connection, dedup_floor: Timestamp) -> Result<bool> {
    let items = sweep_purged(connection)?;
    let dedup = sweep_dedup(connection, dedup_floor)?;
    Ok(items || dedup)
}

/// Whether there is anything to sweep.
pub(crate) fn is_due(connection: &Connection, dedup_floor: Timestamp) -> Result<bool> {
    connection
        .prepare_cached(
            "SELECT EXISTS (SELECT 1 FROM purged)
             OR EXISTS (SELECT 1 FROM dedup WHERE id < ?1)",
        )?
        .query_row([first_id(dedup_floor)], |row| row.get(0))
}

fn sweep_purged(connection: &Connection) -> Result<bool> {
    let log: Option<i64> = connection
        .prepare_cached("SELECT log FROM purged LIMIT 1")?
        .query_row([], |row| row.get(0))
        .optional()?;
    let Some(log) = log else { return Ok(false) };
    let more = remove_items(connection, log.cast_unsigned(), u64::MAX, None, SWEEP_ITEMS_MAX)?;
    if !more {
        connection.prepare_cached("DELETE FROM purged WHERE log = ?1")?.execute([log])?;
    }
    Ok(true)
}

fn sweep_dedup(connection: &Connection, floor: Timestamp) -> Result<bool> {
    let floor = first_id(floor);
    let slice_end: Option<[u8; 16]> = connection
        .prepare_cached("SELECT id FROM dedup WHERE id < ?1 ORDER BY id LIMIT 1 OFFSET ?2")?
        .query_row((floor, SWEEP_DEDUP_MAX), |row| row.get(0))
        .optional()?;
    connection
        .prepare_cached("DELETE FROM dedup WHERE id < ?1")?
        .execute([slice_end.unwrap_or(floor)])?;
    Ok(slice_end.is_some())
}

/// The lowest id of a time.
fn first_id(time: Timestamp) -> [u8; 16] {
    (u128::from(time.as_millis()) << 80).to_be_bytes()
}

/// Items of purged logs removed in one slice.
const SWEEP_ITEMS_MAX: usize = 256;
/// De-duplication records removed in one slice, about.
const SWEEP_DEDUP_MAX: i64 = 1024;
