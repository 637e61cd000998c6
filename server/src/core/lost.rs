//! Lines of the log that were lost since the start. The log's own thread counts them; they are told
//! in the log when it takes lines again, and in the metrics.

use std::sync::OnceLock;
use std::sync::atomic::{AtomicU64, Ordering};

use tracing_appender::non_blocking::ErrorCounter;

/// Lines that found no room.
static CROWDED: OnceLock<ErrorCounter> = OnceLock::new();
/// Lines that could not be written.
static UNWRITTEN: AtomicU64 = AtomicU64::new(0);

/// How many there are.
pub fn lines() -> u64 {
    let crowded = CROWDED.get().map_or(0, ErrorCounter::dropped_lines);
    crowded as u64 + UNWRITTEN.load(Ordering::Relaxed)
}

/// From now on those that find no room are counted there. There is one log, so the first stays.
pub(crate) fn count_crowded(counter: ErrorCounter) {
    let _ = CROWDED.set(counter);
}

/// Counts a line that could not be written.
pub(crate) fn count_unwritten() {
    UNWRITTEN.fetch_add(1, Ordering::Relaxed);
}
