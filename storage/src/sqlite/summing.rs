//! Gives digests, a slice at a time, to the rows that an older program has left without.
//!
//! A slice is a transaction: after a crash a row has its digest or has none, and whatever was
//! written meanwhile has one. Where the work was is not kept: a restart begins anew and passes over
//! what is done. When there is time for a slice, and when it is noted that all rows have one, is
//! left to `writer.rs`.

use rusqlite::types::{Value, ValueRef};
use rusqlite::{Connection, Result, params_from_iter};

use super::digest::{LAYOUTS, Layout};
use super::fault::Fault;
use super::rows::Rows;

/// How far it has come.
#[derive(Debug, Default)]
pub(crate) struct Summing {
    /// Which of the tables.
    table: usize,
    /// The key of the last row that was looked at in it.
    after: Option<Vec<Value>>,
    /// A table could not be read to its end.
    broken: bool,
}

impl Summing {
    /// Does one slice, within a transaction; answers whether there is more.
    pub(crate) fn slice(&mut self, rows: Rows<'_>) -> Result<bool> {
        let Some(layout) = LAYOUTS.get(self.table) else { return Ok(false) };
        let looked = look(rows.connection, layout, self.after.as_deref());
        let (todo, last) =
            match looked.map_err(|error| Fault::from(error).of(|| layout.name.into())) {
                Ok(looked) => looked,
                Err(Fault::Sqlite(error)) => return Err(error),
                // The other tables can have theirs all the same.
                Err(Fault::Damaged(what)) => {
                    rows.told.tell(&what);
                    self.broken = true;
                    (Vec::new(), None)
                }
            };
        let keys = layout.columns[..layout.keys].iter().zip(1..);
        let keys: Vec<String> = keys.map(|(key, number)| format!("{key} = ?{number}")).collect();
        let sql = format!("UPDATE {} SET sum = ?4 WHERE {}", layout.name, keys.join(" AND "));
        let mut update = rows.connection.prepare_cached(&sql)?;
        for (key, sum) in todo {
            for (number, column) in (1usize..).zip(&key) {
                update.raw_bind_parameter(number, column)?;
            }
            update.raw_bind_parameter(4, sum)?;
            update.raw_execute()?;
        }
        if last.is_none() {
            self.table += 1;
        }
        self.after = last;
        Ok(self.table < LAYOUTS.len())
    }

    /// Whether all rows were reached, once there is no more to do.
    pub(crate) fn is_whole(&self) -> bool {
        !self.broken
    }
}

/// Rows behind a key that have no digest, with the one that is theirs; and the last one looked at,
/// if there may be more behind it.
type Looked = (Vec<(Vec<Value>, i64)>, Option<Vec<Value>>);

fn look(connection: &Connection, layout: &Layout, after: Option<&[Value]>) -> Result<Looked> {
    let mut statement = connection.prepare_cached(&layout.walk(after.is_some(), false))?;
    let mut rows = statement.query(params_from_iter(after.unwrap_or_default()))?;
    let (mut todo, mut bytes, mut looked) = (Vec::new(), 0, 0);
    while let Some(row) = rows.next()? {
        let mut columns = Vec::with_capacity(layout.columns.len());
        for column in 0..layout.columns.len() {
            columns.push(row.get_ref(column)?);
        }
        let key = || columns[..layout.keys].iter().map(|column| Value::try_from(*column));
        let without = row.get_ref(layout.columns.len())? == ValueRef::Null;
        if without {
            todo.push((key().collect::<Result<_, _>>()?, layout.sum(&columns)));
        }
        bytes += columns.iter().map(|column| size(*column)).sum::<usize>();
        looked += 1;
        if looked == SLICE_ROWS_MAX || bytes >= SLICE_BYTES_MAX {
            let last = key().collect::<Result<_, _>>()?;
            return Ok((todo, Some(last)));
        }
    }
    Ok((todo, None))
}

/// About what a value takes of a row.
fn size(value: ValueRef<'_>) -> usize {
    match value {
        ValueRef::Text(bytes) | ValueRef::Blob(bytes) => bytes.len(),
        _ => 8,
    }
}

/// Rows looked at in one slice.
const SLICE_ROWS_MAX: usize = 1024;
/// A slice takes no further row from here on.
const SLICE_BYTES_MAX: usize = 512 * 1024;

#[cfg(test)]
mod tests {
    use super::*;
    use crate::sqlite::digest::{RECORD, Verdict, stored, text, write};
    use crate::sqlite::schema::tests::{at_version, bring_up};
    use crate::sqlite::told::Told;

    /// An older store's rows: more than two slices of each of two tables.
    fn older() -> Connection {
        let connection = at_version(1);
        connection
            .execute_batch(
                "WITH RECURSIVE n (n) AS (SELECT 1 UNION ALL SELECT n + 1 FROM n WHERE n < 3000)
                 INSERT INTO record SELECT 'a.example', 1, CAST(n AS BLOB), n, x'0102' FROM n;
                 INSERT INTO body SELECT version, 1, zeroblob(2000) FROM record;
                 INSERT INTO purged VALUES (7);",
            )
            .unwrap();
        connection
    }

    /// How many rows of a table have a digest; each has the right one.
    fn summed(connection: &Connection, layout: &Layout) -> usize {
        let mut statement = connection.prepare(&layout.walk(false, false)).unwrap();
        let mut rows = statement.query([]).unwrap();
        let mut summed = 0;
        while let Some(row) = rows.next().unwrap() {
            match layout.check(row, 0).unwrap() {
                Verdict::Right => summed += 1,
                verdict => assert_eq!(verdict, Verdict::Unsummed),
            }
        }
        summed
    }

    /// G14: however often the work is broken off, every row has its digest in the end; what was
    /// written meanwhile keeps the one that it has.
    #[test]
    fn g14_work_that_is_broken_off_is_done_by_the_next() {
        let (mut connection, told) = (older(), Told::default());
        bring_up(&mut connection);
        let rows = Rows { connection: &connection, summed: false, told: &told, about: None };
        for slices in 0..3 {
            let mut summing = Summing::default();
            (0..slices).for_each(|_| assert!(summing.slice(rows).unwrap()));
            let done = summed(&connection, &RECORD);
            assert_eq!(done, slices * SLICE_ROWS_MAX, "as far as the longest run came");
        }
        let value = ValueRef::Blob(b"new");
        let new = [text("a.example"), stored(1), ValueRef::Blob(b"0"), stored(9), value];
        let sql = "INSERT INTO record VALUES (?1, ?2, ?3, ?4, ?5, ?6)";
        write(&connection, &RECORD, sql, &new).unwrap();
        let mut summing = Summing::default();
        let mut slices = 1;
        while summing.slice(rows).unwrap() {
            slices += 1;
            assert!(slices < 100);
        }
        assert!(slices > 10 && summing.is_whole(), "{slices}");
        let expected = [("record", 3001), ("body", 3000), ("purged", 1)];
        for layout in LAYOUTS {
            let expected = expected.iter().find(|(name, _)| *name == layout.name);
            assert_eq!(summed(&connection, layout), expected.map_or(0, |(_, rows)| *rows));
        }
    }
}
