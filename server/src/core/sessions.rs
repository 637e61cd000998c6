//! Sessions as others see them: a mailbox to signal, found by id and by account.
//!
//! What a session does is in `session`; signals carry no data, only that there is news. A link has a mailbox
//! of its own (`link/mailbox.rs`): being woken (`Signal`), looking again (`Again`) and being found
//! (`Listener`) are one for both; what word is left for is not, and neither has a use for what the other
//! keeps: a session its device, ticket and volatile messages, a link who hears over it.

use std::collections::{BTreeMap, BTreeSet, VecDeque};
use std::sync::atomic::{AtomicBool, AtomicU64, Ordering};
use std::sync::{Arc, Mutex, MutexGuard, PoisonError};
use std::time::Duration;

use crate::core::DashMap;
use crate::core::listeners::{Again, Listener, Listeners};
use crate::core::signal::Signal;
use crate::core::tickets::{Issued, Tickets};
use bytes::Bytes;
use impp_protocol::command::{Bye, ByeReason};
use impp_protocol::hashing::HashSet;
use impp_protocol::sasl::resume::Ticket;
use impp_protocol::{Address, DeviceId, SessionId, Timestamp, What};
use tokio::sync::Notify;
use tokio::sync::futures::Notified;

/// Who write at once to one session; of further ones nothing is told.
const TYPING_MAX: usize = 64;
/// Messages with `volatile` that wait for one session; further ones are dropped.
pub const VOLATILE_MAX: usize = 64;
/// Their bytes.
pub const VOLATILE_BYTES_MAX: usize = 128 * 1024;

/// Where others leave word for a session.
#[derive(Debug)]
pub struct Mailbox {
    /// The session.
    pub id: SessionId,
    /// Its account.
    pub account: Address,
    /// Its device.
    pub device: DeviceId,
    /// Wakes its connection.
    pub signal: Signal,
    news: Mutex<News>,
    /// Presentities that could not be read.
    again: Again,
    /// What the session follows, for those who list it.
    follows: Mutex<BTreeSet<Address>>,
    /// What resumes the session.
    tickets: Mutex<Tickets>,
    /// Wakes whoever waits to take the session over.
    moved: Notify,
    /// When the use of its device was last stored, milliseconds since 1970.
    seen: AtomicU64,
    /// It was taken away, whether or not it has said goodbye yet.
    revoked: AtomicBool,
    /// The layer of its device is what this session has published, as far as anybody has said: if it is
    /// not there, its grace or its lease has ended it.
    publishes: AtomicBool,
}

/// What a session has to look at.
#[derive(Debug, Default)]
pub struct News {
    /// Presentities that it follows and that may have changed.
    pub dirty: HashSet<Address>,
    /// Other things that may have changed, and whose they are: no more than there are kinds of things.
    pub things: Vec<(Address, What)>,
    /// The contact list has changed.
    pub contacts: bool,
    /// Encoded messages that are not stored.
    pub volatile: VecDeque<Bytes>,
    /// It has to end, and why.
    pub bye: Option<Bye>,
    /// Who writes just now, and until when that holds; nothing is kept if the session does not follow it.
    pub typing: Option<BTreeMap<Address, Timestamp>>,
    /// It has no connection: what is not stored is not kept for it.
    absent: bool,
}

impl News {
    fn may_differ(&mut self, owner: &Address, what: What) {
        if !self.things.iter().any(|(whose, known)| (whose, *known) == (owner, what)) {
            self.things.push((owner.clone(), what));
        }
    }
}

impl Mailbox {
    /// An empty mailbox.
    pub fn new(id: SessionId, account: Address, device: DeviceId, ticket: Issued) -> Mailbox {
        Mailbox {
            id,
            account,
            device,
            signal: Signal::default(),
            news: Mutex::default(),
            again: Again::default(),
            follows: Mutex::default(),
            tickets: Mutex::new(Tickets::new(ticket)),
            moved: Notify::new(),
            seen: AtomicU64::new(0),
            revoked: AtomicBool::new(false),
            publishes: AtomicBool::new(false),
        }
    }

    /// Whether the layer of its device is, or was until it ended by itself, this session's.
    pub fn publishes(&self) -> bool {
        self.publishes.load(Ordering::Relaxed)
    }

    /// Notes it.
    pub fn set_publishes(&self, publishes: bool) {
        self.publishes.store(publishes, Ordering::Relaxed);
    }

    /// Says that a thing that is not presence may have changed, if the session follows it or not.
    pub fn thing_changed(&self, owner: &Address, what: What) {
        self.tell(|news| news.may_differ(owner, what));
    }

    /// Says that the account's contact list has changed.
    pub fn contacts_changed(&self) {
        self.tell(|news| news.contacts = true);
    }

    /// Notes that the session follows a presentity.
    pub fn now_follows(&self, presentity: &Address) {
        let mut follows = self.follows.lock().unwrap_or_else(PoisonError::into_inner);
        follows.insert(presentity.clone());
    }

