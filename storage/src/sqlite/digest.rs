//! What tells whether a row is as it was written: a digest over its table and all its columns, the
//! key among them, kept in its last column and looked at whenever the row is read.
//!
//! Reading rows is left to `rows.rs`, giving digests to those of older stores to `summing.rs`. Why
//! it is made so: `docs/decisions/0008-damage.md`.

use rusqlite::types::{ToSqlOutput, ValueRef};
use rusqlite::{CachedStatement, Connection, Result, Row, Statement};
use twox_hash::XxHash3_64;

/// A table whose rows have digests.
#[derive(Debug)]
pub(crate) struct Layout {
    /// Its name.
    pub(crate) name: &'static str,
    /// Its columns but the digest, in the order of the digest; the key's come first.
    pub(crate) columns: &'static [&'static str],
    /// How many of them are the key.
    pub(crate) keys: usize,
    /// The key and the digest of the row before a key and of the one behind it, for tables in which
    /// rows are sought by keys that come from outside.
    pub(crate) beside: [&'static str; 2],
    /// Told apart by this, so that no row passes for one of another table.
    seed: u64,
}

/// Whether a row is as it was written.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) enum Verdict {
    /// It is.
    Right,
    /// Of an older store, and has no digest yet.
    Unsummed,
    /// It is not, but its key is.
    Wrong,
    /// Not even its key is: it may stand in another one's place.
    WrongKey,
}

pub(crate) const META: Layout = Layout {
    name: "meta",
    columns: &["one", "incarnation", "seq", "version", "dedup_floor", "summed"],
    keys: 1,
    beside: NONE,
    seed: 1,
};
pub(crate) const LOG: Layout = Layout {
    name: "log",
    columns: &[
        "domain",
        "local",
        "id",
        "fence",
        "last",
        "custody",
        "unacked_items",
        "unacked_bytes",
    ],
    keys: 2,
    beside: [
        "SELECT domain, local, sum FROM log WHERE (domain, local) < (?1, ?2)
         ORDER BY domain DESC, local DESC LIMIT 1",
        "SELECT domain, local, sum FROM log WHERE (domain, local) > (?1, ?2)
         ORDER BY domain, local LIMIT 1",
    ],
    seed: 2,
};
pub(crate) const ITEM: Layout = Layout {
    name: "item",
    columns: &["seq", "log", "kind", "time", "counts", "body", "head"],
    keys: 1,
    beside: NONE,
    seed: 3,
};
pub(crate) const BODY: Layout =
    Layout { name: "body", columns: &["id", "refs", "data"], keys: 1, beside: NONE, seed: 4 };
pub(crate) const RECORD: Layout = Layout {
    name: "record",
    columns: &["domain", "kind", "key", "version", "value"],
    keys: 3,
    beside: [
        "SELECT domain, kind, key, sum FROM record WHERE (domain, kind, key) < (?1, ?2, ?3)
         ORDER BY domain DESC, kind DESC, key DESC LIMIT 1",
        "SELECT domain, kind, key, sum FROM record WHERE (domain, kind, key) > (?1, ?2, ?3)
         ORDER BY domain, kind, key LIMIT 1",
    ],
    seed: 5,
};
pub(crate) const DEDUP: Layout = Layout {
    name: "dedup",
    columns: &["id", "sender", "recipient", "digest", "seqs"],
    keys: 3,
    beside: [
        "SELECT id, sender, recipient, sum FROM dedup WHERE (id, sender, recipient) < (?1, ?2, ?3)
         ORDER BY id DESC, sender DESC, recipient DESC LIMIT 1",
        "SELECT id, sender, recipient, sum FROM dedup WHERE (id, sender, recipient) > (?1, ?2, ?3)
         ORDER BY id, sender, recipient LIMIT 1",
    ],
    seed: 6,
};
pub(crate) const PURGED: Layout =
    Layout { name: "purged", columns: &["log"], keys: 1, beside: NONE, seed: 7 };

pub(crate) const PLACE: Layout = Layout {
    name: "place",
    columns: &["one", "starts", "inode", "put_away"],
    keys: 1,
    beside: NONE,
    seed: 8,
};

pub(crate) const KEPT: Layout = Layout {
    name: "kept",
    columns: &["log", "items", "bytes", "lost"],
    keys: 1,
    beside: NONE,
    seed: 9,
};
pub(crate) const SENDER: Layout =
    Layout { name: "sender", columns: &["address", "known"], keys: 1, beside: NONE, seed: 10 };

pub(crate) const TALK: Layout =
    Layout { name: "talk", columns: &["log", "other", "seq"], keys: 3, beside: NONE, seed: 11 };
pub(crate) const LISTED: Layout =
    Layout { name: "listed", columns: &["one", "upto"], keys: 1, beside: NONE, seed: 12 };

/// All but [`META`], [`PLACE`] and [`LISTED`], of which each is one row that is read when the store is
/// opened.
pub(crate) const LAYOUTS: [&Layout; 9] =
    [&RECORD, &LOG, &PURGED, &ITEM, &BODY, &DEDUP, &KEPT, &SENDER, &TALK];
