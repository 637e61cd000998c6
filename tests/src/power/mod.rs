//! Power cuts without a plug to pull: what a real server did to its files is recorded, and disks
//! are made of it as a cut at any moment could have left them.
//!
//! | file | holds |
//! |---|---|
//! | `calls.rs` | the record: calls on files, as strace wrote them down |
//! | `disk.rs` | a disk that forgets what was not synced, in part or out of order |
//! | `life.rs` | what is done while it is recorded, and what was answered when |
//! | `order.rs` | in which order files were written and synced |
//! | `found.rs` | what a store holds, held against that |
//!
//! Which moments are looked at, and what has to hold, is left to the plays.

pub mod calls;
pub mod disk;
pub mod found;
pub mod life;
pub mod order;

use std::ffi::OsString;
use std::path::{Path, PathBuf};
use std::process::{Command, Stdio};
use std::time::{SystemTime, UNIX_EPOCH};

use tempfile::TempDir;

use crate::eventually;
use crate::wait::skipped;
use calls::Call;

/// The calls that change files or sync them. One of them that `calls.rs` does not understand ends
/// the play, if it is about the store.
const CALLS: &str = "trace=openat,write,writev,pwrite64,pwritev,pwritev2,truncate,ftruncate,\
                     fallocate,copy_file_range,fsync,fdatasync,sync_file_range,mkdir,mkdirat,\
                     rename,renameat,renameat2,link,linkat,symlink,symlinkat,unlink,unlinkat,rmdir";

/// Records servers that are started under it.
#[derive(Debug)]
pub struct Recorder(TempDir);

impl Recorder {
    /// None if strace cannot be used here, which is then said on stderr.
    pub fn new() -> Option<Recorder> {
        let tried =
            Command::new("strace").args(["-o", "/dev/null", "true"]).stdin(Stdio::null()).output();
        match tried {
            Ok(output) if output.status.success() => {
                Some(Recorder(tempfile::Builder::new().prefix("impp-").tempdir().unwrap()))
            }
            other => {
                skipped(&format!("strace cannot be used: {other:?}"));
                None
            }
        }
    }

    /// What a server is started under. It stays the child of who starts it; a file for each of its
    /// threads takes the calls, whole lines with all bytes in hex.
    pub fn command(&self) -> Vec<OsString> {
        let words = ["strace", "-D", "-ff", "--seccomp-bpf", "-ttt", "-y", "-xx", "-a", "1"];
        let more = ["-s", "16777216", "-e", CALLS, "-o"];
        let out = self.0.path().join("calls").into_os_string();
        words.iter().chain(&more).map(OsString::from).chain([out]).collect()
    }

    /// The calls on a store and on the folders that it is in, once the servers have ended.
    pub async fn calls(&self, store: &Path) -> Vec<Call> {
        let records = eventually("the end of the record", async || self.records()).await;
        let mut calls: Vec<Call> =
            records.iter().flat_map(|record| calls::read(record, store)).collect();
        // Within a thread they are in order already; of two threads only one uses the store.
        calls.sort_by_key(|call| call.at);
        calls
    }

    /// What was written of each thread, if that is all.
    fn records(&self) -> Option<Vec<String>> {
        let paths = std::fs::read_dir(self.0.path()).unwrap().map(|entry| entry.unwrap().path());
        let read = |path: PathBuf| std::fs::read_to_string(path).unwrap();
        let records: Vec<String> = paths.map(read).collect();
        let ended =
            |record: &String| record.lines().last().is_some_and(|line| line.contains("+++"));
        (!records.is_empty() && records.iter().all(ended)).then_some(records)
    }
}

/// Microseconds since 1970, by the clock that the record is stamped by.
pub fn now() -> u64 {
    SystemTime::now().duration_since(UNIX_EPOCH).unwrap().as_micros() as u64
}
