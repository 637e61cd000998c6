//! Removes, a slice at a time, what already cannot be seen any more: items of purged logs, and
//! de-duplication records below the floor. That floor is durable before the first of them goes, in
//! the same transaction or an earlier one: whatever is swept, nothing as old is accepted again.
//!
//! When there is time for a slice is left to `writer.rs`.

use std::collections::BTreeMap;

use impp_protocol::Timestamp;
use rusqlite::{Connection, OptionalExtension, Result};

use super::digest::{PURGED, Verdict};
use super::removal::remove_items;
use super::rows::Rows;
use crate::unit::{Op, time_of};

/// How much is removed in one slice.
#[derive(Clone, Copy, Debug)]
pub(crate) struct Slice {
    /// Items of purged logs.
    items: usize,
    /// De-duplication records, about.
    dedup: i64,
}

impl Slice {
    /// Where there is room.
    pub(crate) const LARGE: Slice = Slice { items: 256, dedup: 1024 };
    /// On a full disk: what writing it needs is little, and it makes room.
    pub(crate) const SMALL: Slice = Slice { items: 16, dedup: 64 };
}

/// Removes one slice; answers whether there may be more.
pub(crate) fn sweep(rows: Rows<'_>, dedup_floor: Timestamp, most: Slice) -> Result<bool> {
    let items = sweep_purged(rows, most.items)?;
    let dedup = sweep_dedup(rows, dedup_floor, most.dedup)?;
    Ok(items || dedup)
}

/// Whether an operation leaves something to sweep.
pub(crate) fn follows(op: &Op) -> bool {
    matches!(op, Op::Purge { .. } | Op::ExpireDedup { .. })
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

fn sweep_purged(rows: Rows<'_>, most: usize) -> Result<bool> {
    let log: Option<(i64, Verdict)> = rows
        .connection
        .prepare_cached("SELECT log, sum FROM purged LIMIT 1")?
        .query_row([], |row| Ok((row.get(0)?, PURGED.check(row, 0)?)))
        .optional()?;
    let Some((log, verdict)) = log else { return Ok(false) };
    let more = if rows.may_use(verdict) {
        remove_items(rows, log.cast_unsigned(), most)?
    } else {
        // It may name a log that nobody has purged.
        rows.told.tell(&format!("purged {log}: it does not fit its digest"));
        false
    };
    if !more {
        rows.connection.prepare_cached("DELETE FROM purged WHERE log = ?1")?.execute([log])?;
    }
    Ok(true)
}

fn sweep_dedup(rows: Rows<'_>, floor: Timestamp, most: i64) -> Result<bool> {
    let floor = first_id(floor);
    let slice_end: Option<[u8; 16]> = rows
        .connection
        .prepare_cached("SELECT id FROM dedup WHERE id < ?1 ORDER BY id LIMIT 1 OFFSET ?2")?
        .query_row((floor, most), |row| row.get(0))
        .optional()?;
    let mut senders: BTreeMap<String, u64> = BTreeMap::new();
    {
        let sql = "DELETE FROM dedup WHERE id < ?1 RETURNING sender";
        let mut delete = rows.connection.prepare_cached(sql)?;
        let mut deleted = delete.query([slice_end.unwrap_or(floor)])?;
        while let Some(row) = deleted.next()? {
            // One that was damaged may be no text.
            if let Ok(sender) = row.get(0) {
                *senders.entry(sender).or_default() += 1;
            }
        }
    }
    for (sender, less) in senders {
        rows.less_known(&sender, less)?;
    }
    Ok(slice_end.is_some())
}

/// The time of the newest id before a time under which something was accepted.
pub(crate) fn newest(connection: &Connection, before: Timestamp) -> Result<Option<Timestamp>> {
    connection
        .prepare_cached("SELECT id FROM dedup WHERE id < ?1 ORDER BY id DESC LIMIT 1")?
        .query_row([first_id(before)], |row| {
            // One that was damaged may have another length.
            let mut id = [0; 16];
            row.get_ref(0)?.as_blob()?.iter().zip(&mut id).for_each(|(from, to)| *to = *from);
            Ok(time_of(&id))
        })
        .optional()
}

/// The lowest id of a time.
fn first_id(time: Timestamp) -> [u8; 16] {
    (u128::from(time.as_millis()) << 80).to_be_bytes()
}
