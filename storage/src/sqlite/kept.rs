//! What is counted beside the rows: of each log what its owner may lose, and how many ids of each sender
//! are known.
//!
//! Both follow from other rows. Where a count of a log is missing or damaged it is made anew; one of a
//! sender's ids begins at nothing, and is right again when those that were there are swept. Up to where
//! a log has lost items follows from no other row: of a damaged one as much is taken for lost as can
//! have been, so that nobody is told that nothing is missing where something is.

use impp_protocol::Address;
use rusqlite::{Connection, OptionalExtension, Result};

use super::digest::{self, Inserts, KEPT, SENDER, stored, text};
use super::fault::Fault;
use super::rows::{Answer, ItemRow, Rows, number};
use crate::plan::{Kept, LogRow, Usage};

/// A row of `kept`.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) struct Count {
    log: u64,
    losable: Usage,
    lost: u64,
}

impl Count {
    /// As it is to be on the disk, if there is such a log.
    pub(crate) fn of(row: &LogRow) -> Option<Count> {
        let LogRow { id: log, losable, lost, .. } = *row;
        (log != 0).then_some(Count { log, losable, lost })
    }

    pub(crate) fn write(&self, inserts: &mut Inserts<'_>) -> Result<()> {
        let sql = "INSERT INTO kept (log, items, bytes, lost, sum) VALUES (?1, ?2, ?3, ?4, ?5)
                   ON CONFLICT DO UPDATE SET items = ?2, bytes = ?3, lost = ?4, sum = ?5";
        let Usage { items, bytes } = self.losable;
        let columns = [self.log, items, bytes, self.lost].map(stored);
        inserts.write(&KEPT, sql, &columns)
    }

    /// Into the row of its log.
    fn put(&self, row: &mut LogRow) {
        (row.losable, row.lost) = (self.losable, self.lost);
    }
}

/// Forgets the count of a log that is purged.
pub(crate) fn forget(connection: &Connection, log: u64) -> Result<()> {
    connection.prepare_cached("DELETE FROM kept WHERE log = ?1")?.execute([log.cast_signed()])?;
    Ok(())
}

