//! The log on standard error. A thread of its own writes it, so that a reader that stalls, has gone
//! or has no room holds up nothing else: what it cannot take is dropped, counted, and told when it
//! takes lines again.

use std::fs::File;
use std::io::{self, Write};
use std::os::fd::AsFd;
use std::sync::Arc;
use std::sync::atomic::{AtomicBool, Ordering};
use std::time::Duration;

use tracing_appender::non_blocking::{NonBlockingBuilder, WorkerGuard};
use tracing_subscriber::layer::SubscriberExt;
use tracing_subscriber::util::SubscriberInitExt;
use tracing_subscriber::{Layer, fmt};

use crate::core::config::{Log, level};
use crate::core::lost;

/// Lines that wait to be written; further ones are dropped.
const LINES_MAX: usize = 8192;
/// How long the end waits for a line that is just being written.
const LAST_LINE_MAX: Duration = Duration::from_millis(100);

/// Why there is no log.
#[derive(Debug, thiserror::Error)]
pub enum LogError {
    /// The level is none.
    #[error("log level: {0}")]
    Level(String),
    /// Standard error cannot be used.
    #[error("standard error: {0}")]
    Output(#[from] io::Error),
    /// There is a log already.
    #[error("log: {0}")]
    Twice(#[from] tracing_subscriber::util::TryInitError),
}

/// The running log. When it is dropped, what waits is written, as far as a reader takes it.
#[derive(Debug)]
pub struct LogThread {
    guard: Option<WorkerGuard>,
    writing: Arc<AtomicBool>,
}

/// Starts the log.
///
/// # Errors
/// [`LogError`].
pub fn start(log: &Log) -> Result<LogThread, LogError> {
    let filter = level::parse(&log.level).map_err(LogError::Level)?;
    // A descriptor of its own: whoever else writes to standard error does not wait for its lock.
    let file = File::from(io::stderr().as_fd().try_clone_to_owned()?);
    let writing = Arc::new(AtomicBool::new(false));
    let output = Output { file, json: log.json, writing: writing.clone(), told: 0 };
    let (writer, guard) =
        NonBlockingBuilder::default().lossy(true).buffered_lines_limit(LINES_MAX).finish(output);
    lost::count_crowded(writer.error_counter());
    let lines = fmt::layer().with_ansi(false).log_internal_errors(false).with_writer(writer);
    let lines = if log.json { lines.json().boxed() } else { lines.boxed() };
    tracing_subscriber::registry().with(lines.with_filter(filter)).try_init()?;
    Ok(LogThread { guard: Some(guard), writing })
}

impl Drop for LogThread {
    fn drop(&mut self) {
        let is_writing = || self.writing.load(Ordering::Acquire);
        if is_writing() {
            std::thread::sleep(LAST_LINE_MAX);
        }
        // Nobody reads: what waits is lost, and nobody waits for that.
        if is_writing() {
            std::mem::forget(self.guard.take());
        }
    }
}

/// Standard error, as the log's thread writes to it: never an error, as nobody could be told.
struct Output {
    file: File,
    json: bool,
    writing: Arc<AtomicBool>,
    /// Dropped lines of which word is in the log.
    told: u64,
}

impl Output {
    fn put(&mut self, line: &[u8]) -> bool {
        self.writing.store(true, Ordering::Release);
        let written = self.file.write_all(line).is_ok();
        self.writing.store(false, Ordering::Release);
        written
    }

    fn tell_dropped(&mut self) {
        let count = lost::lines();
        if count == self.told {
            return;
        }
        let words = format!("{} lines of the log were dropped", count - self.told);
        let line = match self.json {
            true => format!("{}\n", serde_json::json!({"level": "WARN", "message": words})),
            false => format!("WARN {words}\n"),
        };
        if self.put(line.as_bytes()) {
            self.told = count;
        }
    }
}

impl Write for Output {
    fn write(&mut self, line: &[u8]) -> io::Result<usize> {
        match self.put(line) {
            true => self.tell_dropped(),
            false => lost::count_unwritten(),
        }
        Ok(line.len())
    }

    fn flush(&mut self) -> io::Result<()> {
        Ok(())
    }
}
