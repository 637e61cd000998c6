//! Whether the pages of the database fit together: SQLite's own checks.
//!
//! What stands in the rows on them is left to `rows.rs` and `scrub.rs`.

use std::time::{Duration, Instant};

use rusqlite::{Connection, ErrorCode};

use super::fault::open_error;
use crate::StoreError;

/// Whether the pages of the database fit together: the tables one after the other, those first by
/// which something is granted, for as long as a start may take. What is left the scrub comes to.
pub(crate) fn check_quickly(connection: &mut Connection) -> Result<(), StoreError> {
    let end = Instant::now() + QUICK_CHECK_MAX;
    connection
        .progress_handler(PROGRESS_STEPS, Some(move || Instant::now() >= end))
        .map_err(open_error)?;
    let mut result = Ok(None);
    for table in ["meta", "place", "record", "log", "purged", "dedup", "item", "body"] {
        result = finding(connection, &format!("quick_check({table})"));
        if !matches!(result, Ok(None)) {
            break;
        }
    }
    connection.progress_handler(0, None::<fn() -> bool>).map_err(open_error)?;
    match result {
        Err(error) if error.sqlite_error_code() == Some(ErrorCode::OperationInterrupted) => {
            tracing::info!("the store is large: not all of it was looked at before the start");
            Ok(())
        }
        found => found.map_err(open_error)?.map_or(Ok(()), |finding| Err(damaged(&finding))),
    }
}

/// One of SQLite's own checks.
pub(crate) fn check(connection: &Connection, how: &str) -> Result<(), StoreError> {
    let found = finding(connection, how).map_err(open_error)?;
    found.map_or(Ok(()), |finding| Err(damaged(&finding)))
}

/// What one of SQLite's own checks finds first, if anything.
fn finding(connection: &Connection, how: &str) -> rusqlite::Result<Option<String>> {
    let finding: String = connection.query_row(&format!("PRAGMA {how}"), [], |row| row.get(0))?;
    Ok((finding != "ok").then_some(finding))
}

/// A finding about the database as a whole.
pub(crate) fn damaged(what: &str) -> StoreError {
    StoreError::Damaged { what: format!("store.sqlite: {what}") }
}

/// How long a start looks at the database after a process that did not end in good order.
const QUICK_CHECK_MAX: Duration = Duration::from_secs(2);
/// Steps of SQLite between two looks at the clock.
const PROGRESS_STEPS: i32 = 1000;
