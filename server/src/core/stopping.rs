//! An orderly stop of the server: who is told that it begins, and whose end it waits for.

use tokio_util::sync::CancellationToken;
use tokio_util::task::TaskTracker;

/// See the module.
#[derive(Debug, Default)]
pub struct Stopping {
    /// The stop has begun: nobody new is accepted, and no links are opened any more.
    pub begun: CancellationToken,
    /// Clients' connections, and links until they are detached: the store is not put away before
    /// they have ended.
    pub serving: TaskTracker,
}