impl Rows<'_> {
    /// Puts what is counted of a log into its row, and answers it if it is known.
    pub(crate) fn put_count(&self, row: &mut LogRow) -> Result<Option<Count>> {
        let sql = "SELECT log, items, bytes, lost, sum FROM kept WHERE log = ?1";
        let mut statement = self.connection.prepare_cached(sql)?;
        let mut rows = statement.query([row.id.cast_signed()])?;
        // A store of before: it has lost nothing of the kind.
        let Some(found) = rows.next()? else { return Ok(None) };
        if !self.may_use(KEPT.check(found, 0)?) {
            self.told.tell(&format!("kept {}: it does not fit its digest", row.id));
            row.lost = self.lost_at_most(row)?;
            return Ok(None);
        }
        let losable = Usage { items: number(found, 1)?, bytes: number(found, 2)? };
        let count = Count { log: row.id, losable, lost: number(found, 3)? };
        count.put(row);
        Ok(Some(count))
    }

    /// Up to where items may have been lost that were not in custody. The oldest go first: one that is
    /// there had its turn behind all that went.
    fn lost_at_most(&self, row: &LogRow) -> Result<u64> {
        let mut statement = self.connection.prepare_cached(LOSABLE[1])?;
        let mut seqs = statement.query([row.id, row.custody].map(u64::cast_signed))?;
        while let Some(found) = seqs.next()? {
            let seq = number(found, 0)?;
            // A damaged one may be one that could not go.
            if self.kept_item(row.id, seq)?.is_some() {
                return Ok(seq - 1);
            }
        }
        Ok(row.last)
    }

    /// Counts what the owner of a log may lose; what cannot be read counts for nothing. It reads all of
    /// the log, once.
    pub(crate) fn count_losable(&self, row: &LogRow) -> Result<Usage> {
        let sql = "SELECT count(*), ifnull(sum(length(head) + ifnull(
                       (SELECT length(data) FROM body WHERE body.id = item.body), 0)), 0)
                   FROM item WHERE log = ?1 AND (counts IS NULL OR seq <= ?2)";
        let mut statement = self.connection.prepare_cached(sql)?;
        let place = [row.id.cast_signed(), row.custody.cast_signed()];
        let counted = statement
            .query_row(place, |row| Ok(Usage { items: number(row, 0)?, bytes: number(row, 1)? }));
        let named = |error| Fault::from(error).of(|| format!("the items of log {}", row.id));
        match counted.map_err(named) {
            Ok(usage) => Ok(usage),
            Err(Fault::Sqlite(error)) => Err(error),
            Err(Fault::Damaged(what)) => {
                self.told.tell(&what);
                Ok(Usage::default())
            }
        }
    }

    /// An item as it is looked at because it may go; nothing if it is damaged, or none of this log.
    pub(crate) fn kept_item(&self, log: u64, seq: u64) -> Result<Option<Kept>> {
        match self.item(seq) {
            Ok(item) if item.log == log => self.as_kept(seq, &item).map(Some),
            Ok(_) | Err(Fault::Damaged(_)) => Ok(None),
            Err(Fault::Sqlite(error)) => Err(error),
        }
    }

    /// The item of a log at a place; nothing if none is there.
    pub(crate) fn kept_at(&self, log: u64, seq: u64) -> Answer<Option<Kept>> {
        let sql = "SELECT 1 FROM item WHERE seq = ?1";
        if !self.connection.prepare_cached(sql)?.exists([seq.cast_signed()])? {
            return Ok(None);
        }
        let item = self.item(seq)?;
        Ok(if item.log == log { Some(self.as_kept(seq, &item)?) } else { None })
    }

    fn as_kept(&self, seq: u64, item: &ItemRow) -> Result<Kept> {
        let ItemRow { kind, time, counts, body, .. } = *item;
        let (refs, of_body) = body.map_or(Ok((0, 0)), |id| self.body_bytes(id))?;
        let bytes = of_body.saturating_add(item.head.len() as u64);
        let shared = if refs > 1 { of_body } else { 0 };
        Ok(Kept { seq, kind, time, bytes, shared, counts, body })
    }

    /// How many refer to a body, and its bytes, whatever its digest says; zero if it is missing.
    fn body_bytes(&self, id: u64) -> Result<(u64, u64)> {
        let mut statement =
            self.connection.prepare_cached("SELECT refs, length(data) FROM body WHERE id = ?1")?;
        let found =
            statement.query_row([id.cast_signed()], |row| Ok((number(row, 0)?, number(row, 1)?)));
        Ok(found.optional()?.unwrap_or_default())
    }

    /// How many ids of a sender are known.
    pub(crate) fn known(&self, from: &str) -> Result<u64> {
        let sql = "SELECT address, known, sum FROM sender WHERE address = ?1";
        let mut statement = self.connection.prepare_cached(sql)?;
        let mut rows = statement.query([from])?;
        let Some(row) = rows.next()? else { return Ok(0) };
        if !self.may_use(SENDER.check(row, 0)?) {
            self.told.tell(&format!("sender {}: it does not fit its digest", from.escape_debug()));
            return Ok(0);
        }
        number(row, 1)
    }

    /// So many of a sender's are forgotten.
    pub(crate) fn less_known(&self, from: &str, less: u64) -> Result<()> {
        let known = self.known(from)?.saturating_sub(less);
        self.set_known(from, known)
    }

    fn set_known(&self, from: &str, known: u64) -> Result<()> {
        if known == 0 {
            let sql = "DELETE FROM sender WHERE address = ?1";
            return self.connection.prepare_cached(sql)?.execute([from]).map(drop);
        }
        digest::write(self.connection, &SENDER, PUT_SENDER, &[text(from), stored(known)])
    }
}

/// Writes how many ids of a sender are known, one at least.
pub(crate) fn write_known(inserts: &mut Inserts<'_>, from: &Address, known: u64) -> Result<()> {
    inserts.write(&SENDER, PUT_SENDER, &[text(from.as_str()), stored(known)])
}

const PUT_SENDER: &str = "INSERT INTO sender (address, known, sum) VALUES (?1, ?2, ?3)
                          ON CONFLICT DO UPDATE SET known = ?2, sum = ?3";

/// The items of a log in custody, and those behind a place that are not counted.
pub(crate) const LOSABLE: [&str; 2] = [
    "SELECT seq FROM item WHERE log = ?1 AND seq <= ?2 ORDER BY seq",
    "SELECT seq FROM item WHERE log = ?1 AND seq > ?2 AND counts IS NULL ORDER BY seq",
];
