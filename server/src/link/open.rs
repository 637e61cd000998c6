//! The links that are open: who is told of them, on the disk and here, and who waits for their end.
//!
//! What a link carries is in `connection`.

use std::sync::Arc;

use impp_presence::LinkId;
use impp_protocol::Domain;
use impp_protocol::command::Bye;
use impp_storage::{Outcome, Pending};
use tokio_util::task::task_tracker::TaskTrackerToken;

use super::LinkMailbox;
use crate::core::DashMap;
use crate::core::config::seconds;
use crate::core::ground::Ground;
use crate::core::listeners::Listeners;
use crate::core::metrics::Metrics;
use crate::core::settings::Settings;
use crate::core::stopping::Stopping;
use crate::messages::Linked;

/// See the module.
pub struct OpenLinks {
    all: Arc<DashMap<LinkId, Arc<LinkMailbox>>>,
    settings: Arc<Settings>,
    listeners: Arc<Listeners>,
    linked: Arc<Linked>,
    metrics: Arc<Metrics>,
    stopping: Arc<Stopping>,
}

impl OpenLinks {
    /// These; whoever ends all links finds them there.
    pub fn new(
        ground: &Ground,
        all: Arc<DashMap<LinkId, Arc<LinkMailbox>>>,
        linked: Arc<Linked>,
        stopping: Arc<Stopping>,
    ) -> OpenLinks {
        let Ground { settings, listeners, metrics, .. } = ground.clone();
        OpenLinks { all, settings, listeners, linked, metrics, stopping }
    }

    /// Whether no links are opened any more.
    pub(super) fn is_stopping(&self) -> bool {
        self.stopping.begun.is_cancelled()
    }

    /// An orderly stop waits as long as this is held.
    pub(super) fn serving(&self) -> TaskTrackerToken {
        self.stopping.serving.token()
    }

    /// A link is open: presentities wake it from now on.
    pub(super) fn enter(&self, mailbox: &Arc<LinkMailbox>) {
        self.all.insert(mailbox.id, mailbox.clone());
        // Only those that were there when the stop began have been told of it.
        if self.is_stopping() {
            let times = &self.settings.load().times;
            mailbox.end(Bye::stopping(seconds(times.stop_retry_seconds)));
        }
        self.listeners.enter(mailbox.id.into(), mailbox.clone());
        self.metrics.links.inc();
    }

    /// It is no more.
    pub(super) fn leave(&self, mailbox: &LinkMailbox) {
        self.all.remove(&mailbox.id);
        self.listeners.leave(mailbox.id.into());
        self.metrics.links.dec();
    }

    /// Notes on the disk that messages may go out to a domain from now on, or no more.
    pub(super) fn note(&self, local: &Domain, remote: &Domain, open: bool) -> Pending<Outcome> {
        self.linked.note(local, remote, open)
    }
}

impl std::fmt::Debug for OpenLinks {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        f.debug_struct("OpenLinks").field("len", &self.all.len()).finish_non_exhaustive()
    }
}
