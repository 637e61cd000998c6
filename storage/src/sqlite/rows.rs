//! Reads rows, each held against its digest, for the readers and for the writer alike.
//!
//! A row that is not as it was written is [`Fault::Damaged`] with its name, never a value. Nor is
//! it taken for absent: where nothing is found under a key, the rows beside that place are looked
//! at, as a key that was changed where it stands is next to where it should be.

use bytes::Bytes;
use impp_protocol::{Address, Timestamp};
use rusqlite::types::ValueRef;
use rusqlite::{Connection, OptionalExtension, Params, Result, Row, params};

use super::digest::{
    BODY, DEDUP, ITEM, LOG, Layout, META, PLACE, RECORD, Verdict, begins_with, stored, text,
};
use super::fault::Fault;
use super::kept::Count;
use super::place::Place;
use super::told::Told;
use crate::plan::{Counters, LogRow, Seen, Usage};
use crate::{About, Dedup, Record, RecordKey, Scan};

/// What is read, or why not.
pub(crate) type Answer<T> = std::result::Result<T, Fault>;

/// Rows, as of the state that the connection sees.
#[derive(Clone, Copy, Debug)]
pub(crate) struct Rows<'c> {
    pub(crate) connection: &'c Connection,
    /// Whether every row has a digest: then one without is damaged. To be asked before the
    /// connection takes its view, or rows of before would seem damaged.
    pub(crate) summed: bool,
    /// Where damage is noted.
    pub(crate) told: &'c Told,
    /// Tells whom an item is about; without it the index of conversations is left as it is.
    pub(crate) about: Option<About>,
}

/// The one row of `meta`.
#[derive(Clone, Debug, PartialEq, Eq)]
pub(crate) struct Meta {
    pub(crate) incarnation: [u8; 16],
    pub(crate) counters: Counters,
    /// See [`Rows::summed`].
    pub(crate) summed: bool,
}

/// A row of `item`; its seq is known to whoever has asked.
#[derive(Clone, Debug)]
pub(crate) struct ItemRow {
    pub(crate) log: u64,
    pub(crate) kind: u8,
    pub(crate) time: Timestamp,
    pub(crate) counts: Option<u64>,
    pub(crate) body: Option<u64>,
    pub(crate) head: Bytes,
}

