//! Looks up the facts that a unit's decision needs, and writes what was decided, inside the
//! writer's transaction.
//!
//! When to begin and commit is left to `writer.rs`, what a unit does to `plan.rs`.

use bytes::Bytes;
use impp_protocol::{Address, Timestamp};
use rusqlite::types::ValueRef;
use rusqlite::{Connection, OptionalExtension, Result, params};

use super::digest::{
    self, BODY, DEDUP, ITEM, Inserts, LOG, META, PLACE, PURGED, RECORD, stored, text,
};
use super::fault::Fault;
use super::kept::{self, Count, LOSABLE};
use super::known::{Known, Logs, Sender};
use super::place::Place;
use super::recent::Looked;
use super::removal::{mark, remove};
use super::rows::{Answer, ItemRow, Meta, Rows, number};
use super::sweep;
use crate::RecordKey;
use crate::plan::{Counters, Facts, Kept, LogRow, Plan, Seen, Usage, Write};
use crate::unit::{Dedup, Outcome, Unit};

/// The tables, within a transaction.
pub(crate) struct Tables<'w> {
    pub(crate) rows: Rows<'w>,
    pub(crate) logs: &'w mut Logs,
    inserts: Inserts<'w>,
}

impl<'w> Tables<'w> {
    pub(crate) fn of(rows: Rows<'w>, logs: &'w mut Logs) -> Tables<'w> {
        Tables { rows, logs, inserts: Inserts::of(rows.connection) }
    }

    /// Writes what was decided of a unit.
    pub(crate) fn carry_out(&mut self, unit: &Unit, plan: Plan<'_>) -> Result<Outcome> {
        if let Some(body) = &plan.body {
            self.inserts.write(
                &BODY,
                "INSERT INTO body (id, refs, data, sum) VALUES (?1, ?2, ?3, ?4)",
                &[stored(body.id), stored(body.refs), ValueRef::Blob(body.data)],
            )?;
        }
        for write in &plan.writes {
            self.write(unit.time, write)?;
            self.logs.fresh.wrote(write);
        }
        self.logs.changes.extend(plan.changes(unit));
        for (owner, row) in plan.logs {
            self.logs.fresh.in_custody(row.id, row.custody);
            if let Some(known) = self.logs.known.get_mut(owner) {
                (known.row, known.dirty) = (row, true);
            } else {
                let known = Known { row, dirty: true, count: None };
                self.logs.known.insert(owner.clone(), known);
            }
        }
        if let Some(dedup) = &unit.dedup {
            self.remember(dedup, &plan.seqs)?;
        }
        Ok(Outcome::Committed { seqs: plan.seqs, versions: plan.versions })
    }

    fn write(&mut self, time: Timestamp, write: &Write<'_>) -> Result<()> {
        let connection = self.rows.connection;
        match write {
            Write::Item { log, seq, append, body, counts, .. } => {
                let sql = "INSERT INTO item (seq, log, kind, time, counts, body, head, sum)
                           VALUES (?1, ?2, ?3, ?4, ?5, ?6, ?7, ?8)";
                let columns = [
                    stored(*seq),
                    stored(*log),
                    ValueRef::Integer(append.kind.into()),
                    stored(time.as_millis()),
                    counts.map_or(ValueRef::Null, stored),
                    body.map_or(ValueRef::Null, stored),
                    ValueRef::Blob(&append.head),
                ];
                self.inserts.write(&ITEM, sql, &columns)
            }
            Write::Record { key, version, value } => self.put(key, *version, *value),
            Write::Remove { log, items, .. } => {
                remove(self.rows, *log, items.iter().map(|item| (item.seq, item.body)))
            }
            Write::Mark { log, item, kind } => mark(self.rows, *log, item, *kind),
            Write::Purge { log } => {
                kept::forget(connection, *log)?;
                let sql = "INSERT INTO purged (log, sum) VALUES (?1, ?2)";
                self.inserts.write(&PURGED, sql, &[stored(*log)])
            }
        }
    }

    fn put(&mut self, key: &RecordKey, version: u64, value: Option<&Bytes>) -> Result<()> {
        let (domain, kind) = (key.domain.as_str(), key.table.0);
        match value {
            Some(value) => {
                let sql = "INSERT INTO record (domain, kind, key, version, value, sum)
                           VALUES (?1, ?2, ?3, ?4, ?5, ?6)
                           ON CONFLICT DO UPDATE SET version = ?4, value = ?5, sum = ?6";
                let columns = [
                    text(domain),
                    ValueRef::Integer(kind.into()),
                    ValueRef::Blob(&key.key),
                    stored(version),
                    ValueRef::Blob(value),
                ];
                self.inserts.write(&RECORD, sql, &columns)
            }
            None => self
                .rows
                .connection
                .prepare_cached("DELETE FROM record WHERE domain = ?1 AND kind = ?2 AND key = ?3")?
                .execute(params![domain, kind, key.key])
                .map(drop),
        }
    }

    fn remember(&mut self, dedup: &Dedup, given: &[u64]) -> Result<()> {
        let seqs: Vec<u8> = given.iter().flat_map(|seq| seq.to_be_bytes()).collect();
        let sql = "INSERT INTO dedup (id, sender, recipient, digest, seqs, sum)
                   VALUES (?1, ?2, ?3, ?4, ?5, ?6)";
        let columns = [
            ValueRef::Blob(&dedup.id),
            text(dedup.from.as_str()),
            text(dedup.to.as_str()),
            ValueRef::Blob(&dedup.digest),
            ValueRef::Blob(&seqs),
        ];
        self.inserts.write(&DEDUP, sql, &columns)?;
        self.logs.recent.written(dedup, given);
        let known = self.sender(&dedup.from)?.known.saturating_add(1);
        self.logs.senders.insert(dedup.from.clone(), Sender { known, dirty: true });
        Ok(())
    }

    fn sender(&mut self, from: &Address) -> Result<Sender> {
        if let Some(sender) = self.logs.senders.get(from) {
            return Ok(*sender);
        }
        let sender = Sender { known: self.rows.known(from.as_str())?, dirty: false };
        self.logs.senders.insert(from.clone(), sender);
        Ok(sender)
    }

    /// Writes what the group left to be written once: the rows of its logs and senders, and the
    /// counters.
    pub(crate) fn finish_group(&mut self, meta: &Meta) -> Result<()> {
        let sql = "INSERT INTO log
             (domain, local, id, fence, last, custody, unacked_items, unacked_bytes, sum)
             VALUES (?1, ?2, ?3, ?4, ?5, ?6, ?7, ?8, ?9)
             ON CONFLICT DO UPDATE SET id = ?3, fence = ?4, last = ?5, custody = ?6,
             unacked_items = ?7, unacked_bytes = ?8, sum = ?9";
        for (owner, known) in self.logs.known.iter_mut().filter(|(_, known)| known.dirty) {
            let row = known.row;
            let columns = [
                text(owner.domain_str()),
                text(owner.local()),
                stored(row.id),
                stored(row.fence),
                stored(row.last),
                stored(row.custody),
                stored(row.unacked.items),
                stored(row.unacked.bytes),
            ];
            self.inserts.write(&LOG, sql, &columns)?;
            let count = Count::of(&row);
            if let Some(count) = count.filter(|_| count != known.count) {
                count.write(&mut self.inserts)?;
            }
            (known.dirty, known.count) = (false, count);
        }
        for (from, sender) in self.logs.senders.iter_mut().filter(|(_, sender)| sender.dirty) {
            kept::write_known(&mut self.inserts, from, sender.known)?;
            sender.dirty = false;
        }
        write_meta(self.rows.connection, meta)
    }
}

