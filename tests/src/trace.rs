//! strace on a running server: faults injected into its calls, or a record of them.
//!
//! It needs strace and the right to trace; a play that gets none of it is skipped and says so.

use std::collections::BTreeSet;
use std::io::{BufRead, BufReader};
use std::path::{Path, PathBuf};
use std::process::{Child, Command, Stdio};
use std::time::Duration;

use rustix::process::{Pid, Signal, kill_process};

use crate::server::Server;
use crate::wait::skipped;

/// How often a thread is looked at before it is said to be held, and how long lies between.
const LOOKS: usize = 5;
const BETWEEN_LOOKS: Duration = Duration::from_millis(20);

/// An strace that is attached. It lets go when dropped.
#[derive(Debug)]
pub struct Trace {
    child: Child,
    record: PathBuf,
}

impl Trace {
    /// Attaches to all threads of the server with these options; none if that cannot be done
    /// here, which is then said on stderr.
    pub fn attach(server: &Server, options: &[&str]) -> Option<Trace> {
        let record = server.data().join("strace.txt");
        let spawned = Command::new("strace")
            .args(["-f", "-o"])
            .arg(&record)
            .args(options)
            .args(["-p", &server.pid().to_string()])
            .stdin(Stdio::null())
            .stdout(Stdio::null())
            .stderr(Stdio::piped())
            .spawn();
        let mut child = match spawned {
            Ok(child) => child,
            Err(error) => {
                skipped(&format!("strace cannot be run: {error}"));
                return None;
            }
        };
        // The first line says that all threads are held, or why they are not.
        let mut lines = BufReader::new(child.stderr.take().unwrap()).lines();
        let line = lines.next().and_then(Result::ok).unwrap_or_default();
        if line.contains(" attached") {
            std::thread::spawn(move || lines.for_each(drop));
            return Some(Trace { child, record });
        }
        skipped(&format!("strace cannot attach: {line}"));
        let _ = child.wait();
        None
    }

    /// The disk hangs until this is dropped; none if strace cannot be used.
    pub fn hung_disk(server: &Server) -> Option<Trace> {
        let inject = "inject=fdatasync,fsync:delay_enter=600000000";
        Trace::attach(server, &["-e", "trace=fdatasync,fsync", "-e", inject])
    }

    /// Whether a thread of the server is held in a call that is delayed: it was, at each of several
    /// looks.
    pub fn holds(server: &Server) -> Option<()> {
        let held = || -> BTreeSet<PathBuf> {
            let threads = std::fs::read_dir(format!("/proc/{}/task", server.pid()));
            let threads = threads.into_iter().flatten().flatten().map(|thread| thread.path());
            threads.filter(|thread| is_held(thread)).collect()
        };
        let mut all = held();
        for _ in 0..LOOKS {
            std::thread::sleep(BETWEEN_LOOKS);
            let now = held();
            all.retain(|thread| now.contains(thread));
        }
        (!all.is_empty()).then_some(())
    }

    /// Lets go of the server: what it recorded.
    pub fn detach(mut self) -> String {
        self.end();
        std::fs::read_to_string(&self.record).unwrap_or_default()
    }

    fn end(&mut self) {
        if let Some(pid) = Pid::from_raw(self.child.id() as i32) {
            // Killed by SIGINT, strace detaches; by SIGKILL, it could leave threads stopped.
            let _ = kill_process(pid, Signal::INT);
        }
        let _ = self.child.wait();
    }
}

/// Whether the tracer holds a thread just now: its state is `t`.
fn is_held(thread: &Path) -> bool {
    let stat = std::fs::read_to_string(thread.join("stat")).unwrap_or_default();
    stat.rsplit_once(") ").is_some_and(|(_, rest)| rest.starts_with('t'))
}

impl Drop for Trace {
    fn drop(&mut self) {
        if let Ok(None) = self.child.try_wait() {
            self.end();
        }
    }
}
