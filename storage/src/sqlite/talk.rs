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
use super::rows::{Answer, Rows, number};

/// What stands for somebody in the index. It is stored, and never changes.
pub(crate) fn number_of(whom: &Address) -> u64 {
    XxHash3_64::oneshot_with_seed(OTHER_SEED, whom.as_str().as_bytes())
}

/// Puts a slice of the items into the index that are behind `upto`, within a transaction. Answers up to
/// where all are in it now, at most `last`; nothing if the items cannot be read.
pub(crate) fn slice(rows: Rows<'_>, upto: u64, last: u64) -> Result<Option<u64>> {
    let Some(about) = rows.about else { return Ok(Some(last)) };
    let seqs = match behind(rows, upto).map_err(|error| Fault::from(error).of(|| "item".into())) {
        Ok(seqs) => seqs,
        Err(Fault::Sqlite(error)) => return Err(error),
        Err(Fault::Damaged(what)) => {
            rows.told.tell(&what);
            return Ok(None);
        }
    };
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
            Err(Fault::Sqlite(error)) => return Err(error),
        }
        if looked == SLICE_ITEMS_MAX || bytes >= SLICE_BYTES_MAX {
            reached = seq;
            break;
        }
    }
    let sql = "INSERT INTO listed (one, upto, sum) VALUES (?1, ?2, ?3)
               ON CONFLICT DO UPDATE SET upto = ?2, sum = ?3";
    digest::write(rows.connection, &LISTED, sql, &[stored(1), stored(reached)])?;
    Ok(Some(reached))
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
    pub(crate) fn listed(&self) -> Answer<u64> {
        let mut statement =
            self.connection.prepare_cached("SELECT one, upto, sum FROM listed WHERE one = 1")?;
        let mut rows = statement.query([])?;
        let Some(row) = rows.next()? else { return Ok(0) };
        if LISTED.check(row, 0)? != digest::Verdict::Right {
            self.told.tell("listed: it does not fit its digest");
            return Ok(0);
        }
        Ok(number(row, 1)?)
    }

    /// Takes an item that goes out of the index, before it goes.
    pub(super) fn unlist(&self, log: u64, seq: u64) -> Result<()> {
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

    /// Tells if an item is not in the index that should be.
    pub(super) fn look_for_talk(&self, log: u64, seq: u64) -> Result<()> {
        let Some(about) = self.about else { return Ok(()) };
        let found = || -> Answer<bool> {
            if seq > self.listed()? {
                return Ok(true);
            }
            let Some(whom) = about(&self.whole(seq)?.1) else { return Ok(true) };
            let sql = "SELECT 1 FROM talk WHERE log = ?1 AND other = ?2 AND seq = ?3";
            let place = [log, number_of(&whom), seq].map(u64::cast_signed);
            Ok(self.connection.prepare_cached(sql)?.exists(place)?)
        };
        match found() {
            Ok(false) => {
                let what = format!("item {seq}: the index of conversations is wrong about it");
                self.told.tell(&what);
                Ok(())
            }
            // What is damaged was told.
            Ok(true) | Err(Fault::Damaged(_)) => Ok(()),
            Err(Fault::Sqlite(error)) => Err(error),
        }
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
