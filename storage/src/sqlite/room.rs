//! Room on the disk: a reserve that is given up, part by part, when the disk is full, so that what
//! takes back can still be written, and is made again when there is enough. Whoever else fills the
//! disk takes no more of it than the part that was given up last; the last part is the operator's.
//!
//! What is refused meanwhile is left to `writer.rs`, what an account may use of it to `reserve.rs`.

use std::fs::{self, File};
use std::io::{self, Seek, Write};
use std::os::unix::fs::MetadataExt;
use std::path::{Path, PathBuf};
use std::time::{Duration, Instant};

use super::fault::Fault;
use super::home::{at, lack, make_private, private};
use super::tables::Tables;
use crate::reserve::{Ledger, Payer, growth};
use crate::unit::Unit;
use crate::{Lack, StoreError};

/// The reserve by default, on a disk that is not small: it is at most an eighth of it. Enough for
/// the write-ahead log to be copied into the database, with a group on top (asserted in
/// `writer.rs`).
pub const RESERVE_BYTES: u64 = 16 * 1024 * 1024;

/// The room that a store has.
#[derive(Debug)]
pub(crate) struct Room {
    dir: PathBuf,
    reserve_bytes: u64,
    /// What is left of it.
    kept_bytes: u64,
    /// What accounts have used of it.
    pub(crate) ledger: Ledger,
    /// What the disk lacked last.
    lack: Lack,
    tight: bool,
    /// A part was given up for [`Sake::Room`] since then.
    lent: bool,
    looked: Instant,
}

/// For whose sake the reserve is given up.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) enum Sake {
    /// Nobody's: nothing is given up. What does not fit together is done one by one.
    Nobody,
    /// Anybody's.
    Anybody,
    /// The operator's, or the server's own.
    Operator,
    /// That of room itself: by which pages can be given back that are free. Where that is not enough,
    /// somebody else takes whatever is given, and what is left is for those who take back.
    Room,
}

impl Room {
    /// Makes the reserve, or finds that there is no room for it.
    ///
    /// # Errors
    /// [`StoreError::NoSpace`] if there is not even room to open a database.
    pub(crate) fn open(dir: &Path, reserve_bytes: u64) -> Result<Room, StoreError> {
        let stat = rustix::fs::statvfs(dir).map_err(|error| at(dir)(error.into()))?;
        let share = stat.f_blocks.saturating_mul(stat.f_frsize) / RESERVE_SHARE;
        let reserve_bytes = reserve_bytes.min(share);
        let (kept_bytes, ledger) = (0, Ledger::of(reserve_bytes));
        let (lack, tight, lent, looked) = (Lack::Bytes, false, false, Instant::now());
        let dir_of = dir.into();
        let mut room =
            Room { dir: dir_of, reserve_bytes, kept_bytes, ledger, lack, tight, lent, looked };
        match room.make_reserve() {
            Ok(()) => {}
            Err(StoreError::NoSpace(lack)) => drop(room.run_out(lack, Sake::Anybody)),
            Err(error) => return Err(error),
        }
        while free_bytes(dir) < OPEN_BYTES_MIN && room.run_out(Lack::Bytes, Sake::Operator) {}
        // Without room for SQLite's memory-mapped index, a page fault would end the process.
        match free_bytes(dir) < OPEN_BYTES_MIN {
            true => Err(StoreError::NoSpace(Lack::Bytes)),
            false => Ok(room),
        }
    }

    /// How long the write-ahead log may get, in pages, before it is copied into the database:
    /// with a small reserve shorter, so that it can still be copied when the disk is full.
    pub(crate) fn wal_frames_max(&self) -> u64 {
        (self.reserve_bytes / 2 / PAGE_BYTES).clamp(WAL_FRAMES_MIN, WAL_FRAMES_MAX)
    }

    /// Whether the disk was full and is not yet free again.
    pub(crate) fn is_tight(&self) -> bool {
        self.tight
    }

    /// What accounts have used of the reserve, while the disk is full.
    pub(crate) fn ledger_if_tight(&self) -> Option<Ledger> {
        self.tight.then(|| self.ledger.clone())
    }

    /// What the disk lacks, while it is full.
    pub(crate) fn lack(&self) -> Lack {
        self.lack
    }

