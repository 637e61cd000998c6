//! What waits for one other domain: messages that are on the disk, in their order, and those that are
//! not stored. Who has to look is told whenever something has changed.
//!
//! Order, tries and fates are decided by `impp_federation::queue`; carrying is left to links.

use std::collections::VecDeque;
use std::sync::atomic::{AtomicU64, AtomicUsize, Ordering};
use std::sync::{Arc, Weak};
use std::time::Duration;

use impp_federation::backoff::Backoff;
use impp_federation::queue::{Cause, Limits, Queue, Standing, Ticket};
use impp_federation::shares::Claim;
use impp_protocol::command::Message;
use impp_protocol::{Address, Code, Domain, MessageId, Timestamp};
use parking_lot::Mutex;
use tokio::sync::Notify;

use crate::core::DashMap;
use crate::core::accounts::Accounts;
use crate::core::config::{Federation, seconds};
use crate::core::ground::Ground;
use crate::core::settings::Settings;

/// Bytes of waiting messages of one domain that are in memory too.
const MEMORY_BYTES_MAX: u64 = 4 * 1024 * 1024;
/// The same for all domains: each gets its part of it, so that very many have little each.
const MEMORY_BYTES_ALL: u64 = 32 * 1024 * 1024;
/// One account may have so large a part of the places of a queue, and of those for other domains:
/// the others find places too.
pub const SENDER_PART: u64 = 8;
/// But so many at least, as far as there are.
const SENDER_ITEMS_MIN: u64 = 100;
/// The same for their bytes.
const SENDER_BYTES_MIN: u64 = 256 * 1024;
/// Messages that are not stored and wait for a link; further ones are dropped.
const VOLATILE_MAX: usize = 64;

/// Whoever carries what waits for one other domain. It is told without any lock of the queue's.
pub trait Carrier: Send + Sync {
    /// There may be something to send.
    fn wake(&self);
}

/// See the module.
pub struct Waiting {
    /// The domain here.
    pub local: Domain,
    /// The domain there.
    pub remote: Domain,
    /// Told when the one task that sees to it has to look: to dial, to expire, to store ends.
    pub changed: Notify,
    backlog: Mutex<Backlog>,
    carrier: Weak<dyn Carrier>,
}

#[derive(Debug)]
struct Backlog {
    queue: Queue,
    /// Messages that are not stored, and what their senders hold for them.
    volatile: VecDeque<(Message, Claim)>,
    /// Nobody carries it any more; whoever comes finds another one.
    closed: bool,
}

impl Backlog {
    fn is_empty(&self) -> bool {
        self.queue.is_empty() && self.volatile.is_empty()
    }
}

impl Waiting {
    /// Does something with the queue of which nobody has to hear.
    pub fn with<R>(&self, act: impl FnOnce(&mut Queue) -> R) -> R {
        act(&mut self.backlog.lock().queue)
    }

    /// Does something after which the task has to look, and nothing more is to be sent.
    pub fn settle<R>(&self, act: impl FnOnce(&mut Queue) -> R) -> R {
        let answer = self.with(act);
        self.changed.notify_one();
        answer
    }

    /// Does something after which there may be more to send.
    pub fn change<R>(&self, act: impl FnOnce(&mut Queue) -> R) -> R {
        let answer = self.with(act);
        self.tell();
        answer
    }

    /// Puts something in, as [`Waiting::change`] does. `None` if it has just ended: whoever puts a
    /// message in must not find it out of sight.
    pub(super) fn enter<R>(&self, act: impl FnOnce(&mut Queue) -> R) -> Option<R> {
        self.enter_backlog(|backlog| act(&mut backlog.queue))
    }

    /// Passes a message that is not stored, or drops it if too much waits. `None` as with
    /// [`Waiting::enter`].
    pub(super) fn pass_on(&self, message: &Message, claim: &Claim) -> Option<()> {
        self.enter_backlog(|backlog| {
            if backlog.volatile.len() < VOLATILE_MAX {
                backlog.volatile.push_back((message.clone(), claim.clone()));
            }
        })
    }

    fn enter_backlog<R>(&self, act: impl FnOnce(&mut Backlog) -> R) -> Option<R> {
        let mut backlog = self.backlog.lock();
        if backlog.closed {
            return None;
        }
        let answer = act(&mut backlog);
        drop(backlog);
        self.tell();
        Some(answer)
    }

