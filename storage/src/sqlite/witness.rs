//! The file beside the database by which a copy that was put back is told: when it is read and
//! written.
//!
//! What it says is left to `place.rs`. It is made new at each start, and written in place meanwhile:
//! at most once a second, always after the sync of what it tells of, and without one of its own. What
//! a power cut loses of it only leaves it behind.

use std::fs::File;
use std::io::{self, Read};
use std::os::unix::fs::{FileExt, MetadataExt};
use std::path::{Path, PathBuf};
use std::time::{Duration, Instant};

use rusqlite::Connection;

use super::fault::{Fault, open_error};
use super::home::{Home, at};
use super::place::{Beside, Place, Restored, Verdict, Witness, judge};
use super::rows::{self, Meta};
use super::schema;
use super::tables::{write_meta, write_place};
use crate::StoreError;
use crate::memory::random_incarnation;

/// The witness of an open store.
#[derive(Debug)]
pub(crate) struct Beholder {
    path: PathBuf,
    file: File,
    place: Place,
    /// How much was written when it was last told.
    told: u64,
    told_at: Instant,
}

/// Finds out which store it is, and notes that it was opened: in the database, then beside it. A copy
/// that was put back gets a new incarnation, and counters beyond all that were given before.
pub(crate) fn behold(
    home: &Home,
    connection: &Connection,
    meta: &mut Meta,
) -> Result<(Beholder, Option<Restored>), StoreError> {
    let database = home.database();
    let inode = std::fs::metadata(&database).map_err(at(&database))?.ino();
    let path = home.dir().join(WITNESS);
    let beside = look(home)?;
    let (place, verdict) = match rows::place(connection) {
        Ok(place) => (place, judge(&place, meta.counters.written(), inode, beside)),
        // It holds nothing but what tells a copy. To take the store for one costs the clients their
        // places in their logs; to keep it closed would cost all that is in it.
        Err(Fault::Damaged(what)) => {
            tracing::error!(what, "the store is damaged");
            (Place::default(), Verdict::Restored(Restored::Damaged))
        }
        Err(error) => return Err(error.into()),
    };
    let restored = match verdict {
        Verdict::New => {
            // So that whoever finds it missing later knows that it was there.
            home.replace(WITNESS, Witness::default().encode().as_bytes())?;
            None
        }
        Verdict::Same => None,
        Verdict::Restored(why) => {
            meta.incarnation = random_incarnation()?;
            meta.counters.leap();
            Some(why)
        }
    };
    let place = place.next(verdict, beside, inode);
    let note = || -> rusqlite::Result<()> {
        let transaction = connection.unchecked_transaction()?;
        write_meta(&transaction, meta)?;
        write_place(&transaction, &place)?;
        transaction.commit()
    };
    note().map_err(open_error)?;
    // What a copy says of itself alone is far behind the witness, which is how the log of another
    // database is told (`beneath.rs`).
    if let Verdict::Restored(_) = verdict {
        schema::checkpoint(connection, "PASSIVE").map_err(open_error)?;
    }
    let told = meta.counters.written();
    // The next start does not find it so: it is said before anything else can go wrong.
    if let Some(why) = restored {
        tracing::warn!(%why, "the store is a copy that was put back or moved: cursors of before are of no use");
    }
    let file = home.replace(WITNESS, Witness::of(&place, told).encode().as_bytes())?;
    Ok((Beholder { path, file, place, told, told_at: Instant::now() }, restored))
}

impl Beholder {
    /// Tells the witness how much is written and synced, if it was not told a moment ago.
    pub(crate) fn tell(&mut self, written: u64, now: Instant) {
        if written == self.told || now.duration_since(self.told_at) < TELL_INTERVAL {
            return;
        }
        (self.told, self.told_at) = (written, now);
        if let Err(error) = self.write(written) {
            self.complain(&error);
        }
    }

    /// Tells it for the last time, and answers what the database is to know of it.
    pub(crate) fn put_away(&mut self, written: u64) -> Option<Place> {
        let known = self.write(written).and_then(|()| {
            self.file.sync_all()?;
            changed(&self.file)
        });
        match known {
            Ok(changed) => Some(Place { put_away: Some(changed), ..self.place }),
            Err(error) => {
                self.complain(&error);
                None
            }
        }
    }

    fn write(&self, written: u64) -> io::Result<()> {
        self.file.write_all_at(Witness::of(&self.place, written).encode().as_bytes(), 0)
    }

    /// That it is behind is no harm: a copy that is put back may go unseen.
    fn complain(&self, error: &io::Error) {
        tracing::warn!(path = %self.path.display(), %error, "cannot be written");
    }
}

/// What stands beside the database.
pub(crate) fn look(home: &Home) -> Result<Beside, StoreError> {
    read(&home.dir().join(WITNESS))
}

fn read(path: &Path) -> Result<Beside, StoreError> {
    let file = match File::open(path) {
        Ok(file) => file,
        Err(error) if error.kind() == io::ErrorKind::NotFound => return Ok(Beside::Nothing),
        Err(error) => return Err(at(path)(error)),
    };
    let (mut bytes, changed) = (Vec::new(), changed(&file).map_err(at(path))?);
    let read = file.take(WITNESS_BYTES_MAX).read_to_end(&mut bytes);
    let said = read.ok().and_then(|_| Witness::decode(std::str::from_utf8(&bytes).ok()?));
    Ok(said.map_or(Beside::Unreadable, |witness| Beside::Witness(witness, changed)))
}

/// The ctime of a file, in nanoseconds since 1970.
fn changed(file: &File) -> io::Result<i64> {
    let found = file.metadata()?;
    Ok(found.ctime().saturating_mul(1_000_000_000).saturating_add(found.ctime_nsec()))
}

/// The file's name.
const WITNESS: &str = "witness";
/// A longer one is none.
const WITNESS_BYTES_MAX: u64 = 512;
/// How often it is told, at most.
const TELL_INTERVAL: Duration = Duration::from_secs(1);