impl Facts for Tables<'_> {
    type Error = Fault;

    fn log(&mut self, owner: &Address) -> Answer<LogRow> {
        if let Some(known) = self.logs.known.get(owner) {
            return Ok(known.row);
        }
        let (mut row, count) = self.rows.log(owner)?;
        // `lost` is what it may be at most, if what was known of it is damaged.
        if row.id != 0 && count.is_none() {
            row.losable = self.rows.count_losable(&row)?;
        }
        self.logs.known.insert(owner.clone(), Known { row, dirty: false, count });
        Ok(row)
    }

    fn version(&mut self, key: &RecordKey) -> Answer<Option<u64>> {
        self.rows.version(key)
    }

    fn length(&mut self, key: &RecordKey) -> Answer<Option<usize>> {
        let sql = "SELECT length(value) FROM record WHERE domain = ?1 AND kind = ?2 AND key = ?3";
        let mut statement = self.rows.connection.prepare_cached(sql)?;
        let place = params![key.domain.as_str(), key.table.0, key.key];
        let length: Option<i64> = statement.query_row(place, |row| row.get(0)).optional()?;
        Ok(length.and_then(|length| usize::try_from(length).ok()))
    }

    fn seen(&mut self, dedup: &Dedup) -> Answer<Option<Seen>> {
        match self.logs.recent.look(dedup, || self.rows.newest_id())? {
            Looked::Known(seen) => Ok(seen),
            Looked::Unknown => self.rows.seen(dedup),
        }
    }

    fn known(&mut self, from: &Address) -> Answer<u64> {
        Ok(self.sender(from)?.known)
    }

    fn at(&mut self, log: u64, seq: u64) -> Answer<Option<Kept>> {
        self.rows.kept_at(log, seq)
    }

    /// What is damaged stays where it is, and is passed over: neither its time nor its body is known,
    /// and who looks for the cause finds it.
    fn losable(
        &mut self,
        log: u64,
        custody: u64,
        after: u64,
        see: &mut dyn FnMut(Kept) -> bool,
    ) -> Answer<()> {
        // Nothing is written yet: this unit alone cannot be done.
        let named = |error| Fault::from(error).of(|| format!("the index of items of log {log}"));
        for (sql, place) in LOSABLE.into_iter().zip([custody, after]) {
            let mut statement = self.rows.connection.prepare_cached(sql)?;
            let place = i64::try_from(place).unwrap_or(i64::MAX);
            let mut seqs = statement.query([log.cast_signed(), place])?;
            while let Some(row) = seqs.next().map_err(named)? {
                if let Some(item) = self.rows.kept_item(log, number(row, 0)?)?
                    && !see(item)
                {
                    return Ok(());
                }
            }
        }
        Ok(())
    }

    fn first_but(&mut self, log: u64, gone: &[u64]) -> Answer<Option<u64>> {
        let mut statement = self.rows.connection.prepare_cached(LOSABLE[0])?;
        let mut seqs = statement.query([log.cast_signed(), i64::MAX])?;
        // Nothing is written yet: this unit alone cannot be done.
        let named = |error| Fault::from(error).of(|| format!("the index of items of log {log}"));
        while let Some(row) = seqs.next().map_err(named)? {
            let seq = number(row, 0)?;
            if !gone.contains(&seq) {
                return Ok(Some(seq));
            }
        }
        Ok(None)
    }

    /// A damaged row too is swept by the place at which it stands.
    fn newest_seen(&mut self, before: Timestamp) -> Answer<Option<Timestamp>> {
        // Nothing is written yet: this unit alone cannot be done.
        sweep::newest(self.rows.connection, before)
            .map_err(|error| Fault::from(error).of(|| "the newest of de-duplication".into()))
    }

    /// A damaged item counts for nothing here, so that it stays counted in the log: rather full too
    /// soon than never. Custody of all there is counts from zero again.
    fn counted(&mut self, log: u64, after: u64, upto: u64) -> Answer<Usage> {
        if let Some(usage) = self.logs.fresh.counted(log, after, upto) {
            return Ok(usage);
        }
        let sql = "SELECT seq FROM item WHERE log = ?1 AND seq > ?2 AND seq <= ?3";
        let mut statement = self.rows.connection.prepare_cached(sql)?;
        let mut seqs =
            statement.query([log.cast_signed(), after.cast_signed(), upto.cast_signed()])?;
        let mut usage = Usage::default();
        // Nothing is written yet: this unit alone cannot be done.
        let named = |error| Fault::from(error).of(|| format!("the index of items of log {log}"));
        while let Some(row) = seqs.next().map_err(named)? {
            match self.rows.item(number(row, 0)?) {
                Ok(ItemRow { log: of, counts: Some(bytes), .. }) if of == log => {
                    usage.items += 1;
                    usage.bytes = usage.bytes.saturating_add(bytes);
                }
                Ok(_) | Err(Fault::Damaged(_)) => {}
                Err(error) => return Err(error),
            }
        }
        Ok(usage)
    }
}

