//! Looks up the facts that a unit's decision needs, and writes what was decided, inside the
//! writer's transaction.
//!
//! When to begin and commit is left to `writer.rs`, what a unit does to `plan.rs`.

use std::collections::HashMap;

use bytes::Bytes;
use impp_protocol::{Address, Timestamp};
use rusqlite::{Connection, OptionalExtension, Result, params};

use crate::RecordKey;
use crate::plan::{Counters, Facts, LogRow, Plan, Seen, Usage, Write};
use crate::unit::{Dedup, Outcome, TRIM_ITEMS_MAX, Unit};

/// Rows of logs that the writer knows; those touched are written once per group.
#[derive(Debug, Default)]
pub(crate) struct Logs(HashMap<Address, Known>);

#[derive(Clone, Copy, Debug)]
struct Known {
    row: LogRow,
    dirty: bool,
}

impl Logs {
    /// Forgets everything, after a group that did not commit.
    pub(crate) fn clear(&mut self) {
        self.0.clear();
    }

    /// Called between groups, when no row is dirty.
    pub(crate) fn bound(&mut self) {
        if self.0.len() > LOGS_KNOWN_MAX {
            self.0.clear();
        }
    }
}

/// The tables, within a transaction.
pub(crate) struct Tables<'w> {
    pub(crate) connection: &'w Connection,
    pub(crate) logs: &'w mut Logs,
}

impl Tables<'_> {
    /// Writes what was decided of a unit.
    pub(crate) fn carry_out(&mut self, unit: &Unit, plan: Plan<'_>) -> Result<Outcome> {
        if let Some(body) = &plan.body {
            self.connection
                .prepare_cached("INSERT INTO body (id, refs, data) VALUES (?1, ?2, ?3)")?
                .execute(params![body.id.cast_signed(), body.refs.cast_signed(), &body.data[..]])?;
        }
        for write in &plan.writes {
            self.write(unit.time, write)?;
        }
        for (owner, row) in plan.logs {
            self.logs.0.insert(owner.clone(), Known { row, dirty: true });
        }
        if let Some(dedup) = &unit.dedup {
            self.remember(dedup, &plan.seqs)?;
        }
        Ok(Outcome::Committed { seqs: plan.seqs, versions: plan.versions })
    }

    fn write(&mut self, time: Timestamp, write: &Write<'_>) -> Result<()> {
        match write {
            Write::Item { log, seq, append, body, counts } => {
                self.connection
                    .prepare_cached(
                        "INSERT INTO item (seq, log, kind, time, counts, body, head)
                         VALUES (?1, ?2, ?3, ?4, ?5, ?6, ?7)",
                    )?
                    .execute(params![
                        seq.cast_signed(),
                        log.cast_signed(),
                        append.kind,
                        time.as_millis().cast_signed(),
                        counts.map(u64::cast_signed),
                        body.map(u64::cast_signed),
                        &append.head[..],
                    ])?;
            }
            Write::Record { key, version, value } => self.put(key, *version, *value)?,
            Write::Trim { log, upto, before } => {
                remove_items(self.connection, *log, *upto, Some(*before), TRIM_ITEMS_MAX)?;
            }
            Write::Purge { log } => {
                self.connection
                    .prepare_cached("INSERT INTO purged (log) VALUES (?1)")?
                    .execute([log.cast_signed()])?;
            }
        }
        Ok(())
    }

    fn put(&mut self, key: &RecordKey, version: u64, value: Option<&Bytes>) -> Result<()> {
        let (domain, kind) = (key.domain.as_str(), key.table.0);
        match value {
            Some(value) => self
                .connection
                .prepare_cached(
                    "INSERT INTO record (domain, kind, key, version, value)
                     VALUES (?1, ?2, ?3, ?4, ?5)
                     ON CONFLICT DO UPDATE SET version = ?4, value = ?5",
                )?
                .execute(params![domain, kind, key.key, version.cast_signed(), &value[..]])?,
            None => self
                .connection
                .prepare_cached("DELETE FROM record WHERE domain = ?1 AND kind = ?2 AND key = ?3")?
                .execute(params![domain, kind, key.key])?,
        };
        Ok(())
    }

    fn remember(&mut self, dedup: &Dedup, seqs: &[u64]) -> Result<()> {
        let seqs: Vec<u8> = seqs.iter().flat_map(|seq| seq.to_be_bytes()).collect();
        self.connection
            .prepare_cached(
                "INSERT INTO dedup (id, sender, recipient, digest, seqs)
                 VALUES (?1, ?2, ?3, ?4, ?5)",
            )?
            .execute(params![
                dedup.id,
                dedup.from.as_str(),
                dedup.to.as_str(),
                dedup.digest,
                seqs
            ])?;
        Ok(())
    }

    /// Writes what the group left to be written once: the rows of its logs and the counters.
    pub(crate) fn finish_group(&mut self, counters: Counters) -> Result<()> {
        let mut statement = self.connection.prepare_cached(
            "INSERT INTO log
             (domain, local, id, fence, last, custody, unacked_items, unacked_bytes)
             VALUES (?1, ?2, ?3, ?4, ?5, ?6, ?7, ?8)
             ON CONFLICT DO UPDATE SET id = ?3, fence = ?4, last = ?5, custody = ?6,
             unacked_items = ?7, unacked_bytes = ?8",
        )?;
        for (owner, known) in self.logs.0.iter_mut().filter(|(_, known)| known.dirty) {
            let row = known.row;
            statement.execute(params![
                owner.domain_str(),
                owner.local(),
                row.id.cast_signed(),
                row.fence.cast_signed(),
                row.last.cast_signed(),
                row.custody.cast_signed(),
                row.unacked.items.cast_signed(),
                row.unacked.bytes.cast_signed(),
            ])?;
            known.dirty = false;
        }
        self.connection
            .prepare_cached("UPDATE meta SET seq = ?1, version = ?2, dedup_floor = ?3")?
            .execute([
                counters.seq.cast_signed(),
                counters.version.cast_signed(),
                counters.dedup_floor.as_millis().cast_signed(),
            ])?;
        Ok(())
    }
}