    fn tell(&self) {
        if let Some(carrier) = self.carrier.upgrade() {
            carrier.wake();
        }
        self.changed.notify_one();
    }

    /// Takes the next message that is not stored.
    pub fn next_volatile(&self) -> Option<Message> {
        self.backlog.lock().volatile.pop_front().map(|(message, _)| message)
    }

    /// The other domain cannot be reached: what is not stored is dropped.
    pub fn drop_volatile(&self) {
        self.backlog.lock().volatile.clear();
    }

    /// Whether nothing waits.
    pub fn is_empty(&self) -> bool {
        self.backlog.lock().is_empty()
    }

    /// Whether a link is needed.
    pub fn wants_link(&self) -> bool {
        let backlog = self.backlog.lock();
        backlog.queue.wants_link() || !backlog.volatile.is_empty()
    }

    /// Ends it if nothing waits; whether it has ended. Nothing can be put in from then on.
    pub fn close(&self) -> bool {
        let mut backlog = self.backlog.lock();
        backlog.closed |= backlog.is_empty();
        backlog.closed
    }
}

impl std::fmt::Debug for Waiting {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        let mut shown = f.debug_struct("Waiting");
        shown.field("local", &self.local).field("remote", &self.remote).finish_non_exhaustive()
    }
}

/// What waits for all other domains, by our domain and theirs.
#[derive(Debug)]
pub struct Queues {
    settings: Arc<Settings>,
    pub(super) accounts: Arc<Accounts>,
    table: DashMap<(Domain, Domain), Arc<Waiting>>,
    /// How many there are, to be asked at any time.
    count: AtomicUsize,
    tickets: AtomicU64,
}

impl Queues {
    /// Nothing waits yet.
    pub fn new(ground: &Ground) -> Queues {
        let Ground { settings, accounts, .. } = ground.clone();
        let (table, count, tickets) = Default::default();
        Queues { settings, accounts, table, count, tickets }
    }

    /// A queue for a pair of domains that has none, and who carries what is in it.
    pub fn open(&self, local: Domain, remote: Domain, carrier: Weak<dyn Carrier>) -> Arc<Waiting> {
        let queue = Queue::new(self.limits());
        let backlog = Mutex::new(Backlog { queue, volatile: VecDeque::new(), closed: false });
        let pair = (local.clone(), remote.clone());
        let waiting = Waiting { local, remote, changed: Notify::new(), backlog, carrier };
        let waiting = Arc::new(waiting);
        // One that has ended, and is not taken away yet, is replaced.
        if self.table.insert(pair, waiting.clone()).is_none() {
            self.count.fetch_add(1, Ordering::Relaxed);
        }
        waiting
    }

    /// Takes one away that has ended.
    pub fn forget(&self, waiting: &Arc<Waiting>) {
        let pair = (waiting.local.clone(), waiting.remote.clone());
        if self.table.remove_if(&pair, |_, other| Arc::ptr_eq(other, waiting)).is_some() {
            self.count.fetch_sub(1, Ordering::Relaxed);
        }
    }

    /// How many other domains there are.
    pub fn len(&self) -> usize {
        self.count.load(Ordering::Relaxed)
    }

    /// Whether there are none.
    pub fn is_empty(&self) -> bool {
        self.len() == 0
    }

    /// What a queue may hold now.
    pub fn limits(&self) -> Limits {
        let links = &self.settings.load().federation;
        let (items_max, domains) = (links.queue_items_max, self.len().max(1) as u64);
        let bytes = links.queue_bytes_max;
        Limits {
            items_max,
            sender_items_max: (items_max / SENDER_PART).max(SENDER_ITEMS_MIN).min(items_max),
            bytes_max: bytes,
            sender_bytes_max: (bytes / SENDER_PART).max(SENDER_BYTES_MIN).min(bytes),
            memory_bytes_max: MEMORY_BYTES_MAX.min(MEMORY_BYTES_ALL / domains),
            backoff: backoff(links),
        }
    }

    /// Nothing goes out in the name of an account that was disabled or removed. Looked at under the
    /// queue's lock: whoever does that comes to the queue after it, and finds what is there; or has
    /// been there, and is seen here. What is of a removed account ends without a fate (`fates`).
    pub(super) fn end_unless_enabled(&self, queue: &mut Queue, from: &Address) {
        if !self.accounts.is_enabled(from) {
            queue.end_sender(from, &disabled(from));
        }
    }

