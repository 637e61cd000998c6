//! Pages of logs, from a place on and from a place back. What cannot be read is passed over and named.

use bytes::Bytes;

use super::fault::Fault;
use super::rows::{Answer, ItemRow, Rows, number, oldest};
use crate::page::Filler;
use crate::plan::LogRow;
use crate::{DAMAGED_MAX, Item, LogState, Page, ReadBack, ReadLog};

/// Reads a page behind a place.
pub(crate) fn read(rows: Rows<'_>, query: &ReadLog) -> Answer<Page> {
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
    page(rows, &log, filler)
}

/// Reads a page in front of a place, the newest first.
pub(crate) fn read_back(rows: Rows<'_>, query: &ReadBack) -> Answer<Page> {
    let (log, _) = rows.log(&query.owner)?;
    let mut filler = Filler::new(query.items_max, query.bytes_max);
    let mut statement = rows.connection.prepare_cached(READ_SEQS_BACK)?;
    let upto = i64::try_from(query.upto).unwrap_or(i64::MAX);
    let mut seqs = statement.query([log.id.cast_signed(), upto])?;
    let (mut last, mut highest) = (None, 0);
    while let Some(row) = seqs.next()? {
        let seq = number(row, 0)?;
        match item(rows, log.id, seq) {
            Ok(None) => filler.pass_over(seq, misled(seq)),
            Ok(Some(_)) if last.is_some_and(|last| seq >= last) => {
                filler.pass_over(seq, misled(seq));
            }
            Ok(Some(item)) => {
                if !filler.take(item) {
                    break;
                }
            }
            Err(Fault::Damaged(what)) => filler.pass_over(seq, what),
            Err(error) => return Err(error),
        }
        last = Some(last.unwrap_or(seq).min(seq));
        highest = highest.max(seq);
        // Who reads on begins in front of these.
        if filler.damaged.len() == DAMAGED_MAX {
            filler.more = seqs.next()?.is_some();
            break;
        }
    }
    // As forwards.
    let asks_for_last = query.upto >= log.last && highest < log.last;
    if asks_for_last && log.custody.max(log.lost) < log.last {
        filler.pass_over(log.last, misled(log.last));
    }
    page(rows, &log, filler)
}

/// The page that was filled, with the log's bounds.
fn page(rows: Rows<'_>, log: &LogRow, filler: Filler) -> Answer<Page> {
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
/// And in front of a place, the newest first.
pub(crate) const READ_SEQS_BACK: &str =
    "SELECT seq FROM item WHERE log = ?1 AND seq <= ?2 ORDER BY seq DESC";