/// Those of before logs and senders were counted.
pub(crate) const UNCOUNTED: &[&Layout] = LAYOUTS.split_at(6).0;
/// Those of before there was an index of conversations.
pub(crate) const UNLISTED: &[&Layout] = LAYOUTS.split_at(8).0;

impl Layout {
    /// The digest of a row.
    pub(crate) fn sum(&self, columns: &[ValueRef<'_>]) -> i64 {
        let (key, rest) = columns.split_at(self.keys.min(columns.len()));
        let mut bytes = Vec::with_capacity(ROW_BYTES_USUAL);
        key.iter().for_each(|column| self.add(&mut bytes, *column));
        let of_key = self.hash(&bytes);
        rest.iter().for_each(|column| self.add(&mut bytes, *column));
        (of_key & KEY_BITS | self.hash(&bytes) & !KEY_BITS).cast_signed()
    }

    /// Holds a row against its digest: this layout's columns from `first` on, and then the digest.
    pub(crate) fn check(&self, row: &Row<'_>, first: usize) -> Result<Verdict> {
        let end = first + self.columns.len();
        let kept = match row.get_ref(end)? {
            ValueRef::Null => return Ok(Verdict::Unsummed),
            ValueRef::Integer(kept) => kept,
            _ => return Ok(Verdict::WrongKey),
        };
        let mut columns = Vec::with_capacity(self.columns.len());
        for column in first..end {
            columns.push(row.get_ref(column)?);
        }
        let odd = (kept ^ self.sum(&columns)).cast_unsigned();
        Ok(match odd {
            0 => Verdict::Right,
            odd if odd & KEY_BITS == 0 => Verdict::Wrong,
            _ => Verdict::WrongKey,
        })
    }

    /// Holds the key of a row alone against its digest: columns are the key's, and the digest.
    pub(crate) fn check_key(&self, row: &Row<'_>) -> Result<Verdict> {
        let kept = match row.get_ref(self.keys)? {
            ValueRef::Null => return Ok(Verdict::Unsummed),
            ValueRef::Integer(kept) => kept.cast_unsigned(),
            _ => return Ok(Verdict::WrongKey),
        };
        let mut key = Vec::with_capacity(self.keys);
        for column in 0..self.keys {
            key.push(row.get_ref(column)?);
        }
        Ok(if self.is_of(kept, &key) { Verdict::Right } else { Verdict::WrongKey })
    }

    /// Whether a row whose key does not fit its digest can have had this key once: columns are as for
    /// [`check_key`](Layout::check_key).
    pub(crate) fn may_have_been(&self, row: &Row<'_>, key: &[ValueRef<'_>]) -> Result<bool> {
        let ValueRef::Integer(kept) = row.get_ref(self.keys)? else { return Ok(true) };
        Ok(self.is_of(kept.cast_unsigned(), key))
    }