    /// Whether nothing is left but the operator's part, and the write-ahead log has no more room than
    /// that: then it keeps what it has.
    pub(crate) fn keeps_log(&self) -> bool {
        let part = self.reserve_bytes / PARTS;
        let log = fs::metadata(self.dir.join("store.sqlite-wal"));
        self.kept_bytes <= part && log.is_ok_and(|log| log.len() <= part)
    }

    /// What the disk lacks for so many bytes in a file of their own, if anything.
    fn lack_for(&self, bytes: u64) -> Option<Lack> {
        let tried = self.try_file(|file| write(file, bytes));
        tried.err().and_then(|error| lack(&self.dir.join(PROBE), &error))
    }

    fn try_file(&self, with: impl FnOnce(&mut File) -> io::Result<()>) -> io::Result<()> {
        let path = self.dir.join(PROBE);
        let tried = private().open(&path).and_then(|mut file| with(&mut file));
        let _ = fs::remove_file(&path);
        tried
    }

    /// An error of SQLite in words, and what the system says to a file that is made for this: SQLite knows
    /// that something failed, and not what. Nothing is synced for it: after a sync that failed none is to
    /// succeed.
    pub(crate) fn in_words(&self, error: &rusqlite::Error) -> String {
        match self.try_file(|file| file.write_all(&[0])) {
            Err(cause) => format!("{error}: {cause}"),
            Ok(()) => error.to_string(),
        }
    }

    /// What the disk lacks, if anything, as a file finds that is made for this.
    pub(crate) fn probe(&self) -> Option<Lack> {
        self.lack_for(PROBE_BYTES)
    }

    /// The disk is full: gives a part of the reserve up; whether there was one, for this sake.
    pub(crate) fn run_out(&mut self, lack: Lack, sake: Sake) -> bool {
        (self.tight, self.lack) = (true, lack);
        self.looked = Instant::now();
        if sake == Sake::Room && std::mem::replace(&mut self.lent, true) {
            return false;
        }
        if sake == Sake::Nobody {
            return false;
        }
        let part = self.reserve_bytes / PARTS;
        let (stays, step) = match sake {
            Sake::Operator if self.kept_bytes <= part => (0, OPERATOR_STEP_BYTES),
            _ => (part, part.max(PAGE_BYTES)),
        };
        let left = self.kept_bytes.saturating_sub(step).max(stays);
        if left >= self.kept_bytes {
            return false;
        }
        let path = self.path();
        // Some file systems give blocks back only with their next commit.
        let cut = |file: File| file.set_len(left).and_then(|()| file.sync_all());
        if let Err(error) = private().open(&path).and_then(cut) {
            tracing::warn!(path = %path.display(), %error, "cannot give up the reserve");
        }
        self.kept_bytes = left;
        true
    }

    /// Whether it is time to look for room again.
    pub(crate) fn is_look_due(&self, now: Instant) -> bool {
        let interval = if self.lack == Lack::Quota { QUOTA_INTERVAL } else { LOOK_INTERVAL };
        self.tight && now.duration_since(self.looked) >= interval
    }

    /// Looks whether there is room again; if so, the reserve is there again too.
    pub(crate) fn look(&mut self, now: Instant) -> bool {
        self.looked = now;
        let wanted = self.reserve_bytes + self.reserve_bytes / 4 + ROOM_BYTES_MIN;
        if !self.tight || free_bytes(&self.dir) + self.kept_bytes < wanted {
            return false;
        }
        // What is free is not said of a quota: it is tried.
        if self.lack == Lack::Quota && self.lack_for(wanted - self.kept_bytes).is_some() {
            return false;
        }
        if self.make_reserve().is_ok() {
            (self.tight, self.lent) = (false, false);
            self.ledger.give_back();
        }
        !self.tight
    }

    /// Makes it whole. If there is no room for that, it stays as it was.
    fn make_reserve(&mut self) -> Result<(), StoreError> {
        let path = self.path();
        let mut file = private().open(&path).map_err(at(&path))?;
        make_private(&file, &path)?;
        let meta = file.metadata().map_err(at(&path))?;
        // A copy of a store may have holes where zeros were.
        let real = meta.blocks() * 512 >= meta.len() && meta.len() <= self.reserve_bytes;
        self.kept_bytes = if real { meta.len() } else { 0 };
        let made = self.fill(&mut file);
        if made.is_err() {
            let _ = file.set_len(self.kept_bytes);
        }
        made.map_err(at(&path))?;
        self.kept_bytes = self.reserve_bytes;
        Ok(())
    }