    /// Notes that it does not any more.
    pub fn unfollowed(&self, presentity: &Address) {
        self.follows.lock().unwrap_or_else(PoisonError::into_inner).remove(presentity);
    }

    /// What the session follows.
    pub fn follows(&self) -> Vec<Address> {
        let follows = self.follows.lock().unwrap_or_else(PoisonError::into_inner);
        follows.iter().cloned().collect()
    }

    /// Passes a message that is not stored, or drops it if too much waits.
    pub fn volatile(&self, message: Bytes) {
        self.tell(|news| {
            if news.absent {
                return;
            }
            let waiting: usize = news.volatile.iter().map(Bytes::len).sum();
            if news.volatile.len() < VOLATILE_MAX && waiting + message.len() <= VOLATILE_BYTES_MAX {
                news.volatile.push_back(message);
            }
        });
    }

    /// Says that somebody writes just now, until then, if the session follows that: to as many as are told at
    /// once.
    pub fn types(&self, from: &Address, until: Timestamp) {
        self.tell(|news| {
            let absent = news.absent;
            let Some(typing) = news.typing.as_mut().filter(|_| !absent) else { return };
            if typing.len() < TYPING_MAX || typing.contains_key(from) {
                typing.insert(from.clone(), until);
                news.may_differ(&self.account, What::Typing);
            }
        });
    }

    /// The session follows who writes, or does not any more.
    pub fn follow_typing(&self, follows: bool) {
        let mut news = self.news.lock().unwrap_or_else(PoisonError::into_inner);
        news.typing = follows.then(BTreeMap::new);
    }

    /// Takes who writes.
    pub fn take_typing(&self) -> BTreeMap<Address, Timestamp> {
        let mut news = self.news.lock().unwrap_or_else(PoisonError::into_inner);
        news.typing.as_mut().map(std::mem::take).unwrap_or_default()
    }

    /// Puts back what could not be written yet, before what came meanwhile.
    pub fn volatile_again(&self, rest: impl DoubleEndedIterator<Item = Bytes>) {
        let mut rest = rest.rev().peekable();
        if rest.peek().is_some() {
            self.tell(|news| rest.for_each(|message| news.volatile.push_front(message)));
        }
    }

    /// There is no connection any more, or one again. Messages that are not stored are dropped until
    /// then: whoever returns is not told what was said to nobody.
    pub fn set_absent(&self, absent: bool) {
        let mut news = self.news.lock().unwrap_or_else(PoisonError::into_inner);
        news.absent = absent;
        news.volatile.clear();
        news.typing.iter_mut().for_each(BTreeMap::clear);
    }

    /// Says after a while that a presentity may have changed.
    pub fn presentity_dirty_later(self: &Arc<Mailbox>, presentity: Address) {
        self.again.later(self, presentity, |mailbox| &mailbox.again);
    }

    /// Wakes the connection after a while.
    pub fn wake_later(self: &Arc<Mailbox>, after: Duration) {
        let mailbox = self.clone();
        tokio::spawn(async move {
            tokio::time::sleep(after).await;
            mailbox.signal.raise();
        });
    }

    /// Says after a while that a thing may have changed.
    pub fn thing_changed_later(self: &Arc<Mailbox>, owner: Address, what: What, after: Duration) {
        let mailbox = self.clone();
        tokio::spawn(async move {
            tokio::time::sleep(after).await;
            mailbox.thing_changed(&owner, what);
        });
    }

    /// Ends the session; the first reason stays, but nothing stays before revocation.
    pub fn end(&self, bye: Bye) {
        if bye.reason == ByeReason::Revoked {
            self.revoked.store(true, Ordering::Release);
        }
        self.tell(|news| {
            if bye.reason == ByeReason::Revoked || news.bye.is_none() {
                news.bye = Some(bye);
            }
        });
    }

    /// Takes the goodbye that is to be said.
    pub fn take_bye(&self) -> Option<Bye> {
        self.news.lock().unwrap_or_else(PoisonError::into_inner).bye.take()
    }

    /// Takes back a goodbye that moved the session and was not said.
    pub fn stay(&self) {
        let mut news = self.news.lock().unwrap_or_else(PoisonError::into_inner);
        news.bye.take_if(|bye| bye.reason == ByeReason::Replaced);
    }

    /// Whether the session was taken away.
    pub fn is_revoked(&self) -> bool {
        self.revoked.load(Ordering::Acquire)
    }

    /// The use of the device was stored, as of then.
    pub fn seen_at(&self, time: Timestamp) {
        self.seen.store(time.as_millis(), Ordering::Relaxed);
    }

    /// Whether its use was last stored so long ago, or longer.
    pub fn is_use_due(&self, now: Timestamp, after: Duration) -> bool {
        now.since(Timestamp::from_millis(self.seen.load(Ordering::Relaxed))) >= after
    }

