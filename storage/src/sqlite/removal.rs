//! Takes items away, with all that leads to them.
//!
//! Which go is left to `plan.rs` and `sweep.rs`.

use rusqlite::Result;
use rusqlite::types::ValueRef;

use super::digest::{self, BODY, ITEM, stored};
use super::fault::Fault;
use super::kept::LOSABLE;
use super::rows::{Rows, number};
use crate::plan::Kept;

/// Removes items of a log, whichever they are, and bodies that nothing refers to any more. Answers
/// whether it stopped at `items_max`. What is damaged stays where it is, as where logs are trimmed.
pub(crate) fn remove_items(rows: Rows<'_>, log: u64, items_max: usize) -> Result<bool> {
    let mut doomed: Vec<(u64, Option<u64>)> = Vec::new();
    {
        let mut select = rows.connection.prepare_cached(LOSABLE[0])?;
        let mut seqs = select.query([log.cast_signed(), i64::MAX])?;
        while doomed.len() < items_max
            && let Some(row) = seqs.next()?
        {
            let seq = number(row, 0)?;
            match rows.item(seq) {
                Ok(item) if item.log != log => {}
                Ok(item) => doomed.push((seq, item.body)),
                Err(Fault::Damaged(_)) => {}
                Err(Fault::Sqlite(error)) => return Err(error),
            }
        }
    }
    let more = doomed.len() == items_max;
    remove(rows, log, doomed.into_iter())?;
    Ok(more)
}

/// Removes these items of a log, and bodies that nothing refers to any more.
pub(crate) fn remove(
    rows: Rows<'_>,
    log: u64,
    doomed: impl Iterator<Item = (u64, Option<u64>)>,
) -> Result<()> {
    let mut delete = rows.connection.prepare_cached("DELETE FROM item WHERE seq = ?1")?;
    for (seq, body) in doomed {
        rows.unlist(log, seq)?;
        let deleted = delete.execute([seq.cast_signed()])?;
        // An index that was changed may name it twice.
        if let Some(body) = body.filter(|_| deleted == 1) {
            release(rows, body)?;
        }
    }
    Ok(())
}

/// Puts a mark in the place of an item.
pub(crate) fn mark(rows: Rows<'_>, log: u64, item: &Kept, kind: u8) -> Result<()> {
    rows.unlist(log, item.seq)?;
    let sql = "UPDATE item SET log = ?2, kind = ?3, time = ?4, counts = ?5, body = ?6, head = ?7,
               sum = ?8 WHERE seq = ?1";
    let (kind, time) = (ValueRef::Integer(kind.into()), stored(item.time.as_millis()));
    let (none, head) = (ValueRef::Null, ValueRef::Blob(&[]));
    let columns = [stored(item.seq), stored(log), kind, time, none, none, head];
    digest::write(rows.connection, &ITEM, sql, &columns)?;
    item.body.map_or(Ok(()), |body| release(rows, body))
}

/// One item less refers to a body. A damaged one stays: how many do is not known.
fn release(rows: Rows<'_>, id: u64) -> Result<()> {
    let left = rows.body(id, |refs, data| {
        let left = refs.saturating_sub(1);
        Ok((left, BODY.sum(&[stored(id), stored(left), ValueRef::Blob(data)])))
    });
    let connection = rows.connection;
    match left {
        Ok((0, _)) => {
            connection.prepare_cached("DELETE FROM body WHERE id = ?1")?.execute([id.cast_signed()])
        }
        Ok((left, sum)) => connection
            .prepare_cached("UPDATE body SET refs = ?2, sum = ?3 WHERE id = ?1")?
            .execute([id.cast_signed(), left.cast_signed(), sum]),
        Err(Fault::Damaged(_)) => Ok(0),
        Err(Fault::Sqlite(error)) => Err(error),
    }
    .map(drop)
}