    fn fill(&self, file: &mut File) -> io::Result<()> {
        let lacks = self.reserve_bytes - self.kept_bytes;
        if lacks == 0 {
            return Ok(());
        }
        file.set_len(self.kept_bytes)?;
        file.seek(io::SeekFrom::End(0))?;
        write(file, lacks)
    }

    fn path(&self) -> PathBuf {
        self.dir.join("reserve")
    }
}

/// Real blocks, in pages: larger writes make ext4 take folios that cost on each later write.
fn write(file: &mut File, mut bytes: u64) -> io::Result<()> {
    let page = [0; PAGE_BYTES as usize];
    while bytes > 0 {
        let next = bytes.min(PAGE_BYTES);
        file.write_all(&page[..next as usize])?;
        bytes -= next;
    }
    file.sync_all()
}

fn free_bytes(dir: &Path) -> u64 {
    rustix::fs::statvfs(dir).map_or(0, |stat| stat.f_bavail.saturating_mul(stat.f_frsize))
}

/// How often to look for room while the disk is full.
pub(crate) const LOOK_INTERVAL: Duration = Duration::from_millis(500);
/// The same where a quota is used up: whether it is, is seen by writing.
const QUOTA_INTERVAL: Duration = Duration::from_secs(10);
/// The file that is made to see what lacks.
const PROBE: &str = "probe";
/// What is written to it.
const PROBE_BYTES: u64 = 64 * 1024;
/// Room beside the reserve that must be free before appends are taken again, with a quarter of
/// the reserve: without it, full and not full would alternate.
const ROOM_BYTES_MIN: u64 = 1024 * 1024;
/// Room without which a store is not opened.
const OPEN_BYTES_MIN: u64 = 256 * 1024;
/// The reserve takes at most one part in so many of the file system.
const RESERVE_SHARE: u64 = 8;
/// It is given up in so many parts; the last one is the operator's.
pub(crate) const PARTS: u64 = 8;
/// That one in steps of so many bytes, so that whoever fills the disk leaves it enough for many acts.
const OPERATOR_STEP_BYTES: u64 = 64 * 1024;
/// Bounds of [`Room::wal_frames_max`].
const WAL_FRAMES_MIN: u64 = 250;
pub(crate) const WAL_FRAMES_MAX: u64 = 2000;
/// Of SQLite, and of most file systems.
pub(crate) const PAGE_BYTES: u64 = 4096;

/// Whether a unit may be carried out; while the disk is full, there is a ledger that says so.
pub(super) fn has_room(
    unit: &Unit,
    sake: Sake,
    ledger: &mut Option<Ledger>,
    tables: &mut Tables<'_>,
) -> rusqlite::Result<bool> {
    let Some(ledger) = ledger else { return Ok(true) };
    match growth(unit, tables) {
        _ if sake == Sake::Operator && unit.payer != Payer::Operator => Ok(false),
        Ok(growth) => Ok(ledger.admits(&unit.payer, growth)),
        Err(Fault::Sqlite(error)) => Err(error),
        Err(Fault::Damaged(_)) => Ok(false),
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    /// While somebody else takes whatever is given, looking for room costs one part of the reserve: the
    /// others are there for those who take back, and the last one for the operator.
    #[test]
    fn g8_looking_for_room_leaves_the_reserve_to_those_who_take_back() {
        let dir = tempfile::tempdir().unwrap();
        let part = 64 * 1024;
        let mut room = Room::open(dir.path(), PARTS * part).unwrap();
        let kept = |room: &Room| {
            assert_eq!(fs::metadata(room.path()).unwrap().len(), room.kept_bytes);
            room.kept_bytes / part
        };
        for _ in 0..20 {
            room.run_out(Lack::Bytes, Sake::Room);
        }
        assert_eq!(kept(&room), PARTS - 1);
        while room.run_out(Lack::Bytes, Sake::Anybody) {}
        assert_eq!(kept(&room), 1);
        assert!(room.run_out(Lack::Bytes, Sake::Operator));
        // When there was room again, the next time is another one.
        assert!(room.look(Instant::now()) && !room.is_tight());
        assert!(room.run_out(Lack::Bytes, Sake::Room) && !room.run_out(Lack::Bytes, Sake::Room));
    }
}
