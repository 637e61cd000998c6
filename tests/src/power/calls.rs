//! Calls on the store's files, read from what strace wrote.
//!
//! What they do to a disk is left to `disk.rs`.

use std::ffi::OsString;
use std::os::unix::ffi::OsStringExt;
use std::path::{Path, PathBuf};

/// A call that was done.
#[derive(Clone, Debug)]
pub struct Call {
    /// When it was entered, in microseconds since 1970; the thread was held until after that.
    pub at: u64,
    /// What it did.
    pub what: What,
}

/// What a call did.
#[derive(Clone, PartialEq, Eq)]
pub enum What {
    /// Opened a file in a way that makes it if there is none.
    Make(PathBuf),
    /// Made a folder.
    Folder(PathBuf),
    /// Wrote at a place.
    Write {
        /// Into this file.
        path: PathBuf,
        /// From this byte on.
        at: usize,
        /// These.
        bytes: Vec<u8>,
    },
    /// Cut a file to so many bytes, or made it longer.
    Length {
        /// This file.
        path: PathBuf,
        /// Its length.
        bytes: usize,
    },
    /// Synced a file, or a folder's entries.
    Sync(PathBuf),
    /// Gave a file another name.
    Rename {
        /// Its former name.
        from: PathBuf,
        /// Its new one.
        to: PathBuf,
    },
    /// Took a file away.
    Remove(PathBuf),
}

/// Files of the store that say nothing of what it holds: its lock, its room for a full disk, and an
/// index that SQLite makes anew after a crash.
const NOT_KEPT: [&str; 3] = ["lock", "reserve", "store.sqlite-shm"];

/// The calls of one thread on a store and the folders that it is in.
pub fn read(record: &str, store: &Path) -> Vec<Call> {
    record.lines().filter_map(|line| call(line, store)).collect()
}

/// One line: the time, the call with its arguments, what it answered. All strings are in hex, so
/// that none holds a comma or a bracket.
fn call(line: &str, store: &Path) -> Option<Call> {
    let (time, rest) = line.split_once(' ')?;
    let (name, rest) = rest.split_once('(')?;
    let (arguments, answer) = rest.rsplit_once(") = ").unwrap_or((rest, "?"));
    let mut words = arguments.split(", ");
    let mut next = || words.next().unwrap_or_default();
    let path = match name {
        "openat" => {
            next();
            path_of(answer)?
        }
        _ => path_of(next())?,
    };
    let about_store = path.starts_with(store) || store.starts_with(&path);
    let kept = !NOT_KEPT.iter().any(|file| path.ends_with(file));
    if answer.starts_with('-') || !about_store || !kept {
        return None;
    }
    assert!(!answer.starts_with('?'), "killed in the midst of it: {name} {}", path.display());
    let what = match name {
        "openat" => {
            next();
            let flags = next();
            assert!(!flags.contains("O_TRUNC"), "{name} {flags} is not understood");
            flags.contains("O_CREAT").then_some(What::Make(path))?
        }
        "pwrite64" => {
            let (bytes, length, at) = (unhex(next()), next(), next());
            assert_eq!(answer, length, "a short write");
            assert_eq!(answer, bytes.len().to_string(), "the record is cut off");
            What::Write { path, at: number(at), bytes }
        }
        "ftruncate" => What::Length { path, bytes: number(next()) },
        "fsync" | "fdatasync" => What::Sync(path),
        "mkdir" => What::Folder(path),
        "rename" => What::Rename { from: path, to: path_of(next())? },
        "unlink" => What::Remove(path),
        other => panic!("{other} on {} is not understood", path.display()),
    };
    Some(Call { at: microseconds(time), what })
}

/// The path in an argument or answer: a string, or behind an open file's number. None of a file
/// that has no name any more.
fn path_of(word: &str) -> Option<PathBuf> {
    let quoted = word.strip_prefix('"').and_then(|word| word.strip_suffix('"'));
    let opened = || word.split_once('<').and_then(|(_, word)| word.strip_suffix('>'));
    Some(OsString::from_vec(unhex(quoted.or_else(opened)?)).into())
}

/// The bytes of a string in hex, quoted or not: `\x68\x69`.
fn unhex(text: &str) -> Vec<u8> {
    let text = text.trim_matches('"').as_bytes();
    let digit = |digit: u8| char::from(digit).to_digit(16).expect("a digit in hex") as u8;
    let byte = |part: &[u8; 4]| {
        assert!(part.starts_with(b"\\x"), "not in hex");
        digit(part[2]) << 4 | digit(part[3])
    };
    let (parts, rest) = text.as_chunks::<4>();
    assert!(rest.is_empty(), "not in hex: {}", String::from_utf8_lossy(rest));
    parts.iter().map(byte).collect()
}

fn number(text: &str) -> usize {
    text.parse().expect("a number")
}

/// `1795962472.073776` is in seconds.
fn microseconds(text: &str) -> u64 {
    let (seconds, micros) = text.split_once('.').expect("a time");
    assert_eq!(micros.len(), 6, "{text}");
    number(seconds) as u64 * 1_000_000 + number(micros) as u64
}

impl What {
    /// The file or folder.
    pub fn path(&self) -> &Path {
        match self {
            What::Make(path) | What::Folder(path) | What::Sync(path) | What::Remove(path) => path,
            What::Write { path, .. } | What::Length { path, .. } => path,
            What::Rename { from, .. } => from,
        }
    }
}

/// Without the bytes.
impl std::fmt::Debug for What {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        let path = self.path().display();
        match self {
            What::Make(_) => write!(f, "make {path}"),
            What::Folder(_) => write!(f, "folder {path}"),
            What::Write { at, bytes, .. } => {
                write!(f, "write {} bytes at {at} of {path}", bytes.len())
            }
            What::Length { bytes, .. } => write!(f, "length {bytes} of {path}"),
            What::Sync(_) => write!(f, "sync {path}"),
            What::Rename { to, .. } => write!(f, "rename {path} to {}", to.display()),
            What::Remove(_) => write!(f, "remove {path}"),
        }
    }
}