    /// Where a queued message waits.
    pub(super) fn standing(&self, from: &Address, id: MessageId) -> Option<Standing> {
        let of = self.of_domain(&from.domain());
        of.iter().find_map(|waiting| waiting.with(|queue| queue.standing(from, id)))
    }

    /// An account is gone: nothing more goes out in its name.
    pub(super) fn forget_sender(&self, from: &Address) {
        for waiting in self.of_domain(&from.domain()) {
            waiting.settle(|queue| queue.forget_sender(from));
        }
    }

    /// An account cannot be used any more: what it has waiting comes to its end.
    pub(super) fn end_sender(&self, from: &Address) {
        for waiting in self.of_domain(&from.domain()) {
            waiting.change(|queue| queue.end_sender(from, &disabled(from)));
        }
    }

    /// Those of a domain here. No entry of the table is held while one of the queues is.
    fn of_domain(&self, local: &Domain) -> Vec<Arc<Waiting>> {
        self.table.iter().filter(|e| e.key().0 == *local).map(|e| e.value().clone()).collect()
    }

    /// How many messages wait for other domains.
    pub(super) fn queued(&self) -> usize {
        let all: Vec<Arc<Waiting>> = self.table.iter().map(|e| e.value().clone()).collect();
        all.iter().map(|waiting| waiting.with(|queue| queue.len())).sum()
    }

    /// The next place in the order of messages.
    pub(super) fn ticket(&self, now: Timestamp) -> Ticket {
        let least = now.as_millis() << 16;
        let next = |last: u64| Some(least.max(last + 1));
        let (set, get) = (Ordering::AcqRel, Ordering::Acquire);
        let last = self.tickets.fetch_update(set, get, next).unwrap_or_default();
        least.max(last + 1)
    }

    /// Places up to this one are taken.
    pub(super) fn taken(&self, ticket: Ticket) {
        self.tickets.fetch_max(ticket, Ordering::AcqRel);
    }
}

/// Why messages of a disabled account are not sent.
fn disabled(from: &Address) -> Cause {
    Cause::here(Code::Refused, format!("the account {from} was disabled before it was sent"))
}

/// How long tries are apart.
pub fn backoff(links: &Federation) -> Backoff {
    Backoff {
        min: Duration::from_millis(links.retry_min_milliseconds),
        max: seconds(links.retry_max_seconds),
    }
}

#[cfg(test)]
mod tests {
    use std::sync::atomic::AtomicBool;

    use impp_federation::queue::Item;

    use super::*;

    #[derive(Default)]
    struct Woken(AtomicBool);

    impl Carrier for Woken {
        fn wake(&self) {
            self.0.store(true, Ordering::Relaxed);
        }
    }

    fn waiting(carrier: &Arc<Woken>) -> Waiting {
        let backoff = Backoff { min: Duration::from_secs(1), max: Duration::from_secs(60) };
        let limits = Limits {
            items_max: 10,
            sender_items_max: 10,
            bytes_max: 1000,
            sender_bytes_max: 1000,
            memory_bytes_max: 1000,
            backoff,
        };
        let (queue, volatile) = (Queue::new(limits), VecDeque::new());
        let carrier: Weak<dyn Carrier> = Arc::<Woken>::downgrade(carrier);
        Waiting {
            local: Domain::parse("a.example").unwrap(),
            remote: Domain::parse("b.example").unwrap(),
            changed: Notify::new(),
            backlog: Mutex::new(Backlog { queue, volatile, closed: false }),
            carrier,
        }
    }

    #[test]
    fn nothing_is_put_into_what_has_ended() {
        let carrier = Arc::new(Woken::default());
        let waiting = waiting(&carrier);
        let address = |text| Address::parse(text).unwrap();
        let (from, to) = (address("alice@a.example"), address("bob@b.example"));
        let (since, until) = (Timestamp::from_millis(0), Timestamp::from_millis(1000));
        let item = Item::new(1, MessageId([1; 16]), from, to, since, until);
        assert_eq!(waiting.enter(|queue| queue.reserve(item.clone())), Some(Ok(())));
        assert!(carrier.0.swap(false, Ordering::Relaxed), "who carries it was not told");
        // What waits keeps it.
        assert!(!waiting.close());
        waiting.settle(|queue| queue.remove(1));
        assert!(waiting.close());
        assert_eq!(waiting.enter(|queue| queue.reserve(item.clone())), None);
        assert!(waiting.is_empty() && !carrier.0.load(Ordering::Relaxed));
    }
}
