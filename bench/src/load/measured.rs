//! A window of time in which a server is measured: what it delivered, how late, and what it used.

use std::cell::RefCell;
use std::future::Future;
use std::io::{BufRead, BufReader};
use std::process::{Command, Stdio};
use std::sync::Arc;
use std::sync::atomic::{AtomicBool, Ordering};
use std::time::Duration;

use impp_bench::usage::{Used, whole_machine};
use rustix::process::{Pid, Signal, kill_process};
use serde_json::{Map, Value, json};
use tokio::time::Instant;

use crate::crowd::{WHILE, settled};
use crate::protocol::Protocol;
use crate::stamp::{Clock, Stamp};

/// What was delivered and when, counted by those to whom it came.
pub(crate) struct Deliveries {
    clock: Clock,
    inner: RefCell<Inner>,
}

#[derive(Default)]
struct Inner {
    delivered: u64,
    refused: u64,
    throttled: u64,
    /// From when what is delivered was due for its lateness to count; none: not at all.
    since: Option<Duration>,
    /// In microseconds.
    late: Vec<u32>,
    /// How long after it was due something was sent, likewise.
    sent_late: Vec<u32>,
}

impl Inner {
    /// How late it is, if that counts.
    fn late(&self, now: Duration, due: Duration) -> Option<u32> {
        let late = now.saturating_sub(due).as_micros();
        self.since.filter(|since| due >= *since).map(|_| u32::try_from(late).unwrap_or(u32::MAX))
    }
}

impl Deliveries {
    pub(crate) fn new(clock: Clock) -> Deliveries {
        Deliveries { clock, inner: RefCell::default() }
    }

    /// One has come.
    pub(crate) fn delivered(&self, stamp: Stamp) {
        let mut inner = self.inner.borrow_mut();
        inner.delivered += 1;
        let late = inner.late(self.clock.now(), stamp.due);
        inner.late.extend(late);
    }

    /// One is sent that was due then.
    pub(crate) fn sent(&self, due: Duration) {
        let mut inner = self.inner.borrow_mut();
        let late = inner.late(self.clock.now(), due);
        inner.sent_late.extend(late);
    }

    /// One was refused.
    pub(crate) fn refused(&self) {
        self.inner.borrow_mut().refused += 1;
    }

    /// One was refused because there were too many.
    pub(crate) fn throttled(&self) {
        self.inner.borrow_mut().throttled += 1;
    }

    /// How many have come.
    pub(crate) fn count(&self) -> u64 {
        self.inner.borrow().delivered
    }

    /// How many system calls the server makes for each delivery, counted for so long; none if strace
    /// cannot be used here. It makes the server slow, so it is no part of a window.
    pub(crate) async fn calls(&self, protocol: &dyn Protocol, span: Duration) -> Option<f64> {
        let record = tempfile::NamedTempFile::new().ok()?;
        let mut strace = Command::new("strace");
        strace.args(["-f", "-c", "-o"]).arg(record.path());
        for process in protocol.processes() {
            strace.args(["-p", &process.to_string()]);
        }
        let mut child = strace.stderr(Stdio::piped()).spawn().ok()?;
        let lines = BufReader::new(child.stderr.take()?).lines();
        let attached = Arc::new(AtomicBool::new(false));
        let has_attached = attached.clone();
        std::thread::spawn(move || {
            for line in lines.map_while(Result::ok) {
                has_attached.fetch_or(line.contains(" attached"), Ordering::Relaxed);
            }
        });
        settled(WHILE, || attached.load(Ordering::Relaxed)).await;
        let before = self.count();
        tokio::time::sleep(span).await;
        let done = self.count() - before;
        kill_process(Pid::from_raw(child.id().cast_signed())?, Signal::INT).ok()?;
        child.wait().ok()?;
        let table = std::fs::read_to_string(record.path()).ok()?;
        let total = table.lines().find(|line| line.ends_with(" total"))?;
        let calls: f64 = total.split_whitespace().nth(3)?.parse().ok()?;
        (done > 0).then_some(calls / done as f64)
    }

