//! The store's directory: its modes, its lock, and whether what lies in it is ours.
//!
//! What is inside the database is left to `schema.rs`.

use std::fs::{self, DirBuilder, File, OpenOptions, Permissions, TryLockError};
use std::io::{self, Read, Write};
use std::os::unix::fs::{DirBuilderExt, FileExt, OpenOptionsExt, PermissionsExt};
use std::path::{Path, PathBuf};

use rustix::fs::statvfs;

use super::schema::{APPLICATION_ID, SCHEMA_VERSION};
use crate::{Lack, StoreError};

/// A store's directory, held by this process as long as this value lives.
#[derive(Debug)]
pub(crate) struct Home {
    dir: PathBuf,
    /// The lock goes with the file's last handle, also when the process is killed.
    _lock: File,
}

/// What lies where the database should be.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) enum Found {
    Nothing,
    /// A database of ours, as far as its header tells.
    Store,
}

impl Home {
    /// Makes the directory if need be, and locks it.
    pub(crate) fn take(dir: &Path) -> Result<Home, StoreError> {
        let ours = make_dir(dir)?;
        let path = dir.join("lock");
        let mut file = private().read(true).open(&path).map_err(at(&path))?;
        match file.try_lock() {
            Ok(()) => {}
            Err(TryLockError::WouldBlock) => {
                let mut text = String::new();
                let _ = file.take(32).read_to_string(&mut text);
                return Err(StoreError::Locked { dir: dir.into(), pid: text.trim().parse().ok() });
            }
            Err(TryLockError::Error(error)) => return Err(at(&path)(error)),
        }
        make_private(&file, &path)?;
        // No room for the number is no reason to stay away from a store on a full disk.
        let _ = file.set_len(0).and_then(|()| writeln!(file, "{}", std::process::id()));
        let home = Home { dir: dir.into(), _lock: file };
        if ours {
            home.make_dir_private()?;
        }
        Ok(home)
    }

    /// Looks at the database's header without SQLite, so that nothing foreign is ever written to; before
    /// any connection is open, as [`Home::sync_database`].
    pub(crate) fn look(&self) -> Result<Found, StoreError> {
        let path = self.database();
        let foreign = || StoreError::Foreign { path: path.clone() };
        let file = match File::open(&path) {
            Ok(file) => file,
            Err(error) if error.kind() == io::ErrorKind::NotFound => {
                let wal = self.wal();
                if wal.exists() {
                    let what = format!("{} is there, {DATABASE} is missing", wal.display());
                    return Err(StoreError::Damaged { what });
                }
                return Ok(Found::Nothing);
            }
            Err(error) => return Err(at(&path)(error)),
        };
        if !file.metadata().map_err(at(&path))?.is_file() {
            return Err(foreign());
        }
        let mut header = [0; HEADER_BYTES];
        match file.read_exact_at(&mut header, 0) {
            Ok(()) => {}
            Err(error) if error.kind() == io::ErrorKind::UnexpectedEof => return Err(foreign()),
            Err(error) => return Err(at(&path)(error)),
        }
        if !header.starts_with(b"SQLite format 3\0") || word(&header, 68) != APPLICATION_ID {
            return Err(foreign());
        }
        let found = word(&header, 60);
        if found > SCHEMA_VERSION {
            return Err(StoreError::Newer { found, known: SCHEMA_VERSION });
        }
        make_private(&file, &path)?;
        self.make_dir_private()?;
        Ok(Found::Store)
    }

    /// Whether the process that had the store last did not put it away in good order: then there is
    /// a log that was not copied into the database.
    pub(crate) fn was_cut_off(&self) -> bool {
        fs::metadata(self.wal()).is_ok_and(|found| found.len() > 0)
    }

    /// The write-ahead log.
    pub(crate) fn wal(&self) -> PathBuf {
        self.dir.join(format!("{DATABASE}-wal"))
    }

    fn make_dir_private(&self) -> Result<(), StoreError> {
        let mode = Permissions::from_mode(DIR_MODE);
        fs::set_permissions(&self.dir, mode).map_err(at(&self.dir))
    }

    /// An empty private file in which a new database can be made; what a crash left of an
    /// earlier try is replaced.
    pub(crate) fn draft(&self) -> Result<PathBuf, StoreError> {
        let path = self.dir.join(DRAFT);
        for leftover in [DRAFT.to_owned(), format!("{DRAFT}-journal")] {
            match fs::remove_file(self.dir.join(&leftover)) {
                Err(error) if error.kind() != io::ErrorKind::NotFound => {
                    return Err(at(&path)(error));
                }
                _ => {}
            }
        }
        let file = private().create_new(true).open(&path).map_err(at(&path))?;
        make_private(&file, &path)?;
        Ok(path)
    }

