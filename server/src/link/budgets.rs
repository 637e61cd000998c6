//! What another domain may have stored and show here, over all its links, however often it comes back.
//!
//! How budgets fill is `core::budget`'s.

use std::time::Duration;

use impp_protocol::command::{Message, Notify};
use impp_protocol::{Domain, Timestamp};

use super::LinkMailbox;
use crate::core::budget::{Cost, Flow, Lacks, Terms};
use crate::core::budgets::BudgetsOf;
use crate::core::config::Federation;

/// What the rows of a message weigh on the disk beside its body.
const ROWS_BYTES: u64 = 1024;
/// What is looked at for a watcher whom a notification names.
const WATCHER_BYTES: u64 = 128;
/// A link is not read for so long at most: less than the other side waits for answers.
const PAUSE_MAX: Duration = Duration::from_secs(10);

/// A pair of domains: ours, and the other.
type Pair = (Domain, Domain);

/// See the module.
#[derive(Debug, Default)]
pub struct DomainBudgets {
    messages: BudgetsOf<Pair>,
    presence: BudgetsOf<Pair>,
}

impl DomainBudgets {
    /// Takes what a message of the other side's costs.
    ///
    /// # Errors
    /// How long it has to wait.
    pub(super) fn message(
        &self,
        now: Timestamp,
        link: &LinkMailbox,
        links: &Federation,
        message: &Message,
    ) -> Result<(), Duration> {
        let stored = if message.volatile { 0 } else { ROWS_BYTES + message.body.len() as u64 };
        let terms = Terms {
            work: Flow { per_second: links.messages_per_second, burst: links.messages_burst },
            stored: Flow {
                per_second: links.stored_bytes_per_second,
                burst: links.stored_bytes_burst,
            },
        };
        let taken = self.messages.take(now, &pair(link), terms, Cost { work: 1, stored });
        taken.map_err(|(Lacks::Work(wait) | Lacks::Stored(wait))| wait)
    }

    /// A notification has come, asked for or not: for how long no more is read. Presence waits first:
    /// what comes later says what is newest then.
    pub(super) fn notified(
        &self,
        now: Timestamp,
        link: &LinkMailbox,
        links: &Federation,
        notify: &Notify,
    ) -> Option<Duration> {
        let content = notify.snapshot.iter().chain(&notify.patch).map(|bytes| bytes.len() as u64);
        let watchers = WATCHER_BYTES * (1 + notify.watchers.len() as u64);
        let flow =
            Flow { per_second: links.presence_bytes_per_second, burst: links.presence_bytes_burst };
        let terms = Terms { work: flow, stored: flow };
        let cost = Cost { work: 0, stored: watchers + content.sum::<u64>() };
        let pause = self.presence.owe(now, &pair(link), terms, cost).min(PAUSE_MAX);
        (!pause.is_zero()).then_some(pause)
    }
}

fn pair(link: &LinkMailbox) -> Pair {
    (link.local.clone(), link.remote.clone())
}
