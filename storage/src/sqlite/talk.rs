//! Which items of a log are about whom: an index by which one conversation is read without all others.
//!
//! It is filled behind the commits, a slice at a time: a row `listed` says up to which item all are in it,
//! and whoever reads seeks among all items behind that. What goes from a log goes from it with the same
//! commit. When there is time for a slice is left to `writer.rs`.
//!
//! What is made anew is emptied first, a slice at a time too; meanwhile none counts as being in it. Where it
//! cannot even be written it is closed: it is left as it is and asked nothing, until it can be emptied.
//!
//! A row has a number made of the address, and not the address: two may have the same, so an
//! item to which a row leads may be about somebody else.

use impp_protocol::Address;
use rusqlite::{Connection, OptionalExtension, Result};
use twox_hash::XxHash3_64;

use super::digest::{self, Inserts, LISTED, TALK, stored};
use super::fault::{Fault, is_damage};
use super::rows::{Answer, Rows, hold, number};
use crate::About;

/// What stands for somebody in the index. It is stored, and never changes.
pub(crate) fn number_of(whom: &Address) -> u64 {
    XxHash3_64::oneshot_with_seed(OTHER_SEED, whom.as_str().as_bytes())
}

/// Puts a slice of the items into the index that are behind `upto`, within a transaction. Answers up to
/// where all are in it now, at most `last`; nothing, and nothing is changed, if the items cannot be read
/// or the index is damaged, which is told.
pub(crate) fn slice(rows: Rows<'_>, upto: u64, last: u64) -> Result<Option<u64>> {
    let Some(about) = rows.about else { return Ok(Some(last)) };
    match put(rows, about, upto, last).map_err(|fault| fault.of(|| "talk".into())) {
        Ok(reached) => Ok(Some(reached)),
        Err(Fault::Damaged(what)) => {
            rows.told.tell(&what);
            // Half of a change may be there: the transaction is taken back, and ends as an empty one.
            rows.connection.execute_batch("ROLLBACK; BEGIN IMMEDIATE")?;
            Ok(None)
        }
        Err(Fault::Sqlite(error)) => Err(error),
    }
}

fn put(rows: Rows<'_>, about: About, upto: u64, last: u64) -> Answer<u64> {
    // What is made anew begins empty.
    if upto == 0 && !empty(rows.connection)? {
        note(rows, 0)?;
        return Ok(0);
    }
    let seqs = behind(rows, upto).map_err(|error| Fault::from(error).of(|| "item".into()))?;
    let (mut bytes, mut reached) = (0, last);
    let mut inserts = Inserts::of(rows.connection);
    for (looked, seq) in (1..).zip(seqs) {
        match rows.whole(seq) {
            Ok((log, item)) => {
                bytes += item.size();
                if let Some(whom) = about(&item) {
                    let columns = [log, number_of(&whom), seq].map(stored);
                    inserts.write(&TALK, PUT_TALK, &columns)?;
                }
            }
            // Whom it is about is not known.
            Err(Fault::Damaged(_)) => {}
            Err(error) => return Err(error),
        }
        if looked == SLICE_ITEMS_MAX || bytes >= SLICE_BYTES_MAX {
            reached = seq;
            break;
        }
    }
    note(rows, reached)?;
    Ok(reached)
}

/// Takes the first rows out of the index, whosever they are; whether none was there.
fn empty(connection: &Connection) -> Result<bool> {
    let next: Option<[i64; 3]> = connection
        .prepare_cached(NEXT_OF_TALK)?
        .query_row([SLICE_ITEMS_MAX], |row| Ok([row.get(0)?, row.get(1)?, row.get(2)?]))
        .optional()?;
    let gone = match next {
        Some(next) => connection.prepare_cached(EMPTY_TALK)?.execute(next)?,
        None => connection.prepare_cached("DELETE FROM talk")?.execute([])?,
    };
    Ok(gone == 0)
}

/// Notes up to where all items are in the index.
fn note(rows: Rows<'_>, upto: u64) -> Result<()> {
    let sql = "INSERT INTO listed (one, upto, sum) VALUES (?1, ?2, ?3)
               ON CONFLICT DO UPDATE SET upto = ?2, sum = ?3";
    digest::write(rows.connection, &LISTED, sql, &[stored(1), stored(upto)])
}