impl Rows<'_> {
    pub(crate) fn record(&self, key: &RecordKey) -> Answer<Option<Record>> {
        self.of_record(key, record)
    }

    pub(crate) fn version(&self, key: &RecordKey) -> Answer<Option<u64>> {
        self.of_record(key, |row| number(row, 3))
    }

    fn of_record<T>(
        &self,
        key: &RecordKey,
        take: impl FnOnce(&Row<'_>) -> Result<T>,
    ) -> Answer<Option<T>> {
        let place = params![key.domain.as_str(), key.table.0, key.key];
        let sql = "SELECT domain, kind, key, version, value, sum FROM record
                   WHERE domain = ?1 AND kind = ?2 AND key = ?3";
        let whole =
            [text(key.domain.as_str()), stored(key.table.0.into()), ValueRef::Blob(&key.key)];
        self.keyed(&RECORD, sql, place, &whole, None, take)
            .map_err(self.naming(|| named(key.domain.as_str(), key.table.0, &key.key)))
    }

    /// The row of a log, all zero if there is none; and what is counted of it, if that is known.
    pub(crate) fn log(&self, owner: &Address) -> Answer<(LogRow, Option<Count>)> {
        let mut row = self.log_alone(owner)?;
        let count = if row.id == 0 { None } else { self.put_count(&mut row)? };
        Ok((row, count))
    }

    fn log_alone(&self, owner: &Address) -> Answer<LogRow> {
        let sql =
            "SELECT domain, local, id, fence, last, custody, unacked_items, unacked_bytes, sum
                   FROM log WHERE domain = ?1 AND local = ?2";
        let key = [text(owner.domain_str()), text(owner.local())];
        self.keyed(&LOG, sql, params![owner.domain_str(), owner.local()], &key, None, |row| {
            Ok(LogRow {
                id: number(row, 2)?,
                fence: number(row, 3)?,
                last: number(row, 4)?,
                custody: number(row, 5)?,
                unacked: Usage { items: number(row, 6)?, bytes: number(row, 7)? },
                ..LogRow::default()
            })
        })
        .map(Option::unwrap_or_default)
        .map_err(self.naming(|| format!("log of {owner}")))
    }

    pub(crate) fn seen(&self, dedup: &Dedup) -> Answer<Option<Seen>> {
        let sql = "SELECT id, sender, recipient, digest, seqs, sum FROM dedup
                   WHERE id = ?1 AND sender = ?2 AND recipient = ?3";
        let place = params![dedup.id, dedup.from.as_str(), dedup.to.as_str()];
        // Ids rise with time: all new ones have the newest row beside them. It is in their way only
        // if it can have been theirs.
        let key = [ValueRef::Blob(&dedup.id), text(dedup.from.as_str()), text(dedup.to.as_str())];
        self.keyed(&DEDUP, sql, place, &key, Some(&key), |row| {
            let seqs = row.get_ref(4)?.as_blob()?;
            let seqs = seqs.as_chunks().0.iter().map(|seq| u64::from_be_bytes(*seq));
            Ok(Seen { digest: row.get(3)?, seqs: seqs.collect() })
        })
        .map_err(self.naming(|| format!("de-duplication {:032x}", u128::from_be_bytes(dedup.id))))
    }

    /// The highest id of de-duplication, or zero if there is none; nothing where that cannot be told
    /// for damage, which is for who looks there to say.
    pub(crate) fn newest_id(&self) -> Answer<Option<[u8; 16]>> {
        let newest = || -> Answer<Option<[u8; 16]>> {
            let mut statement = self.connection.prepare_cached(NEWEST_ID)?;
            let mut rows = statement.query([])?;
            let Some(row) = rows.next()? else { return Ok(Some([0; 16])) };
            let is_right = self.may_use(DEDUP.check_key(row)?);
            let id = row.get_ref(0)?.as_blob().ok().and_then(|id| id.try_into().ok());
            Ok(id.filter(|_| is_right))
        };
        match newest().map_err(|fault| fault.of(|| "the newest of de-duplication".into())) {
            Err(Fault::Damaged(_)) => Ok(None),
            found => found,
        }
    }

    /// An item, of which something that refers to it says that it is there.
    pub(crate) fn item(&self, seq: u64) -> Answer<ItemRow> {
        let sql = "SELECT seq, log, kind, time, counts, body, head, sum FROM item WHERE seq = ?1";
        self.there(&ITEM, sql, seq, |row| {
            Ok(ItemRow {
                log: number(row, 1)?,
                kind: row.get(2)?,
                time: Timestamp::from_millis(number(row, 3)?),
                counts: row.get::<_, Option<i64>>(4)?.map(i64::cast_unsigned),
                body: row.get::<_, Option<i64>>(5)?.map(i64::cast_unsigned),
                head: blob(row, 6)?,
            })
        })
    }

    /// Of a body that something refers to: what `take` makes of how many do, and of its bytes.
    pub(crate) fn body<T>(&self, id: u64, take: impl FnOnce(u64, &[u8]) -> Result<T>) -> Answer<T> {
        let sql = "SELECT id, refs, data, sum FROM body WHERE id = ?1";
        self.there(&BODY, sql, id, |row| take(number(row, 1)?, row.get_ref(2)?.as_blob()?))
    }

    /// Records in the order of their keys, with their whole keys.
    pub(crate) fn scan(&self, range: &Scan) -> Answer<Vec<(Vec<u8>, Record)>> {
        let mut found = Vec::new();
        self.along(range, |key, verdict, row| {
            let name = || named(range.domain.as_str(), range.table.0, key);
            self.hold(verdict).map_err(self.naming(name))?;
            found.push((key.to_vec(), record(row)?));
            Ok(())
        })?;
        Ok(found)
    }

    /// Hands over the records of a range with what is to be thought of each, but for its key, which is
    /// right.
    pub(crate) fn along(
        &self,
        range: &Scan,
        mut take: impl FnMut(&[u8], Verdict, &Row<'_>) -> Answer<()>,
    ) -> Answer<()> {
        let name = |key: &[u8]| named(range.domain.as_str(), range.table.0, key);
        let among = self.naming(|| format!("{} and on", name(&range.prefix)));
        let from = match &range.after {
            Some(after) if *after > range.prefix => after,
            _ => &range.prefix,
        };
        let (domain, kind) = (range.domain.as_str(), range.table.0);
        let [before, behind] = RECORD.beside;
        self.hold_key(&RECORD, before, params![domain, kind, from], None).map_err(&among)?;
        let mut statement = self.connection.prepare_cached(SCAN_RECORDS)?;
        let mut rows = statement.query(params![domain, kind, from])?;
        let (mut last, mut count) = (from.clone(), 0);
        while count < range.max {
            let Some(row) = rows.next().map_err(|error| among(error.into()))? else {
                // What ends the walk may belong into it.
                let place = params![domain, kind, last];
                self.hold_key(&RECORD, behind, place, None).map_err(&among)?;
                break;
            };
            let verdict = self.walked(range, &last, row).map_err(&among)?;
            let key = row.get_ref(2)?.as_blob()?;
            if !key.starts_with(&range.prefix) {
                break;
            }
            if range.after.as_ref().is_none_or(|after| key > after.as_slice()) {
                take(key, verdict, row)?;
                last.clear();
                last.extend_from_slice(key);
                count += 1;
            }
        }
        Ok(())
    }

    /// What is to be thought of the next row of a range, but for its key, which is right.
    fn walked(&self, range: &Scan, last: &[u8], row: &Row<'_>) -> Answer<Verdict> {
        let verdict = RECORD.check(row, 0)?;
        if verdict == Verdict::WrongKey || verdict == Verdict::Unsummed && self.summed {
            return Err(odd("a key does not fit its digest"));
        }
        let of = [text(range.domain.as_str()), stored(range.table.0.into())];
        if !begins_with(row, &of)? || row.get_ref(2)?.as_blob()? < last {
            return Err(odd(MISPLACED));
        }
        Ok(verdict)
    }

    /// The row under a whole key, or nothing where none can have been: with `sought`, a damaged row
    /// beside it counts only if it can have had that key.
    fn keyed<P: Params + Copy, T>(
        &self,
        layout: &Layout,
        sql: &str,
        place: P,
        key: &[ValueRef<'_>],
        sought: Option<&[ValueRef<'_>]>,
        take: impl FnOnce(&Row<'_>) -> Result<T>,
    ) -> Answer<Option<T>> {
        {
            let mut statement = self.connection.prepare_cached(sql)?;
            let mut rows = statement.query(place)?;
            if let Some(row) = rows.next()? {
                self.hold(layout.check(row, 0)?)?;
                if !begins_with(row, key)? {
                    return Err(odd(MISPLACED));
                }
                return Ok(Some(take(row)?));
            }
        }
        for beside in layout.beside {
            self.hold_key(layout, beside, place, sought)?;
        }
        Ok(None)
    }

    /// The row of a number that something refers to.
    fn there<T>(
        &self,
        layout: &Layout,
        sql: &str,
        id: u64,
        take: impl FnOnce(&Row<'_>) -> Result<T>,
    ) -> Answer<T> {
        let found = || -> Answer<T> {
            let mut statement = self.connection.prepare_cached(sql)?;
            let mut rows = statement.query([id.cast_signed()])?;
            let row = rows.next()?.ok_or_else(|| odd("it is missing"))?;
            self.hold(layout.check(row, 0)?)?;
            Ok(take(row)?)
        };
        found().map_err(self.naming(|| format!("{} {id}", layout.name)))
    }

    /// Looks at the key of the row beside a place where nothing is.
    fn hold_key(
        &self,
        layout: &Layout,
        beside: &str,
        place: impl Params,
        sought: Option<&[ValueRef<'_>]>,
    ) -> Answer<()> {
        let mut statement = self.connection.prepare_cached(beside)?;
        let mut rows = statement.query(place)?;
        match rows.next()? {
            None => Ok(()),
            Some(row) => match layout.check_key(row)? {
                Verdict::Unsummed if !self.summed => Ok(()),
                Verdict::Right => Ok(()),
                _ if !sought.map_or(Ok(true), |key| layout.may_have_been(row, key))? => Ok(()),
                _ => Err(odd("the key of a row beside its place does not fit that one's digest")),
            },
        }
    }

    fn hold(&self, verdict: Verdict) -> Answer<()> {
        hold(verdict, self.summed)
    }

    /// Whether a row of this verdict may be used.
    pub(crate) fn may_use(&self, verdict: Verdict) -> bool {
        self.hold(verdict).is_ok()
    }

    /// Says what was read, of damage, and notes it.
    pub(super) fn naming(&self, what: impl Fn() -> String) -> impl Fn(Fault) -> Fault {
        move |fault| {
            let fault = fault.of(&what);
            if let Fault::Damaged(what) = &fault {
                self.told.tell(what);
            }
            fault
        }
    }
}

/// Whether a row may be used.
pub(super) fn hold(verdict: Verdict, summed: bool) -> Answer<()> {
    match verdict {
        Verdict::Right => Ok(()),
        Verdict::Unsummed if !summed => Ok(()),
        _ => Err(odd("it does not fit its digest")),
    }
}

/// The row of `meta`.
pub(crate) fn meta(connection: &Connection) -> Answer<Meta> {
    let sql = "SELECT one, incarnation, seq, version, dedup_floor, summed, sum FROM meta";
    let found = || -> Answer<Meta> {
        let mut statement = connection.prepare(sql)?;
        let mut rows = statement.query([])?;
        let row = rows.next()?.ok_or_else(|| odd("it is empty"))?;
        let (verdict, summed) = (META.check(row, 0)?, row.get(5)?);
        hold(verdict, summed)?;
        Ok(Meta {
            incarnation: row.get(1)?,
            counters: Counters {
                seq: number(row, 2)?,
                version: number(row, 3)?,
                dedup_floor: Timestamp::from_millis(number(row, 4)?),
            },
            summed,
        })
    };
    found().map_err(|fault| fault.of(|| "store.sqlite: meta".into()))
}

/// The row of `place`, all zero if there is none yet.
pub(crate) fn place(connection: &Connection) -> Answer<Place> {
    let found = || -> Answer<Place> {
        let mut statement =
            connection.prepare("SELECT one, starts, inode, put_away, sum FROM place")?;
        let mut rows = statement.query([])?;
        let Some(row) = rows.next()? else { return Ok(Place::default()) };
        // It was never without one.
        hold(PLACE.check(row, 0)?, true)?;
        Ok(Place { starts: number(row, 1)?, inode: number(row, 2)?, put_away: row.get(3)? })
    };
    found().map_err(|fault| fault.of(|| "store.sqlite: place".into()))
}

/// The lowest item of a log, as its index says.
pub(crate) fn oldest(connection: &Connection, log: u64) -> Result<Option<u64>> {
    connection
        .prepare_cached("SELECT seq FROM item WHERE log = ?1 ORDER BY seq LIMIT 1")?
        .query_row([log.cast_signed()], |row| number(row, 0))
        .optional()
}

/// A number without a sign, stored by its bits.
pub(crate) fn number(row: &Row<'_>, column: usize) -> Result<u64> {
    row.get(column).map(i64::cast_unsigned)
}

pub(crate) fn blob(row: &Row<'_>, column: usize) -> Result<Bytes> {
    Ok(Bytes::copy_from_slice(row.get_ref(column)?.as_blob()?))
}

/// How a record is called where it is damaged.
pub(crate) fn named(domain: &str, kind: u8, key: &[u8]) -> String {
    let key = String::from_utf8_lossy(key).replace('\0', " ");
    format!("record {kind} of {domain} ({})", key.escape_debug())
}

pub(crate) fn record(row: &Row<'_>) -> Result<Record> {
    Ok(Record { value: blob(row, 4)?, version: number(row, 3)? })
}

fn odd(reason: &str) -> Fault {
    Fault::Damaged(reason.into())
}

const MISPLACED: &str = "another row stands in its place";

/// Records from a place on. Where SQLite walks along a key it takes rows for what they stand among,
/// so that one whose key was changed comes along, or ends the walk.
pub(crate) const SCAN_RECORDS: &str = "
    SELECT domain, kind, key, version, value, sum FROM record
    WHERE domain = ?1 AND kind = ?2 AND key >= ?3 ORDER BY domain, kind, key";

const NEWEST_ID: &str = "SELECT id, sender, recipient, sum FROM dedup
                         ORDER BY id DESC, sender DESC, recipient DESC LIMIT 1";
