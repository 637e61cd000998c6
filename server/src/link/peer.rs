//! One other domain: which links there are to it, when it is dialled, and what is asked of it.
//!
//! What waits for it is in `messages`; the task that sees to it is in `tending`, what goes over a link
//! in `connection`.

use std::sync::{Arc, Weak};

use impp_federation::backoff::Backoff;
use impp_federation::shares::Claim;
use impp_locate::Service;
use impp_presence::LinkId;
use impp_protocol::command::Done;
use impp_protocol::{Address, Code, Command, Domain, Error, Timestamp};
use parking_lot::Mutex;
use tokio::sync::oneshot;

use super::links::{Ask, Inner, Link, Spare, service_of};
use crate::core::chance::Chance;
use crate::core::records::Services;
use crate::messages::{Carrier, Queues, Waiting};
use crate::reach::Mirrors;

/// Requests of others that wait for a link to one domain; further ones are answered `busy`.
const ASKS_MAX: usize = 1024;

/// See the module.
#[derive(Debug)]
pub struct Peer {
    /// What waits for it. Its lock is taken under the one here, never the other way round.
    pub waiting: Arc<Waiting>,
    pub(super) inner: Mutex<Inner>,
    /// The link for presence that the mirrors know of.
    told: Mutex<Option<LinkId>>,
}

/// What becomes of a place that its payer gives up.
#[derive(Debug)]
pub(super) enum GivenUp {
    /// It is kept: somebody needs it, or somebody else pays.
    No,
    /// It costs the payer nothing any more.
    Free,
    /// The same; these links are said goodbye, as nobody uses them.
    Idle(Vec<Arc<Link>>),
    /// The same, and the entry has ended.
    Ended,
}

impl Peer {
    /// An entry for a pair of domains, which nobody sees to yet.
    pub(super) fn new(
        queues: &Queues,
        local: Domain,
        remote: Domain,
        paid: Option<Claim>,
    ) -> Arc<Peer> {
        Arc::new_cyclic(|this: &Weak<Peer>| {
            let waiting = queues.open(local, remote, this.clone());
            Peer { waiting, inner: Mutex::new(Inner::new(paid)), told: Mutex::default() }
        })
    }

    /// The domain here.
    pub fn local(&self) -> &Domain {
        &self.waiting.local
    }

    /// The domain there.
    pub fn remote(&self) -> &Domain {
        &self.waiting.remote
    }

    /// Does something, after which all have to look. `None` if the entry has just ended: then it is
    /// out of the table at once, and whoever comes makes another.
    fn change<R>(&self, act: impl FnOnce(&mut Inner) -> R) -> Option<R> {
        let mut inner = self.inner.lock();
        if inner.closed {
            return None;
        }
        let answer = act(&mut inner);
        inner.touched = true;
        inner.raise();
        drop(inner);
        self.waiting.changed.notify_one();
        Some(answer)
    }

    /// There is something to ask: all have to look. `None` as ever.
    pub(super) fn look(&self) -> Option<()> {
        self.change(|_| ())
    }

    /// A link begins to open; `note` is done in the order of openings and closings.
    pub(super) fn begins<R>(&self, note: impl FnOnce() -> R) -> Option<R> {
        self.change(|inner| {
            inner.opening += 1;
            note()
        })
    }

    /// Enters a link that has just opened, and settles between it and the others; or does not, if it
    /// could not be `noted`.
    ///
    /// # Errors
    /// That, or busy, if there are too many.
    pub(super) fn attach(
        &self,
        link: &Arc<Link>,
        noted: Result<(), Error>,
    ) -> Option<Result<(), Error>> {
        let (local, remote) = (self.local(), self.remote());
        self.change(|inner| {
            inner.opening -= 1;
            noted?;
            inner.attach(&self.waiting, link)?;
            let dialled_here = link.candidate.dialled_here;
            tracing::info!(%local, %remote, dialled_here, "link opened");
            Ok(())
        })
    }