    /// Measures for so long.
    pub(crate) async fn window(&self, protocol: &dyn Protocol, span: Duration) -> Value {
        self.inner.borrow_mut().since = Some(self.clock.now());
        self.inner.borrow_mut().late.clear();
        self.inner.borrow_mut().sent_late.clear();
        let before = self.count();
        let mut figures = used(protocol, async {
            tokio::time::sleep(span).await;
            self.count() - before
        })
        .await;
        let mut inner = self.inner.borrow_mut();
        inner.since = None;
        inner.late.sort_unstable();
        for (name, share) in [("p50_ms", 0.5), ("p99_ms", 0.99), ("max_ms", 1.0)] {
            figures.insert(name.into(), json!(share_of(&inner.late, share)));
        }
        inner.sent_late.sort_unstable();
        figures.insert("sent_p99_ms".into(), json!(share_of(&inner.sent_late, 0.99)));
        Value::Object(figures)
    }

    /// What is told of what was asked for until now, the whole run.
    pub(crate) fn tell_refused(&self, figures: &mut Value) {
        let inner = self.inner.borrow();
        figures["refused"] = json!(inner.refused);
        figures["throttled"] = json!(inner.throttled);
    }
}

/// In milliseconds, what this share of sorted microseconds does not exceed; none if there are none.
fn share_of(sorted: &[u32], share: f64) -> Option<f64> {
    let place = (sorted.len() as f64 * share) as usize;
    let found = sorted.get(place.min(sorted.len().saturating_sub(1)));
    found.map(|micros| f64::from(*micros) / 1000.0)
}

/// What a server uses while something is done, for each of as many things as are told in the end.
pub(crate) async fn used(
    protocol: &dyn Protocol,
    doing: impl Future<Output = u64>,
) -> Map<String, Value> {
    let before = Moment::now(protocol);
    let done = doing.await;
    Moment::now(protocol).since(&before, done)
}

/// What everybody has used up to a moment.
struct Moment {
    at: Instant,
    server: Used,
    generator: Used,
    whole_machine: Duration,
    syncs: Option<f64>,
    carried: Option<u64>,
}

impl Moment {
    fn now(protocol: &dyn Protocol) -> Moment {
        let syncs = protocol.syncs();
        Moment {
            at: Instant::now(),
            server: Used::by(&protocol.processes()),
            generator: Used::by(&[std::process::id()]),
            whole_machine: whole_machine(),
            syncs,
            carried: protocol.carried(),
        }
    }

    /// What has been used since, for each thing done.
    fn since(&self, before: &Moment, done: u64) -> Map<String, Value> {
        let took = self.at.duration_since(before.at).as_secs_f64();
        let server = self.server.since(&before.server);
        let generator = self.generator.since(&before.generator).cpu;
        let all = self.whole_machine.saturating_sub(before.whole_machine);
        let syncs = self.syncs.zip(before.syncs).map(|(now, before)| now - before);
        let carried = self.carried.zip(before.carried).map(|(now, before)| (now - before) as f64);
        let each = |figure: f64| (done > 0).then(|| figure / done as f64);
        let share = |cpu: Duration| cpu.as_secs_f64() / took;
        let figures = json!({
            "done": done,
            "seconds": took,
            "per_second": done as f64 / took,
            "cpu_us": each(server.cpu.as_secs_f64() * 1e6),
            "switches": each(server.switches as f64),
            "syncs": syncs.and_then(each),
            "link_bytes": carried.and_then(each),
            "server_load": share(server.cpu),
            "generator_load": share(generator),
            // What nobody here has used, others have.
            "others_load": share(all.saturating_sub(server.cpu + generator)),
        });
        figures.as_object().cloned().unwrap_or_default()
    }
}