    /// Whether a digest is that of a row with this key, as far as it tells of the key.
    fn is_of(&self, kept: u64, key: &[ValueRef<'_>]) -> bool {
        let mut bytes = Vec::with_capacity(ROW_BYTES_USUAL);
        key.iter().for_each(|column| self.add(&mut bytes, *column));
        (kept ^ self.hash(&bytes)) & KEY_BITS == 0
    }

    /// The statement that reads all rows with their digests in the order of their keys, or the
    /// other way: from the first on, or behind the key that its parameters are.
    pub(crate) fn walk(&self, behind: bool, down: bool) -> String {
        let keys = &self.columns[..self.keys];
        let (all, key) = (self.columns.join(", "), keys.join(", "));
        let (sign, way) = if down { ("<", " DESC") } else { (">", "") };
        let places = ["?1", "?2", "?3"][..self.keys].join(", ");
        let behind =
            if behind { format!("WHERE ({key}) {sign} ({places})") } else { String::new() };
        let order = keys.join(&format!("{way}, "));
        format!("SELECT {all}, sum FROM {} {behind} ORDER BY {order}{way}", self.name)
    }

    fn add(&self, bytes: &mut Vec<u8>, value: ValueRef<'_>) {
        match value {
            ValueRef::Null => self.add_bytes(bytes, 0, &[]),
            ValueRef::Integer(number) => self.add_bytes(bytes, 1, &number.to_le_bytes()),
            ValueRef::Real(number) => self.add_bytes(bytes, 2, &number.to_bits().to_le_bytes()),
            ValueRef::Text(text) => self.add_bytes(bytes, 3, text),
            ValueRef::Blob(blob) => self.add_bytes(bytes, 4, blob),
        }
    }

    /// A value with its type and length, so that no two rows have the same bytes.
    fn add_bytes(&self, bytes: &mut Vec<u8>, kind: u8, value: &[u8]) {
        bytes.push(kind);
        bytes.extend_from_slice(&(value.len() as u64).to_le_bytes());
        if value.len() <= COPIED_BYTES_MAX {
            bytes.extend_from_slice(value);
        } else {
            bytes.extend_from_slice(&self.hash(value).to_le_bytes());
        }
    }

    fn hash(&self, bytes: &[u8]) -> u64 {
        XxHash3_64::oneshot_with_seed(self.seed, bytes)
    }
}

/// Runs a statement that writes a row: its parameters are the row's columns, then its digest.
pub(crate) fn write(
    connection: &Connection,
    layout: &Layout,
    sql: &str,
    columns: &[ValueRef<'_>],
) -> Result<()> {
    let mut statement = connection.prepare_cached(sql)?;
    run(&mut statement, layout, columns)
}

/// Statements that write rows, one for each table, each looked for once in a transaction: to find one
/// by its words costs as much as to bind it.
pub(crate) struct Inserts<'c> {
    connection: &'c Connection,
    /// With the seeds of their tables.
    found: Vec<(u64, CachedStatement<'c>)>,
}

impl<'c> Inserts<'c> {
    /// Into the tables of this connection.
    pub(crate) fn of(connection: &'c Connection) -> Inserts<'c> {
        Inserts { connection, found: Vec::new() }
    }

    /// As [`write`]; the statement is the one of this layout, always.
    pub(crate) fn write(
        &mut self,
        layout: &Layout,
        sql: &str,
        columns: &[ValueRef<'_>],
    ) -> Result<()> {
        if let Some((_, statement)) = self.found.iter_mut().find(|(seed, _)| *seed == layout.seed) {
            return run(statement, layout, columns);
        }
        let mut statement = self.connection.prepare_cached(sql)?;
        run(&mut statement, layout, columns)?;
        self.found.push((layout.seed, statement));
        Ok(())
    }
}

fn run(statement: &mut Statement<'_>, layout: &Layout, columns: &[ValueRef<'_>]) -> Result<()> {
    for (number, column) in (1usize..).zip(columns) {
        statement.raw_bind_parameter(number, ToSqlOutput::Borrowed(*column))?;
    }
    statement.raw_bind_parameter(columns.len() + 1, layout.sum(columns))?;
    statement.raw_execute()?;
    Ok(())
}

/// A number without a sign, stored by its bits.
pub(crate) fn stored(number: u64) -> ValueRef<'static> {
    ValueRef::Integer(number.cast_signed())
}

/// A text, as a value to write.
pub(crate) fn text(text: &str) -> ValueRef<'_> {
    ValueRef::Text(text.as_bytes())
}

/// Whether a row begins with what was asked for. Where pages are not in their places SQLite finds another
/// row, which is as it was written.
pub(crate) fn begins_with(row: &Row<'_>, key: &[ValueRef<'_>]) -> Result<bool> {
    for (column, part) in key.iter().enumerate() {
        if row.get_ref(column)? != *part {
            return Ok(false);
        }
    }
    Ok(true)
}

/// Rows of these tables are sought by numbers that other rows hold.
const NONE: [&str; 2] = [""; 2];
/// The bits of a digest that are of the key alone: a row that is found where another one is sought
/// tells by them whether it could have been that one.
const KEY_BITS: u64 = 0xffff_ffff_0000_0000;
/// A longer value goes in by its own digest, and is not copied.
const COPIED_BYTES_MAX: usize = 512;
/// Most rows need no more.
const ROW_BYTES_USUAL: usize = 512;

#[cfg(test)]
mod tests {
    use super::*;

    fn row() -> [ValueRef<'static>; 5] {
        let value = ValueRef::Blob(&[7; 2 * COPIED_BYTES_MAX]);
        [text("a.example"), stored(1), ValueRef::Blob(b"alice"), stored(4), value]
    }

    fn key_of(sum: i64) -> u64 {
        sum.cast_unsigned() & KEY_BITS
    }

    /// G5, G6: whatever of a row is another, so is its digest; and that of the key alone tells
    /// whether it is the key.
    #[test]
    fn g5_g6_a_digest_goes_over_all_of_a_row_and_its_table() {
        let sum = RECORD.sum(&row());
        let long = [vec![7; 2 * COPIED_BYTES_MAX - 1], vec![6]].concat();
        let others = [
            (0, text("b.example")),
            (0, ValueRef::Blob(b"a.example")),
            (1, stored(2)),
            (1, ValueRef::Real(1.0)),
            (2, ValueRef::Blob(b"alicf")),
            (3, stored(5)),
            (3, ValueRef::Null),
            (4, ValueRef::Blob(&long)),
            (4, ValueRef::Blob(b"")),
        ];
        for (column, value) in others {
            let mut other = row();
            other[column] = value;
            let changed = RECORD.sum(&other);
            assert_ne!(changed, sum, "{column} {value:?}");
            assert_eq!(key_of(changed) == key_of(sum), column >= RECORD.keys, "{column} {value:?}");
        }
        assert_ne!(DEDUP.sum(&row()), sum);
    }

    /// What one value ends with does not pass for what the next begins with.
    #[test]
    fn values_do_not_flow_into_each_other() {
        let of = |a, b| DEDUP.sum(&[ValueRef::Blob(b"id"), text(a), text(b), stored(0), stored(0)]);
        assert_ne!(of("ab", "c"), of("a", "bc"));
    }
}
