//! What a process has used so far, as the system tells it.

use std::path::Path;
use std::time::{Duration, Instant};

use impp_tests::Server;
use rustix::thread::{CpuSet, sched_setaffinity};

/// See the module.
pub(crate) struct Usage {
    /// When.
    pub at: Instant,
    /// Processor time.
    pub cpu: Duration,
    /// Bytes of memory resident.
    pub resident: u64,
    /// Bytes of the store's files.
    pub store: u64,
    /// Bytes of its log.
    pub log: u64,
}

impl Usage {
    /// Of a server that writes its log to this file.
    pub(crate) fn of(server: &Server, log: &Path) -> Usage {
        Usage {
            at: Instant::now(),
            cpu: server.processor_time(),
            resident: server.resident_bytes(),
            store: bytes_below(&server.data().join("store")),
            log: log.metadata().map_or(0, |metadata| metadata.len()),
        }
    }

    /// What was used since.
    pub(crate) fn since(&self, before: &Usage) -> Usage {
        Usage {
            at: self.at,
            cpu: self.cpu.saturating_sub(before.cpu),
            resident: self.resident.saturating_sub(before.resident),
            store: self.store.saturating_sub(before.store),
            log: self.log.saturating_sub(before.log),
        }
    }
}

fn bytes_below(folder: &Path) -> u64 {
    let entries = std::fs::read_dir(folder).unwrap();
    entries.filter_map(|entry| entry.ok()?.metadata().ok()).map(|metadata| metadata.len()).sum()
}

/// From now on this thread, and those that it starts, run on one processor, if there are so many.
pub(crate) fn pin_to(processor: usize) {
    let mut set = CpuSet::new();
    set.set(processor);
    // A machine of one processor has no second: then the figures are worth less, and it runs.
    let _ = sched_setaffinity(None, &set);
}

/// From now on this thread comes after others on its processor.
pub(crate) fn be_nice() {
    const LAST: i32 = 19;
    // Where it may not, it goes on as it is.
    let _ = rustix::process::nice(LAST);
}
