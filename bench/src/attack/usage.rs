//! What the server under attack has used so far.

use std::path::Path;
use std::time::Instant;

use impp_bench::usage::Used;
use impp_tests::Server;

/// See the module.
pub(crate) struct Usage {
    /// When.
    pub at: Instant,
    /// By its process.
    pub process: Used,
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
            process: Used::by(&[server.pid()]),
            store: bytes_below(&server.data().join("store")),
            log: log.metadata().map_or(0, |metadata| metadata.len()),
        }
    }

    /// What was used since.
    pub(crate) fn since(&self, before: &Usage) -> Usage {
        Usage {
            at: self.at,
            process: self.process.since(&before.process),
            store: self.store.saturating_sub(before.store),
            log: self.log.saturating_sub(before.log),
        }
    }
}

fn bytes_below(folder: &Path) -> u64 {
    let entries = std::fs::read_dir(folder).unwrap();
    entries.filter_map(|entry| entry.ok()?.metadata().ok()).map(|metadata| metadata.len()).sum()
}
