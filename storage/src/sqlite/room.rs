//! Room on the disk: a reserve that is given up when the disk is full, so that what frees room
//! can still be written, and is made again when there is enough.
//!
//! What is refused meanwhile is left to `writer.rs`.

use std::fs::{self, File};
use std::io::{self, Write};
use std::os::unix::fs::MetadataExt;
use std::path::{Path, PathBuf};
use std::time::{Duration, Instant};

use super::home::{at, make_private, private, sync_dir};
use crate::StoreError;

/// The reserve by default, on a disk that is not small: it is at most an eighth of it. Enough for
/// the write-ahead log to be copied into the database, with a group on top (asserted in
/// `writer.rs`).
pub const RESERVE_BYTES: u64 = 16 * 1024 * 1024;

/// The room that a store has.
#[derive(Debug)]
pub(crate) struct Room {
    dir: PathBuf,
    reserve_bytes: u64,
    tight: bool,
    looked: Instant,
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
        let mut room =
            Room { dir: dir.into(), reserve_bytes, tight: false, looked: Instant::now() };
        match room.make_reserve() {
            Ok(()) => {}
            Err(StoreError::NoSpace) => room.run_out(),
            Err(error) => return Err(error),
        }
        if free_bytes(dir) < OPEN_BYTES_MIN {
            room.run_out();
        }
        // Without room for SQLite's memory-mapped index, a page fault would end the process.
        if free_bytes(dir) < OPEN_BYTES_MIN { Err(StoreError::NoSpace) } else { Ok(room) }
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

    /// The disk is full: gives the reserve up.
    pub(crate) fn run_out(&mut self) {
        self.tight = true;
        self.looked = Instant::now();
        let path = self.path();
        if let Err(error) = fs::remove_file(&path)
            && error.kind() != io::ErrorKind::NotFound
        {
            tracing::warn!(path = %path.display(), %error, "cannot give up the reserve");
        }
        // Some file systems give blocks back only with their next commit.
        let _ = sync_dir(&self.dir);
    }

    /// Whether it is time to look for room again.
    pub(crate) fn is_look_due(&self, now: Instant) -> bool {
        self.tight && now.duration_since(self.looked) >= LOOK_INTERVAL
    }

    /// Looks whether there is room again; if so, the reserve is there again too.
    pub(crate) fn look(&mut self, now: Instant) -> bool {
        self.looked = now;
        let wanted = self.reserve_bytes + self.reserve_bytes / 4 + ROOM_BYTES_MIN;
        if !self.tight || free_bytes(&self.dir) < wanted {
            return false;
        }
        match self.make_reserve() {
            Ok(()) => self.tight = false,
            Err(_) => self.run_out(),
        }
        !self.tight
    }

    fn make_reserve(&self) -> Result<(), StoreError> {
        let path = self.path();
        let mut file = private().open(&path).map_err(at(&path))?;
        make_private(&file, &path)?;
        let meta = file.metadata().map_err(at(&path))?;
        // A copy of a store may have holes where zeros were.
        let whole = meta.len() == self.reserve_bytes && meta.blocks() * 512 >= meta.len();
        if !whole {
            self.fill(&mut file).map_err(at(&path))?;
        }
        Ok(())
    }

    /// Real blocks, in pages: larger writes make ext4 take folios that cost on each later write.
    fn fill(&self, file: &mut File) -> io::Result<()> {
        file.set_len(0)?;
        let page = [0; PAGE_BYTES as usize];
        for _ in 0..self.reserve_bytes / PAGE_BYTES {
            file.write_all(&page)?;
        }
        let rest = self.reserve_bytes % PAGE_BYTES;
        file.write_all(&page[..rest as usize])?;
        file.sync_all()
    }

    fn path(&self) -> PathBuf {
        self.dir.join("reserve")
    }
}

fn free_bytes(dir: &Path) -> u64 {
    rustix::fs::statvfs(dir).map_or(0, |stat| stat.f_bavail.saturating_mul(stat.f_frsize))
}

/// How often to look for room while the disk is full.
pub(crate) const LOOK_INTERVAL: Duration = Duration::from_millis(500);
/// Room beside the reserve that must be free before appends are taken again, with a quarter of
/// the reserve: without it, full and not full would alternate.
const ROOM_BYTES_MIN: u64 = 1024 * 1024;
/// Room without which a store is not opened.
const OPEN_BYTES_MIN: u64 = 256 * 1024;
/// The reserve takes at most one part in so many of the file system.
const RESERVE_SHARE: u64 = 8;
/// Bounds of [`Room::wal_frames_max`].
const WAL_FRAMES_MIN: u64 = 250;
pub(crate) const WAL_FRAMES_MAX: u64 = 2000;
/// Of SQLite, and of most file systems.
pub(crate) const PAGE_BYTES: u64 = 4096;