impl Facts for Tables<'_> {
    type Error = rusqlite::Error;

    fn log(&mut self, owner: &Address) -> Result<LogRow> {
        if let Some(known) = self.logs.0.get(owner) {
            return Ok(known.row);
        }
        let row = load_log(self.connection, owner)?;
        self.logs.0.insert(owner.clone(), Known { row, dirty: false });
        Ok(row)
    }

    fn version(&mut self, key: &RecordKey) -> Result<Option<u64>> {
        self.connection
            .prepare_cached(
                "SELECT version FROM record WHERE domain = ?1 AND kind = ?2 AND key = ?3",
            )?
            .query_row(params![key.domain.as_str(), key.table.0, key.key], |row| number(row, 0))
            .optional()
    }

    fn seen(&mut self, dedup: &Dedup) -> Result<Option<Seen>> {
        self.connection
            .prepare_cached(
                "SELECT digest, seqs FROM dedup
                 WHERE id = ?1 AND sender = ?2 AND recipient = ?3",
            )?
            .query_row(params![dedup.id, dedup.from.as_str(), dedup.to.as_str()], |row| {
                let seqs = row.get_ref(1)?.as_blob()?;
                let seqs = seqs.as_chunks().0.iter().map(|seq| u64::from_be_bytes(*seq));
                Ok(Seen { digest: row.get(0)?, seqs: seqs.collect() })
            })
            .optional()
    }

    fn counted(&mut self, log: u64, after: u64, upto: u64) -> Result<Usage> {
        self.connection
            .prepare_cached(
                "SELECT count(counts), ifnull(sum(counts), 0) FROM item
                 WHERE log = ?1 AND seq > ?2 AND seq <= ?3",
            )?
            .query_row([log.cast_signed(), after.cast_signed(), upto.cast_signed()], |row| {
                Ok(Usage { items: number(row, 0)?, bytes: number(row, 1)? })
            })
    }
}

/// The row of a log, all zero if there is none.
pub(crate) fn load_log(connection: &Connection, owner: &Address) -> Result<LogRow> {
    let row = connection
        .prepare_cached(
            "SELECT id, fence, last, custody, unacked_items, unacked_bytes FROM log
             WHERE domain = ?1 AND local = ?2",
        )?
        .query_row([owner.domain_str(), owner.local()], |row| {
            Ok(LogRow {
                id: number(row, 0)?,
                fence: number(row, 1)?,
                last: number(row, 2)?,
                custody: number(row, 3)?,
                unacked: Usage { items: number(row, 4)?, bytes: number(row, 5)? },
            })
        })
        .optional()?;
    Ok(row.unwrap_or_default())
}

/// A number without a sign, stored by its bits.
pub(crate) fn number(row: &rusqlite::Row<'_>, column: usize) -> Result<u64> {
    row.get(column).map(i64::cast_unsigned)
}

/// Removes items from a log's start, as long as each is older than `before` if that is said, and
/// bodies that nothing refers to any more. Answers whether it stopped at `items_max`.
pub(crate) fn remove_items(
    connection: &Connection,
    log: u64,
    upto: u64,
    before: Option<Timestamp>,
    items_max: usize,
) -> Result<bool> {
    let mut select = connection.prepare_cached(
        "SELECT seq, body, time FROM item WHERE log = ?1 AND seq <= ?2 ORDER BY seq LIMIT ?3",
    )?;
    let upto = i64::try_from(upto).unwrap_or(i64::MAX);
    let limit = i64::try_from(items_max).unwrap_or(i64::MAX);
    let mut rows = select.query([log.cast_signed(), upto, limit])?;
    let mut doomed: Vec<(i64, Option<i64>)> = Vec::new();
    while let Some(row) = rows.next()? {
        let time = number(row, 2)?;
        if before.is_some_and(|before| time >= before.as_millis()) {
            break;
        }
        doomed.push((row.get(0)?, row.get(1)?));
    }
    let mut delete = connection.prepare_cached("DELETE FROM item WHERE seq = ?1")?;
    let mut release = connection
        .prepare_cached("UPDATE body SET refs = refs - 1 WHERE id = ?1 RETURNING refs")?;
    let mut delete_body = connection.prepare_cached("DELETE FROM body WHERE id = ?1")?;
    for (seq, body) in &doomed {
        delete.execute([seq])?;
        if let Some(body) = body
            && release.query_row([body], |row| row.get::<_, i64>(0)).optional()? == Some(0)
        {
            delete_body.execute([body])?;
        }
    }
    Ok(doomed.len() == items_max)
}

/// Rows of logs remembered between groups.
const LOGS_KNOWN_MAX: usize = 16_384;