    /// The same, and whoever is told yes is the one to store it.
    pub fn take_use(&self, now: Timestamp, after: Duration) -> bool {
        let seen = self.seen.load(Ordering::Relaxed);
        let (is_due, now) = (self.is_use_due(now, after), now.as_millis());
        let (this, last) = (Ordering::Relaxed, Ordering::Relaxed);
        is_due && self.seen.compare_exchange(seen, now, this, last).is_ok()
    }

    /// The session was put aside, or has ended: whoever waits to take it over looks again.
    pub fn let_go(&self) {
        self.moved.notify_waiters();
    }

    /// Waits until it is let go, or taken over by somebody else; from this call on nothing of that
    /// is missed.
    pub fn moved(&self) -> Notified<'_> {
        self.moved.notified()
    }

    /// The ticket that was handed out last.
    pub fn newest_ticket(&self) -> Ticket {
        self.tickets().newest().clone()
    }

    /// The one that resumes the session and of which this holds.
    pub fn ticket(&self, holds: impl Fn(&Issued) -> bool) -> Option<Ticket> {
        self.tickets().find(holds).cloned()
    }

    /// Uses a ticket, for which `fresh` is handed out; whether it was good. Whoever waits with one that has
    /// died by that is woken.
    pub fn use_ticket(&self, ticket: &Ticket, fresh: Issued) -> bool {
        let was_good = self.tickets().take(ticket, fresh);
        self.let_go();
        was_good
    }

    fn tickets(&self) -> MutexGuard<'_, Tickets> {
        self.tickets.lock().unwrap_or_else(PoisonError::into_inner)
    }

    /// Takes what there is but the goodbye.
    pub fn take(&self) -> News {
        let mut news = self.news.lock().unwrap_or_else(PoisonError::into_inner);
        let (bye, typing) = (news.bye.take(), news.typing.take());
        std::mem::replace(&mut *news, News { bye, typing, ..News::default() })
    }

    fn tell(&self, change: impl FnOnce(&mut News)) {
        change(&mut self.news.lock().unwrap_or_else(PoisonError::into_inner));
        self.signal.raise();
    }
}

impl Listener for Mailbox {
    fn presentity_dirty(&self, presentity: &Address) {
        self.tell(|news| {
            // The set is bounded by what the session follows.
            if !news.dirty.contains(presentity) {
                news.dirty.insert(presentity.clone());
            }
            // Of one's own it may also be who watches, and who waits for a decision.
            if *presentity == self.account {
                news.may_differ(presentity, What::Watchers);
                news.may_differ(presentity, What::Requests);
            }
        });
    }
}

/// All sessions of this server.
#[derive(Debug)]
pub struct Sessions {
    listeners: Arc<Listeners>,
    by_id: DashMap<SessionId, Arc<Mailbox>>,
    by_account: DashMap<Address, Vec<Arc<Mailbox>>>,
}

impl Sessions {
    /// None yet; each listens.
    pub fn new(listeners: Arc<Listeners>) -> Sessions {
        let (by_id, by_account) = Default::default();
        Sessions { listeners, by_id, by_account }
    }

    /// Enters a session, unless its account has `max` already.
    pub fn enter(&self, mailbox: &Arc<Mailbox>, max: usize) -> bool {
        let mut of_account = self.by_account.entry(mailbox.account.clone()).or_default();
        if of_account.len() >= max {
            return false;
        }
        of_account.push(mailbox.clone());
        drop(of_account);
        self.by_id.insert(mailbox.id, mailbox.clone());
        self.listeners.enter(mailbox.id.into(), mailbox.clone());
        true
    }

    /// Forgets a session.
    pub fn leave(&self, mailbox: &Mailbox) {
        self.by_id.remove(&mailbox.id);
        self.listeners.leave(mailbox.id.into());
        self.by_account.remove_if_mut(&mailbox.account, |_, sessions| {
            sessions.retain(|other| other.id != mailbox.id);
            sessions.is_empty()
        });
        mailbox.let_go();
    }

    /// The mailbox of a session.
    pub fn get(&self, id: SessionId) -> Option<Arc<Mailbox>> {
        self.by_id.get(&id).map(|entry| entry.value().clone())
    }

    /// Says to an account's sessions that a thing of its own that is not presence has changed.
    pub fn thing_changed(&self, owner: &Address, what: What) {
        if let Some(sessions) = self.by_account.get(owner) {
            sessions.iter().for_each(|mailbox| mailbox.thing_changed(owner, what));
        }
    }

    /// The sessions of an account.
    pub fn of(&self, account: &Address) -> Vec<Arc<Mailbox>> {
        self.by_account.get(account).map(|entry| entry.value().clone()).unwrap_or_default()
    }

    /// Every session.
    pub fn all(&self) -> Vec<Arc<Mailbox>> {
        self.by_id.iter().map(|entry| entry.value().clone()).collect()
    }

    /// How many there are.
    pub fn len(&self) -> usize {
        self.by_id.len()
    }

    /// Whether there are none.
    pub fn is_empty(&self) -> bool {
        self.by_id.is_empty()
    }
}
