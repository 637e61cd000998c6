//! Waiting for conditions: with a deadline that only a hang reaches, never for a time that hopes.

use std::future::Future;
use std::io::Write;
use std::time::{Duration, Instant};

/// How long anything may take before a play gives up. No play asserts speed by it.
pub const DEADLINE: Duration = Duration::from_secs(30);

/// How often a condition is looked at.
const LOOK: Duration = Duration::from_millis(20);

/// Awaits `future`.
///
/// # Panics
/// If it takes longer than [`DEADLINE`]; `what` says what was awaited.
pub async fn within<T>(what: &str, future: impl Future<Output = T>) -> T {
    match tokio::time::timeout(DEADLINE, future).await {
        Ok(output) => output,
        Err(_) => panic!("waited {DEADLINE:?} in vain for {what}"),
    }
}

/// Looks again and again until `look` finds something.
///
/// # Panics
/// If it finds nothing within [`DEADLINE`]; `what` says what was awaited.
pub async fn eventually<T>(what: &str, mut look: impl AsyncFnMut() -> Option<T>) -> T {
    let deadline = Instant::now() + DEADLINE;
    loop {
        if let Some(found) = look().await {
            return found;
        }
        assert!(Instant::now() < deadline, "waited {DEADLINE:?} in vain for {what}");
        tokio::time::sleep(LOOK).await;
    }
}

/// Says on stderr, also where tests' output is kept back, that a play cannot be shown here. It is
/// named after the thread, which is the test's.
///
/// # Panics
/// As root where `CI` is set: what is needed is installed there, so that nothing is left out.
pub fn skipped(why: &str) {
    let current = std::thread::current();
    let name = current.name().unwrap_or("a play");
    let is_whole = std::env::var_os("CI").is_some() && rustix::process::geteuid().is_root();
    assert!(!is_whole, "{name} cannot be left out here: {why}");
    let _ = writeln!(std::io::stderr(), "skipped: {name}: {why}");
}