/// Writes the one row of `meta`.
pub(crate) fn write_meta(connection: &Connection, meta: &Meta) -> Result<()> {
    let sql = "INSERT INTO meta (one, incarnation, seq, version, dedup_floor, summed, sum)
               VALUES (?1, ?2, ?3, ?4, ?5, ?6, ?7)
               ON CONFLICT DO UPDATE SET incarnation = ?2, seq = ?3, version = ?4,
               dedup_floor = ?5, summed = ?6, sum = ?7";
    let Counters { seq, version, dedup_floor } = meta.counters;
    let columns = [
        ValueRef::Integer(1),
        ValueRef::Blob(&meta.incarnation),
        stored(seq),
        stored(version),
        stored(dedup_floor.as_millis()),
        ValueRef::Integer(meta.summed.into()),
    ];
    digest::write(connection, &META, sql, &columns)
}

/// Writes the one row of `place`.
pub(crate) fn write_place(connection: &Connection, place: &Place) -> Result<()> {
    // Whatever a damaged one says of itself.
    connection.execute("DELETE FROM place", [])?;
    let sql = "INSERT INTO place (one, starts, inode, put_away, sum) VALUES (?1, ?2, ?3, ?4, ?5)";
    let columns = [
        ValueRef::Integer(1),
        stored(place.starts),
        stored(place.inode),
        place.put_away.map_or(ValueRef::Null, ValueRef::Integer),
    ];
    digest::write(connection, &PLACE, sql, &columns)
}
