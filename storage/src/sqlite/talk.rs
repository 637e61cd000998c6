//! Which items of a log are about whom: an index by which one conversation is read without all others.
//!
//! It is filled behind the commits, a slice at a time: a row `listed` says up to which item all are in it,
//! and whoever reads seeks among all items behind that. What goes from a log goes from it with the same
//! commit. When there is time for a slice is left to `writer.rs`.
//!
//! A row has a number made of the address, and not the address: two may have the same, so an
//! item to which a row leads may be about somebody else.

use impp_protocol::Address;
use rusqlite::Result;
use twox_hash::XxHash3_64;

use super::digest::{self, Inserts, LISTED, TALK, stored};
use super::fault::Fault;
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
    if upto == 0 {
        // What is made anew begins empty.
        rows.connection.prepare_cached("DELETE FROM talk")?.execute([])?;
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
    let sql = "INSERT INTO listed (one, upto, sum) VALUES (?1, ?2, ?3)
               ON CONFLICT DO UPDATE SET upto = ?2, sum = ?3";
    digest::write(rows.connection, &LISTED, sql, &[stored(1), stored(reached)])?;
    Ok(reached)
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
        let found = || -> Answer<u64> {
            let sql = "SELECT one, upto, sum FROM listed WHERE one = 1";
            let mut statement = self.connection.prepare_cached(sql)?;
            let mut rows = statement.query([])?;
            let Some(row) = rows.next()? else { return Ok(0) };
            // It was never without one.
            hold(LISTED.check(row, 0)?, true)?;
            Ok(number(row, 1)?)
        };
        match found().map_err(self.naming(|| "listed".into())) {
            Ok(upto) => Ok(upto),
            Err(Fault::Damaged(_)) => Ok(0),
            Err(Fault::Sqlite(error)) => Err(error),
        }
    }

    /// Takes an item that goes out of the index, before it goes.
    pub(super) fn unlist(&self, log: u64, seq: u64) -> Result<()> {
        // Most are acknowledged, and go, before they are in it. Where it cannot be told they may be.
        if self.listed().is_ok_and(|upto| upto > 0 && seq > upto) {
            return Ok(());
        }
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
const OTHER_SEED: u64 = 1;
/// Items of one slice.
const SLICE_ITEMS_MAX: i64 = 1024;
/// A slice takes no further item from here on.
const SLICE_BYTES_MAX: usize = 512 * 1024;
/// So many items may be behind the index before it is time for a slice.
pub(crate) const UNLISTED_MAX: u64 = 256;
