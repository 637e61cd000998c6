//! What a store answers when it cannot do as asked, by who is at fault.
//!
//! A unit that was understood and refused by its own conditions is no error but an
//! [`Outcome::Rejected`](crate::Outcome::Rejected). Words on the wire are left to the server.

use std::path::PathBuf;

/// Why a store did not open, or did not answer.
///
/// After [`Busy`](StoreError::Busy), [`TooLarge`](StoreError::TooLarge),
/// [`BadUnit`](StoreError::BadUnit) and [`NoSpace`](StoreError::NoSpace) nothing was done. After
/// [`Failed`](StoreError::Failed) and [`Stopped`](StoreError::Stopped) of a unit that was queued
/// it is unknown whether it was: the next start tells, and a retry with the same
/// de-duplication key is safe.
#[derive(Clone, Debug, PartialEq, Eq, thiserror::Error)]
pub enum StoreError {
    /// The queue is full; ask again later.
    #[error("the store is busy: its queue is full")]
    Busy,
    /// The caller passed something over a limit.
    #[error("{what} too large: got {got}, expected at most {max}")]
    TooLarge {
        /// What it is.
        what: &'static str,
        /// Its size or count.
        got: usize,
        /// The named limit of it.
        max: usize,
    },
    /// The caller's unit contradicts itself.
    #[error("bad unit: {0}")]
    BadUnit(&'static str),
    /// The disk is full: what grows is refused, reads and what takes back go on.
    #[error("{0}")]
    NoSpace(Lack),
    /// Reading or writing failed. After a failed write nothing is ever written again by this
    /// process, since what the disk then holds is unknown until a restart.
    #[error("the store failed: {reason}")]
    Failed {
        /// In the words of the layer below.
        reason: String,
    },
    /// The store was closed.
    #[error("the store is closed")]
    Stopped,
    /// Another process has the directory.
    #[error("{} is in use by {}", dir.display(), holder(*.pid))]
    Locked {
        /// The store's directory.
        dir: PathBuf,
        /// The other process, if it has written its number down yet.
        pid: Option<u32>,
    },
    /// A later version of this program wrote the store.
    #[error("the store has format {found}, this program knows formats up to {known}")]
    Newer {
        /// Its format.
        found: u32,
        /// The newest known.
        known: u32,
    },
    /// Something else than a store of this program; it is left as it is.
    #[error("{} is not a store of this program; it was left untouched", path.display())]
    Foreign {
        /// What was found.
        path: PathBuf,
    },
    /// A store of this program, but broken.
    #[error("the store is damaged: {what}")]
    Damaged {
        /// File and finding.
        what: String,
    },
    /// The file system refused something while the store was opened or closed.
    #[error("{}: {reason}", path.display())]
    Io {
        /// The file or directory.
        path: PathBuf,
        /// In the words of the system.
        reason: String,
    },
}

/// What a full disk lacks.
#[derive(Clone, Copy, Debug, PartialEq, Eq, thiserror::Error)]
pub enum Lack {
    /// Bytes.
    #[error("no space left on the store's disk")]
    Bytes,
    /// What the user as whom this runs may have of it.
    #[error("the disk quota of the store's user is used up")]
    Quota,
    /// Files that could still be made: it has no free inodes.
    #[error("the store's disk takes no more files: it has no free inodes")]
    Files,
}

fn holder(pid: Option<u32>) -> String {
    pid.map_or_else(|| "another process".into(), |pid| format!("process {pid}"))
}
