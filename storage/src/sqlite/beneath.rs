//! Whether the log that lies beside a database is its own, before SQLite reads either: it puts the pages
//! of any log over any database, and a copy that was put back beneath a newer log would be pages of
//! two times, with the note of the newer one on top.
//!
//! Each start notes itself in the log, and brings it into the database before the next one does. So
//! what the database says alone, and the notes in its log, come up to what the witness knows.

use std::os::unix::ffi::OsStrExt;
use std::path::Path;

use rusqlite::{Connection, OpenFlags, OptionalExtension};

use super::fault::Fault;
use super::home::{Home, at};
use super::place::Beside;
use super::{rows, wal, witness};
use crate::StoreError;

/// Looks at the log: whether it is whole, and that of the database beneath it.
///
/// # Errors
/// [`StoreError::Damaged`] if it is not.
pub(crate) fn look(home: &Home) -> Result<(), StoreError> {
    let path = home.wal();
    wal::look(&path)?;
    let Beside::Witness(witness, _) = witness::look(home)? else { return Ok(()) };
    if !home.was_cut_off() {
        return Ok(());
    }
    // The database may be torn where the log has the page whole: then nothing is known.
    let Ok((starts, root)) = alone(&home.database()) else { return Ok(()) };
    let noted = match root {
        Some(root) => wal::frames_of(&path, root).map_err(at(&path))?,
        // The start that makes the table notes itself in it.
        None => 1,
    };
    if starts.saturating_add(noted) >= witness.starts {
        return Ok(());
    }
    let (path, known) = (path.display(), witness.starts);
    let what = format!(
        "{path}: it is of start {known}, the database beneath it is an older one, of start {starts}"
    );
    Err(StoreError::Damaged { what })
}

/// How often the database was opened, as it says without its log, and the page that says so.
fn alone(path: &Path) -> Result<(u64, Option<u32>), Fault> {
    let path = path.as_os_str().as_bytes();
    let path: String = path.iter().map(|byte| format!("%{byte:02x}")).collect();
    let flags = OpenFlags::SQLITE_OPEN_READ_ONLY | OpenFlags::SQLITE_OPEN_URI;
    let connection = Connection::open_with_flags(format!("file:{path}?immutable=1"), flags)?;
    let root = connection
        .query_row("SELECT rootpage FROM sqlite_schema WHERE name = 'place'", [], |row| row.get(0))
        .optional()?;
    let starts = root.map_or(Ok(0), |_| rows::place(&connection).map(|place| place.starts))?;
    Ok((starts, root))
}