    /// Puts a file in place of another, if there was one: after a crash it is the one or the other,
    /// whole.
    pub(crate) fn replace(&self, name: &str, bytes: &[u8]) -> Result<File, StoreError> {
        let (path, draft) = (self.dir.join(name), self.dir.join(format!("{name}.new")));
        match fs::remove_file(&draft) {
            Err(error) if error.kind() != io::ErrorKind::NotFound => return Err(at(&draft)(error)),
            _ => {}
        }
        let file = private().create_new(true).open(&draft).map_err(at(&draft))?;
        make_private(&file, &draft)?;
        file.write_all_at(bytes, 0).and_then(|()| file.sync_all()).map_err(at(&draft))?;
        fs::rename(&draft, &path).map_err(at(&path))?;
        self.sync()?;
        Ok(file)
    }

    /// Makes the finished draft the database: whole or not at all, also after a power cut.
    pub(crate) fn adopt_draft(&self) -> Result<(), StoreError> {
        let draft = self.dir.join(DRAFT);
        File::open(&draft).and_then(|file| file.sync_all()).map_err(at(&draft))?;
        fs::rename(&draft, self.database()).map_err(at(&draft))?;
        self.sync()
    }

    /// Makes the database durable, whoever has written it. Only for when no connection of this process
    /// is open: a handle that is closed takes with it all locks of the process on its file, and
    /// another process that comes and goes would then take itself for the last, and the log away.
    pub(crate) fn sync_database(&self) -> Result<(), StoreError> {
        let path = self.database();
        File::open(&path).and_then(|file| file.sync_all()).map_err(at(&path))
    }

    /// Makes the directory's entries durable.
    pub(crate) fn sync(&self) -> Result<(), StoreError> {
        sync_dir(&self.dir)
    }

    pub(crate) fn dir(&self) -> &Path {
        &self.dir
    }

    pub(crate) fn database(&self) -> PathBuf {
        self.dir.join(DATABASE)
    }
}

/// Opens or makes files that only this user may read.
pub(crate) fn private() -> OpenOptions {
    let mut options = OpenOptions::new();
    options.write(true).create(true).truncate(false).mode(FILE_MODE);
    options
}

/// Sets the mode again, as the umask may have taken bits from it or the file may be an old one.
pub(crate) fn make_private(file: &File, path: &Path) -> Result<(), StoreError> {
    file.set_permissions(Permissions::from_mode(FILE_MODE)).map_err(at(path))
}

pub(crate) fn sync_dir(dir: &Path) -> Result<(), StoreError> {
    File::open(dir).and_then(|file| file.sync_all()).map_err(at(dir))
}

/// An error of the file system, with the path that it is about.
pub(crate) fn at(path: &Path) -> impl Fn(io::Error) -> StoreError {
    move |error| match lack(path, &error) {
        Some(lack) => StoreError::NoSpace(lack),
        None => StoreError::Io { path: path.into(), reason: error.to_string() },
    }
}

/// What a disk lacks, if that is what an error about a file on it says: no bytes and no inodes are told
/// by one word.
pub(crate) fn lack(path: &Path, error: &io::Error) -> Option<Lack> {
    let has_no_inodes = || {
        let found = [path, around(path)].into_iter().find_map(|path| statvfs(path).ok());
        found.is_some_and(|stat| stat.f_bavail > 0 && stat.f_files > 0 && stat.f_favail == 0)
    };
    match error.kind() {
        io::ErrorKind::QuotaExceeded => Some(Lack::Quota),
        io::ErrorKind::StorageFull if has_no_inodes() => Some(Lack::Files),
        io::ErrorKind::StorageFull => Some(Lack::Bytes),
        _ => None,
    }
}

/// Makes the directory; answers whether its mode is ours to set. A directory that held other
/// things before there was a store in it keeps its mode: somebody may have named /tmp.
fn make_dir(dir: &Path) -> Result<bool, StoreError> {
    if dir.exists() {
        // Whoever made it, a start that was killed perhaps, may not have got to this. A directory
        // around it that is not ours to read was not made by us either.
        let _ = sync_dir(around(dir));
        return Ok(fs::read_dir(dir).map_err(at(dir))?.next().is_none());
    }
    let missing = |path: &&Path| !path.as_os_str().is_empty() && !path.exists();
    let missing: Vec<&Path> = dir.ancestors().take_while(missing).collect();
    DirBuilder::new().recursive(true).mode(DIR_MODE).create(dir).map_err(at(dir))?;
    // Each of them is found after a power cut only if the one around it says so.
    missing.into_iter().try_for_each(|made| sync_dir(around(made)))?;
    Ok(true)
}

/// The directory that a path is in.
fn around(path: &Path) -> &Path {
    match path.parent() {
        Some(parent) if parent.as_os_str().is_empty() => Path::new("."),
        parent => parent.unwrap_or(path),
    }
}

/// A number of four octets, as SQLite's files have it.
pub(crate) fn word(bytes: &[u8], offset: usize) -> u32 {
    bytes[offset..offset + 4].iter().fold(0, |word, byte| word << 8 | u32::from(*byte))
}

/// The database's file name.
const DATABASE: &str = "store.sqlite";
const DRAFT: &str = "store.sqlite.new";
const DIR_MODE: u32 = 0o700;
const FILE_MODE: u32 = 0o600;
const HEADER_BYTES: usize = 100;