    /// Forgets a link that has ended, and calls `note` if there is none any more.
    pub(super) fn detach<R>(
        &self,
        link: &Arc<Link>,
        now: Timestamp,
        backoff: Backoff,
        chance: &dyn Chance,
        note: impl FnOnce() -> R,
    ) -> Option<R> {
        let mut inner = self.inner.lock();
        inner.detach(&self.waiting, link, now, backoff, chance);
        inner.raise();
        let noted = inner.is_apart().then(note);
        drop(inner);
        self.waiting.changed.notify_one();
        noted
    }

    /// The other side asks for nothing more over a link, and maybe to be left alone until then.
    pub(super) fn drains(&self, link: &Link, rest: Option<Timestamp>) {
        let mut inner = self.inner.lock();
        if let Some(until) = rest {
            inner.rest(&self.waiting, until);
        }
        link.drain();
        drop(inner);
        self.waiting.changed.notify_one();
    }

    /// Has something asked over the next link that serves it.
    ///
    /// # Errors
    /// unreachable, if that has just failed; busy, if too much is asked.
    pub(super) fn ask(
        &self,
        claim: &Claim,
        command: &Command,
        now: Timestamp,
    ) -> Option<Result<oneshot::Receiver<Result<Done, Error>>, Error>> {
        let remote = self.remote();
        self.change(|inner| {
            let service = service_of(command);
            if inner.link(service).is_none() && inner.next_try(service, now).is_some() {
                let text = format!("{remote} could not be reached just now; try again later");
                return Err(Error::new(Code::Unreachable, text));
            }
            if inner.asks.len() >= ASKS_MAX {
                return Err(Error::new(Code::Busy, format!("too much is asked of {remote}")));
            }
            let (answer, answered) = oneshot::channel();
            let (command, _claim) = (command.clone(), claim.clone());
            inner.asks.push_back(Ask { command, answer, _claim });
            Ok(answered)
        })
    }

    /// Takes the next request that a link with these services can carry.
    pub(super) fn next_ask(&self, services: Services) -> Option<Ask> {
        let mut inner = self.inner.lock();
        let fits = |ask: &Ask| services.has(service_of(&ask.command));
        inner.asks.iter().position(fits).and_then(|at| inner.asks.remove(at))
    }

    /// The link over which a service is asked for.
    pub(super) fn link_for(&self, service: Service) -> Option<LinkId> {
        self.inner.lock().link(service).map(|link| link.mailbox.id)
    }

    /// An account gives its place up if nobody needs it. `payer` says who pays instead, or nobody; it
    /// is asked under the lock, and `None` if the account needs the place itself.
    pub(super) fn give_up(
        &self,
        account: &Address,
        payer: impl FnOnce() -> Option<Option<Claim>>,
    ) -> GivenUp {
        let mut inner = self.inner.lock();
        if inner.paid.as_ref().is_none_or(|claim| claim.account() != account) {
            return GivenUp::No;
        }
        let given_up = match payer() {
            None => return GivenUp::No,
            // Whoever needs the place pays for it from now on.
            Some(Some(other)) => {
                inner.paid = Some(other);
                return GivenUp::Free;
            }
            Some(None) => match inner.spare(&self.waiting) {
                Spare::Busy => return GivenUp::No,
                Spare::Theirs => GivenUp::Free,
                Spare::Idle(links) => GivenUp::Idle(links),
                Spare::Ended => GivenUp::Ended,
            },
        };
        inner.paid = None;
        given_up
    }

    /// Says over which link presence is asked for now.
    pub(super) fn tell_mirrors(&self, mirrors: &Mirrors) {
        // One at a time, so that the mirrors hear of links in their order.
        let mut told = self.told.lock();
        let now = self.link_for(Service::Presence);
        match (std::mem::replace(&mut *told, now), now) {
            (before, Some(now)) if before != Some(now) => {
                mirrors.link_up(self.local(), self.remote(), now);
            }
            (Some(before), None) => mirrors.link_down(self.local(), self.remote(), before),
            _ => {}
        }
    }
}

impl Carrier for Peer {
    fn wake(&self) {
        let mut inner = self.inner.lock();
        inner.touched = true;
        inner.raise();
    }
}
