//! What goes wrong with SQLite, and what it means to whoever asked.

use rusqlite::types::FromSqlError;
use rusqlite::{Error, ErrorCode, ffi};

use crate::{Lack, StoreError};

/// Why rows could not be read.
#[derive(Debug)]
pub(crate) enum Fault {
    /// SQLite says so.
    Sqlite(Error),
    /// A row is not as it was written; what it is.
    Damaged(String),
}

/// What an error of SQLite means for the writer.
pub(crate) enum Trouble {
    /// No room, and what lacks; nothing of the transaction will ever show.
    Full(Lack),
    /// No room for the index of the write-ahead log, found after the transaction was written
    /// there: a crash before the next commit would bring it back.
    FullLate,
    Busy,
    /// The index of conversations is damaged, and closed now: without it there is no error.
    Index,
    Fatal,
}

impl From<Error> for Fault {
    fn from(error: Error) -> Fault {
        Fault::Sqlite(error)
    }
}

impl From<FromSqlError> for Fault {
    fn from(error: FromSqlError) -> Fault {
        Fault::Sqlite(error.into())
    }
}

impl From<Fault> for StoreError {
    fn from(fault: Fault) -> StoreError {
        match fault {
            Fault::Damaged(what) => StoreError::Damaged { what },
            Fault::Sqlite(error) => open_error(error),
        }
    }
}

impl Fault {
    /// Says what was read; also of damage that SQLite has found.
    pub(crate) fn of(self, what: impl FnOnce() -> String) -> Fault {
        match self {
            Fault::Damaged(reason) => Fault::Damaged(format!("{}: {reason}", what())),
            Fault::Sqlite(error) if is_damage(&error) => {
                Fault::Damaged(format!("{}: {error}", what()))
            }
            other => other,
        }
    }
}

/// Whether an error says that the file, or a row in it, is damaged.
pub(crate) fn is_damage(error: &Error) -> bool {
    match error.sqlite_error_code() {
        Some(code) => matches!(code, ErrorCode::DatabaseCorrupt | ErrorCode::NotADatabase),
        None => matches!(
            error,
            Error::FromSqlConversionFailure(..)
                | Error::IntegralValueOutOfRange(..)
                | Error::InvalidColumnType(..)
                | Error::Utf8Error(..)
        ),
    }
}

/// An error of SQLite while opening, in the words of this crate.
pub(crate) fn open_error(error: Error) -> StoreError {
    match error.sqlite_error_code() {
        Some(ErrorCode::DiskFull) => StoreError::NoSpace(Lack::Bytes),
        _ if is_damage(&error) => StoreError::Damaged { what: error.to_string() },
        _ => StoreError::Failed { reason: error.to_string() },
    }
}

/// What an error means. SQLite tells a full disk only by the system's word for no space; a quota comes as
/// any other error of writing, and a file that cannot be made as one that cannot be opened: so what lacks,
/// if anything does, is found by a probe.
pub(crate) fn classify(error: &Error, probe: impl FnOnce() -> Option<Lack>) -> Trouble {
    let extended = error.sqlite_error().map_or(0, |error| error.extended_code);
    match error.sqlite_error_code() {
        Some(ErrorCode::DiskFull) => Trouble::Full(probe().unwrap_or(Lack::Bytes)),
        _ if extended == ffi::SQLITE_IOERR_SHMSIZE => Trouble::FullLate,
        Some(ErrorCode::DatabaseBusy | ErrorCode::DatabaseLocked) => Trouble::Busy,
        // Before the sync, so nothing of the transaction is there: unless a sync fails, it is known.
        Some(ErrorCode::CannotOpen) => probe().map_or(Trouble::Fatal, Trouble::Full),
        _ if extended == ffi::SQLITE_IOERR_WRITE => probe().map_or(Trouble::Fatal, Trouble::Full),
        // What is not understood is taken for the worst.
        _ => Trouble::Fatal,
    }
}