/// Notes that none is in the index, within a transaction. Where that cannot be noted, it cannot be read
/// either, which is the same.
pub(crate) fn forget(rows: Rows<'_>) -> Result<()> {
    match note(rows, 0) {
        Err(error) if is_damage(&error) => {
            rows.connection.execute_batch("ROLLBACK; BEGIN IMMEDIATE")
        }
        done => done,
    }
}

/// The first items behind a place, whosever they are.
fn behind(rows: Rows<'_>, upto: u64) -> Result<Vec<u64>> {
    let sql = "SELECT seq FROM item WHERE seq > ?1 ORDER BY seq LIMIT ?2";
    let mut statement = rows.connection.prepare_cached(sql)?;
    let place = [upto.cast_signed(), SLICE_ITEMS_MAX];
    let found = statement.query_map(place, |row| number(row, 0))?;
    found.collect()
}

impl Rows<'_> {
    /// Up to which item all are in the index. Where that is damaged none counts as being in it, until
    /// they are put there anew after a start.
    pub(crate) fn listed(&self) -> Result<u64> {
        match self.noted() {
            Ok(upto) => Ok(upto),
            Err(Fault::Damaged(_)) => Ok(0),
            Err(Fault::Sqlite(error)) => Err(error),
        }
    }

    fn noted(&self) -> Answer<u64> {
        if self.told.is_talk_closed() {
            return Ok(0);
        }
        let found = || -> Answer<u64> {
            let sql = "SELECT one, upto, sum FROM listed WHERE one = 1";
            let mut statement = self.connection.prepare_cached(sql)?;
            let mut rows = statement.query([])?;
            let Some(row) = rows.next()? else { return Ok(0) };
            // It was never without one.
            hold(LISTED.check(row, 0)?, true)?;
            Ok(number(row, 1)?)
        };
        found().map_err(self.naming(|| "listed".into()))
    }

    /// Takes an item that goes out of the index, before it goes. Where the index cannot be written for
    /// damage it is closed, and that is an error still: half of a change may be there.
    pub(super) fn unlist(&self, log: u64, seq: u64) -> Result<()> {
        // Most are acknowledged, and go, before they are in it; and what is in it does not count while it
        // is emptied. Where it cannot be told they may be.
        if self.noted().is_ok_and(|upto| seq > upto) {
            return Ok(());
        }
        self.take_out(log, seq).inspect_err(|error| {
            if is_damage(error) {
                self.told.close_talk(&format!("the index of conversations: {error}"));
            }
        })
    }

    fn take_out(&self, log: u64, seq: u64) -> Result<()> {
        let whom = match self.about {
            Some(about) => match self.whole(seq) {
                Ok((_, item)) => Some(about(&item)),
                Err(Fault::Damaged(_)) => None,
                Err(Fault::Sqlite(error)) => return Err(error),
            },
            None => None,
        };
        let (log, seq) = (log.cast_signed(), seq.cast_signed());
        match whom {
            Some(Some(whom)) => {
                let sql = "DELETE FROM talk WHERE log = ?1 AND other = ?2 AND seq = ?3";
                let place = [log, number_of(&whom).cast_signed(), seq];
                self.connection.prepare_cached(sql)?.execute(place)?;
            }
            Some(None) => {}
            // It may stand anywhere among those of its log.
            None => {
                let sql = "DELETE FROM talk WHERE log = ?1 AND seq = ?2";
                self.connection.prepare_cached(sql)?.execute([log, seq])?;
            }
        }
        Ok(())
    }

    /// Tells if an item is not in the index that should be, where all up to `listed` are in it; answers
    /// how many bytes it has read.
    pub(super) fn look_for_talk(&self, log: u64, seq: u64, listed: u64) -> Result<u64> {
        let Some(about) = self.about.filter(|_| seq <= listed) else { return Ok(0) };
        let mut bytes = 0;
        let mut found = || -> Answer<bool> {
            let (_, item) = self.whole(seq)?;
            bytes = item.size() as u64;
            let Some(whom) = about(&item) else { return Ok(true) };
            let sql = "SELECT 1 FROM talk WHERE log = ?1 AND other = ?2 AND seq = ?3";
            let place = [log, number_of(&whom), seq].map(u64::cast_signed);
            Ok(self.connection.prepare_cached(sql)?.exists(place)?)
        };
        match found() {
            Ok(true) => {}
            Ok(false) => {
                let what = format!("item {seq}: the index of conversations is wrong about it");
                self.told.tell_of_talk(&what);
            }
            // What is damaged was told.
            Err(Fault::Damaged(_)) => {}
            // That is no reason not to look at the items behind this one.
            Err(Fault::Sqlite(error)) if is_damage(&error) => {
                self.told.tell_of_talk(&format!("the index of conversations: {error}"));
            }
            Err(Fault::Sqlite(error)) => return Err(error),
        }
        Ok(bytes)
    }
}

