//! Ctrl-C and SIGTERM for what runs until it is stopped.

use tokio::signal::unix::{Signal, SignalKind, signal};

use crate::report::Failure;

/// Taken from the moment it is made.
pub(crate) struct Stop {
    interrupt: Signal,
    terminate: Signal,
}

impl Stop {
    pub(crate) fn new() -> Result<Stop, Failure> {
        let take = |kind| signal(kind).map_err(|error| Failure::system("signals", &error));
        let (interrupt, terminate) =
            (take(SignalKind::interrupt())?, take(SignalKind::terminate())?);
        Ok(Stop { interrupt, terminate })
    }

    /// Waits for either.
    pub(crate) async fn wait(&mut self) {
        tokio::select! {
            _ = self.interrupt.recv() => {}
            _ = self.terminate.recv() => {}
        }
    }
}
