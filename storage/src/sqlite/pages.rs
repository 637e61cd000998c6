//! Whether the pages of the database fit together: SQLite's own checks.
//!
//! What stands in the rows on them is left to `rows.rs` and `scrub.rs`.

use std::time::{Duration, Instant};

use rusqlite::{Connection, ErrorCode};

use super::fault::open_error;
use crate::StoreError;

/// Whether the pages of the database fit together: the tables one after the other, those first by
/// which something is granted, for so long at most. What is left the scrub comes to.
pub(crate) fn check_quickly(connection: &mut Connection, max: Duration) -> Result<(), StoreError> {
    let end = Instant::now() + max;
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
pub(crate) const QUICK_CHECK_MAX: Duration = Duration::from_secs(2);
/// Steps of SQLite between two looks at the clock. A check of pages counts one for each page, which a
/// slow disk may take long for.
const PROGRESS_STEPS: i32 = 50;

#[cfg(test)]
mod tests {
    use std::os::unix::fs::FileExt;

    use super::super::schema::tests::bring_up;
    use super::*;

    const PAGE_BYTES: u64 = 4096;

    /// A start waits for the check no longer than it may: what is damaged behind that is for the scrub,
    /// however few rows the pages hold.
    #[test]
    fn g6_the_quick_check_ends_when_its_time_is_over() {
        let folder = tempfile::tempdir().unwrap();
        let path = folder.path().join("db");
        let mut made = Connection::open(&path).unwrap();
        bring_up(&mut made);
        made.execute_batch(
            "WITH RECURSIVE n(i) AS (SELECT 1 UNION ALL SELECT i + 1 FROM n WHERE i < 100)
             INSERT INTO body SELECT i, 1, zeroblob(3000), NULL FROM n",
        )
        .unwrap();
        let pages: i64 = made.query_row("PRAGMA page_count", [], |row| row.get(0)).unwrap();
        drop(made);
        let file = std::fs::OpenOptions::new().write(true).open(&path).unwrap();
        file.write_all_at(&[0xa5; 100], (pages.cast_unsigned() - 1) * PAGE_BYTES).unwrap();
        let mut connection = Connection::open(&path).unwrap();
        let hour = Duration::from_secs(3600);
        let whole = check_quickly(&mut connection, hour);
        assert!(matches!(whole, Err(StoreError::Damaged { .. })), "{whole:?}");
        check_quickly(&mut connection, Duration::ZERO).unwrap();
    }
}
