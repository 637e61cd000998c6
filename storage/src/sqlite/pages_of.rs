//! Pages of logs, from a place on and from a place back. What cannot be read is passed over and named.

use bytes::Bytes;
use rusqlite::{Row, params_from_iter};

use super::digest::{TALK, Verdict};
use super::fault::Fault;
use super::rows::{Answer, ItemRow, Rows, number, oldest};
use super::talk::{READ_TALK_BACK, number_of};
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

/// Reads a page in front of a place, the newest first. With one person it goes along all items as far as
/// the index of conversations does not come, and then along that; where that is damaged, along all.
pub(crate) fn read_back(rows: Rows<'_>, query: &ReadBack) -> Answer<Page> {
    let (log, _) = rows.log(&query.owner)?;
    let listed = if query.with.is_some() { rows.listed()? } else { 0 };
    match page_back(rows, query, &log, listed) {
        // It was told.
        Err(Fault::Damaged(_)) if listed > 0 => page_back(rows, query, &log, 0),
        page => page,
    }
}

/// Such a page, where what is up to `listed` is in the index of conversations.
fn page_back(rows: Rows<'_>, query: &ReadBack, log: &LogRow, listed: u64) -> Answer<Page> {
    let filler = Filler::new(query.items_max, query.bytes_max);
    let mut back = Back { rows, log: log.id, filler, last: None, highest: 0 };
    let [id, upto] = [log.id, query.upto.min(i64::MAX.cast_unsigned())].map(u64::cast_signed);
    let has_room = back.walk(READ_SEQS_BACK, &[id, upto], |row| {
        let seq = number(row, 0)?;
        Ok((seq > listed).then_some(seq))
    })?;
    // As forwards.
    let asks_for_last = query.upto >= log.last && back.highest < log.last && log.last > listed;
    if asks_for_last && log.custody.max(log.lost) < log.last {
        back.filler.pass_over(log.last, misled(log.last));
    }
    if let Some(with) = &query.with
        && listed > 0
    {
        let place = [id, number_of(with).cast_signed(), upto.min(listed.cast_signed())];
        if has_room {
            let walked = back.walk(READ_TALK_BACK, &place, |row| {
                let seq = number(row, 2)?;
                if TALK.check(row, 0)? != Verdict::Right {
                    // The item itself is held against its own, and says whose it is.
                    let what = format!("talk of log {id}, item {seq}: it does not fit its digest");
                    rows.told.tell_of_talk(&what);
                }
                Ok(Some(seq))
            });
            walked.map_err(rows.naming(|| format!("talk of log {id}")))?;
        } else {
            // Of what is in the index nothing was looked at.
            back.filler.more = true;
        }
    }
    page(rows, log, back.filler)
}

/// A page that is filled backwards.
struct Back<'r> {
    rows: Rows<'r>,
    log: u64,
    filler: Filler,
    /// The lowest place that was looked at, and the highest.
    last: Option<u64>,
    highest: u64,
}

impl Back<'_> {
    /// Goes along an index, as far as it is told where a row leads to; no, if the page is full.
    fn walk(
        &mut self,
        sql: &str,
        place: &[i64],
        of: impl Fn(&Row<'_>) -> Answer<Option<u64>>,
    ) -> Answer<bool> {
        let mut statement = self.rows.connection.prepare_cached(sql)?;
        let mut rows = statement.query(params_from_iter(place))?;
        while let Some(row) = rows.next()? {
            let Some(seq) = of(row)? else { break };
            if !self.look(seq)? {
                return Ok(false);
            }
            self.last = Some(self.last.unwrap_or(seq).min(seq));
            self.highest = self.highest.max(seq);
            // Who reads on begins in front of these.
            if self.filler.damaged.len() == DAMAGED_MAX {
                self.filler.more = rows.next()?.is_some();
                return Ok(false);
            }
        }
        Ok(true)
    }

    /// Looks at one item; no, if there is no room for it.
    fn look(&mut self, seq: u64) -> Answer<bool> {
        match item(self.rows, self.log, seq) {
            Ok(None) => self.filler.pass_over(seq, misled(seq)),
            Ok(Some(_)) if self.last.is_some_and(|last| seq >= last) => {
                self.filler.pass_over(seq, misled(seq));
            }
            Ok(Some(item)) => return Ok(self.filler.take(item)),
            Err(Fault::Damaged(what)) => self.filler.pass_over(seq, what),
            Err(error) => return Err(error),
        }
        Ok(true)
    }
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
    let (of, item) = rows.whole(seq)?;
    Ok((of == log).then_some(item))
}

impl Rows<'_> {
    /// An item with its body, and whose log it is in.
    pub(crate) fn whole(&self, seq: u64) -> Answer<(u64, Item)> {
        let ItemRow { log, kind, time, body, head, .. } = self.item(seq)?;
        let body = match body {
            Some(id) => Some(self.body(id, |_, data| Ok(Bytes::copy_from_slice(data)))?),
            None => None,
        };
        Ok((log, Item { seq, kind, head, body, time }))
    }
}

fn misled(seq: u64) -> String {
    format!("item {seq}: the index of items is wrong about it")
}

/// The items of a log behind a cursor, as its index says.
pub(crate) const READ_SEQS: &str = "SELECT seq FROM item WHERE log = ?1 AND seq > ?2 ORDER BY seq";
/// And in front of a place, the newest first.
pub(crate) const READ_SEQS_BACK: &str =
    "SELECT seq FROM item WHERE log = ?1 AND seq <= ?2 ORDER BY seq DESC";