/// The items of a log that are about somebody, the newest first.
pub(crate) const READ_TALK_BACK: &str = "SELECT log, other, seq, sum FROM talk
     WHERE log = ?1 AND other = ?2 AND seq <= ?3 ORDER BY seq DESC";
/// One that is there was put there by an earlier try.
const PUT_TALK: &str = "INSERT INTO talk (log, other, seq, sum) VALUES (?1, ?2, ?3, ?4)
     ON CONFLICT DO UPDATE SET sum = ?4";
/// The first row behind so many.
const NEXT_OF_TALK: &str =
    "SELECT log, other, seq FROM talk ORDER BY log, other, seq LIMIT 1 OFFSET ?1";
const EMPTY_TALK: &str = "DELETE FROM talk WHERE (log, other, seq) < (?1, ?2, ?3)";
const OTHER_SEED: u64 = 1;
/// Items of one slice, or rows that are taken out of the index by one.
const SLICE_ITEMS_MAX: i64 = 1024;
/// A slice takes no further item from here on.
const SLICE_BYTES_MAX: usize = 512 * 1024;
/// So many items may be behind the index before it is time for a slice.
pub(crate) const UNLISTED_MAX: u64 = 256;

#[cfg(test)]
mod tests {
    use super::*;
    use crate::sqlite::schema::tests::at_version;
    use crate::sqlite::told::Told;

    const ROWS: u64 = 3000;

    /// However much is in it, what is made anew is emptied in slices; meanwhile nothing counts as being in
    /// it, and nothing of before is there when it does.
    #[test]
    fn what_is_made_anew_is_emptied_in_slices() {
        let (connection, told) = (at_version(5), Told::default());
        let fill = "WITH RECURSIVE n (n) AS (SELECT 1 UNION ALL SELECT n + 1 FROM n WHERE n < ?1)
                    INSERT INTO talk SELECT n % 2, n % 7, n, n FROM n";
        connection.execute(fill, [ROWS.cast_signed()]).unwrap();
        let rows =
            Rows { connection: &connection, summed: true, told: &told, about: Some(|_| None) };
        let count = || -> u64 {
            let sql = "SELECT count(*) FROM talk";
            connection.query_row(sql, [], |row| number(row, 0)).unwrap()
        };
        for left in [ROWS - 1024, ROWS - 2048, 0] {
            assert_eq!(slice(rows, 0, 9).unwrap(), Some(0));
            assert_eq!((count(), rows.listed().unwrap()), (left, 0));
        }
        assert_eq!(slice(rows, 0, 9).unwrap(), Some(9));
        assert_eq!(rows.listed().unwrap(), 9);
    }

    /// The first rows are found where they stand, and no others are looked at.
    #[test]
    fn emptying_looks_at_nothing_else() {
        let connection = at_version(5);
        let mut statement =
            connection.prepare(&format!("EXPLAIN QUERY PLAN {EMPTY_TALK}")).unwrap();
        let rows = statement.query_map([1, 1, 1], |row| row.get(3)).unwrap();
        let steps: Vec<String> = rows.map(Result::unwrap).collect();
        assert_eq!(steps, ["SEARCH talk USING PRIMARY KEY ((log,other,seq)<(?,?,?))"]);
    }
}
