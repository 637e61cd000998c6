//! The table of other domains: one entry for each pair of a domain here and one elsewhere, as long
//! as there is a link or something waits.
//!
//! What an entry does is in `peer`, who pays for it in `claims`.

use std::sync::atomic::{AtomicU64, AtomicUsize, Ordering};
use std::sync::{Arc, Mutex, MutexGuard, PoisonError};
use std::time::Duration;

use dashmap::mapref::entry::Entry;
use dashmap::{DashMap, DashSet};
use impp_federation::queue::{Cause, Standing, Ticket};
use impp_federation::settle::Candidate;
use impp_federation::shares::{Claim, Shares};
use impp_federation::unproven::Unproven;
use impp_protocol::command::{Done, Message};
use impp_protocol::{Address, Code, Command, Domain, Error, Timestamp};
use impp_storage::{Expect, Op, Outcome, Pending, RecordKey, Unit};
use tokio::sync::oneshot;

use super::peer::{Ask, Inner, Link, Peer, service_of};
use super::{LinkMailbox, Opened};
use crate::host::Host;
use crate::ids::SessionId;
use crate::records::{self, LINKED, LinkedRecord};

/// Requests of others that wait for a link to one domain; further ones are answered `busy`.
const ASKS_MAX: usize = 1024;
/// When a pair of domains for which there was no place is tried again.
const PUT_OFF: Duration = Duration::from_secs(30);
/// Messages that are not stored and wait for a link; further ones are dropped.
const VOLATILE_MAX: usize = 64;

/// See the module.
#[derive(Debug, Default)]
pub struct Peers {
    table: DashMap<(Domain, Domain), Arc<Peer>>,
    /// How many there are: asked also while a part of the table is held.
    count: AtomicUsize,
    tickets: AtomicU64,
    /// Pairs that somebody wants and there was no place for.
    put_off: DashSet<(Domain, Domain)>,
    /// Where connecting has led to nobody.
    unproven: Mutex<Unproven>,
    /// Who needs which of them.
    pub(super) shares: Shares,
}

impl Peers {
    /// Does something with the entry of a pair of domains, which is made if it is not there, and
    /// has it looked at. Nobody gets there without a claim.
    ///
    /// # Errors
    /// busy, if there are too many.
    pub fn with<R>(
        &self,
        host: &Arc<Host>,
        claim: &Claim,
        act: impl FnOnce(&mut Inner) -> R,
    ) -> Result<(Arc<Peer>, R), Error> {
        let (local, remote) = (claim.account().domain(), claim.remote());
        self.with_paid(host, &local, remote, Some(claim), act)
    }

    /// The same for what is there already, on the disk or as a link: there is room for as many again.
    ///
    /// # Errors
    /// busy, if there are too many.
    pub fn with_held<R>(
        &self,
        host: &Arc<Host>,
        local: &Domain,
        remote: &Domain,
        act: impl FnOnce(&mut Inner) -> R,
    ) -> Result<(Arc<Peer>, R), Error> {
        self.with_paid(host, local, remote, None, act)
    }

    fn with_paid<R>(
        &self,
        host: &Arc<Host>,
        local: &Domain,
        remote: &Domain,
        paid: Option<&Claim>,
        act: impl FnOnce(&mut Inner) -> R,
    ) -> Result<(Arc<Peer>, R), Error> {
        loop {
            let peer = self.entry(host, local, remote, paid)?;
            let mut inner = peer.lock();
            // One that has just ended is out of the table at once.
            if inner.closed {
                drop(inner);
                std::thread::yield_now();
                continue;
            }
            let answer = act(&mut inner);
            inner.touched = true;
            inner.raise();
            drop(inner);
            peer.changed.notify_one();
            return Ok((peer, answer));
        }
    }

    fn entry(
        &self,
        host: &Arc<Host>,
        local: &Domain,
        remote: &Domain,
        paid: Option<&Claim>,
    ) -> Result<Arc<Peer>, Error> {
        if let Some(peer) = self.find(local, remote) {
            return Ok(peer);
        }
        let most = host.settings.load().federation.domains_max;
        let (all, claimed) = (self.len() as u64, self.shares.places());
        // Whom somebody here needs and who calls take no room from each other. Who asks has its claim
        // already.
        let has_room = match paid {
            Some(_) => claimed <= most,
            None if self.shares.is_claimed(local, remote) => claimed <= most.saturating_mul(2),
            None => all.saturating_sub(claimed) < most,
        };
        if !has_room {
            return Err(Error::new(Code::Busy, "too many other domains at once"));
        }
        match self.table.entry((local.clone(), remote.clone())) {
            Entry::Occupied(found) => Ok(found.get().clone()),
            Entry::Vacant(vacant) => {
                // One of its own: what the account needs may be over before the place is gone.
                let paid = paid.map(|of| self.shares.claim_held(of.account(), of.remote()));
                let peer = Peer::start(host, local.clone(), remote.clone(), paid);
                vacant.insert(peer.clone());
                self.count.fetch_add(1, Ordering::Relaxed);
                Ok(peer)
            }
        }
    }

    pub(super) fn find(&self, local: &Domain, remote: &Domain) -> Option<Arc<Peer>> {
        self.table.get(&(local.clone(), remote.clone())).map(|peer| peer.value().clone())
    }

    /// Who has claims to places.
    pub fn shares(&self) -> &Shares {
        &self.shares
    }

    /// Takes an entry that has ended out of the table.
    pub(super) fn forget(&self, peer: &Arc<Peer>) {
        let key = (peer.local.clone(), peer.remote.clone());
        if self.table.remove_if(&key, |_, other| Arc::ptr_eq(other, peer)).is_some() {
            self.count.fetch_sub(1, Ordering::Relaxed);
        }
    }

    /// Enters an opened link. That messages may go out over it is on the disk before any does.
    ///
    /// # Errors
    /// busy, if there are too many other domains; storage.
    pub async fn attach(
        host: &Arc<Host>,
        local: &Domain,
        remote: &Domain,
        opened: Opened,
        dialled_here: bool,
    ) -> Result<(Arc<Peer>, Arc<Link>), Error> {
        if host.stopping.begun.is_cancelled() {
            return Err(Error::new(Code::Stopping, "the server is stopping"));
        }
        let mut id = [0; 16];
        getrandom::fill(&mut id).map_err(|e| Error::new(Code::Internal, e.to_string()))?;
        let mailbox = LinkMailbox::new(SessionId(id), local.clone(), remote.clone());
        let link = Arc::new(Link::new(
            Arc::new(mailbox),
            Candidate { peer: opened.identity, dialled_here },
            opened,
        ));
        // Noted in the order of openings and closings, as the entry's lock is held.
        let (_, noted) = host.peers.with_held(host, local, remote, |inner| {
            inner.opening += 1;
            note_linked(host, local, remote, true)
        })?;
        let noted = noted.await;
        let (peer, attached) = host.peers.with_held(host, local, remote, |inner| {
            inner.opening -= 1;
            noted.map_err(|error| Error::new(Code::Storage, error.to_string()))?;
            inner.attach(local, remote, &link)
        })?;
        attached?;
        host.links.insert(link.mailbox.id, link.mailbox.clone());
        host.listeners.enter(link.mailbox.id, link.mailbox.clone());
        host.metrics.links.inc();
        peer.tell_mirrors(host);
        Ok((peer, link))
    }

    /// Asks the other side for something.
    pub async fn ask(
        &self,
        host: &Arc<Host>,
        claim: Claim,
        command: Command,
    ) -> Result<Done, Error> {
        let (answer, answered) = oneshot::channel();
        let remote = claim.remote();
        self.with(host, &claim, |inner| {
            if inner.backs_off(service_of(&command), host.clock.now()) {
                let text = format!("{remote} could not be reached just now; try again later");
                return Err(Error::new(Code::Unreachable, text));
            }
            if inner.asks.len() >= ASKS_MAX {
                return Err(Error::new(Code::Busy, format!("too much is asked of {remote}")));
            }
            inner.asks.push_back(Ask { command, answer, claim: claim.clone() });
            Ok(())
        })?
        .1?;
        answered.await.unwrap_or_else(|_| {
            Err(Error::new(Code::Unreachable, format!("{remote} has not answered")))
        })
    }

    /// Passes a message that is not stored, or drops it if too much waits.
    pub fn pass_on(&self, host: &Arc<Host>, claim: &Claim, message: Message) {
        let passed = self.with(host, claim, |inner| {
            if inner.volatile.len() < VOLATILE_MAX {
                inner.volatile.push_back((message, claim.clone()));
            }
        });
        if let Err(error) = passed {
            tracing::debug!(%error, "a message that is not stored was dropped");
        }
    }

    /// Has a pair of domains looked at: there is something to ask. Nobody's claim is needed to say
    /// over a link that somebody does not follow any more. If there are too many others it is looked
    /// at after a while.
    pub fn wanted(&self, host: &Arc<Host>, local: &Domain, remote: &Domain) {
        let Some(claim) = self.shares.of_any(local, remote, None) else {
            if let Some(peer) = self.find(local, remote) {
                let mut inner = peer.lock();
                inner.touched = true;
                inner.raise();
                drop(inner);
                peer.changed.notify_one();
            }
            return;
        };
        if self.with(host, &claim, |_| ()).is_ok() {
            return;
        }
        // One for each pair that somebody follows; these are bounded.
        let pair = (local.clone(), remote.clone());
        if self.put_off.insert(pair.clone()) {
            tracing::warn!(%local, %remote, "no link is sought yet: too many other domains at once");
            let host = host.clone();
            tokio::spawn(async move {
                tokio::time::sleep(PUT_OFF).await;
                host.peers.put_off.remove(&pair);
                if host.mirrors.wanted(&pair.0, &pair.1) {
                    host.peers.wanted(&host, &pair.0, &pair.1);
                }
            });
        }
    }

    /// Where connecting has led to nobody in the last while.
    pub(super) fn unproven(&self) -> MutexGuard<'_, Unproven> {
        self.unproven.lock().unwrap_or_else(PoisonError::into_inner)
    }

    /// Where a queued message waits.
    pub fn standing(&self, from: &Address, id: [u8; 16]) -> Option<Standing> {
        let peers = self.of_domain(&from.domain());
        peers.iter().find_map(|peer| peer.lock().queue.standing(from, id))
    }

    /// How many entries there are.
    pub fn len(&self) -> usize {
        self.count.load(Ordering::Relaxed)
    }

    /// Whether there are none.
    pub fn is_empty(&self) -> bool {
        self.len() == 0
    }

    /// An account is gone: nothing more goes out in its name.
    pub fn forget_sender(&self, from: &Address) {
        for peer in self.of_domain(&from.domain()) {
            peer.lock().queue.forget_sender(from);
            peer.changed.notify_one();
        }
    }

    /// An account cannot be used any more: what it has waiting comes to its end.
    pub fn end_sender(&self, from: &Address) {
        for peer in self.of_domain(&from.domain()) {
            let mut inner = peer.lock();
            inner.queue.end_sender(from, &disabled(from));
            inner.raise();
            drop(inner);
            peer.changed.notify_one();
        }
    }

    /// The entries of a domain here. No entry of the table is held while one of its queues is.
    fn of_domain(&self, local: &Domain) -> Vec<Arc<Peer>> {
        self.table.iter().filter(|e| e.key().0 == *local).map(|e| e.value().clone()).collect()
    }

    /// How many messages wait for other domains.
    pub fn queued(&self) -> usize {
        let peers: Vec<Arc<Peer>> = self.table.iter().map(|e| e.value().clone()).collect();
        peers.iter().map(|peer| peer.lock().queue.len()).sum()
    }

    /// The next place in the order of messages.
    pub fn ticket(&self, now: Timestamp) -> Ticket {
        let least = now.as_millis() << 16;
        let next = |last: u64| Some(least.max(last + 1));
        let (set, get) = (Ordering::AcqRel, Ordering::Acquire);
        let last = self.tickets.fetch_update(set, get, next).unwrap_or_default();
        least.max(last + 1)
    }

    /// Places up to this one are taken.
    pub fn taken(&self, ticket: Ticket) {
        self.tickets.fetch_max(ticket, Ordering::AcqRel);
    }
}

/// Why messages of a disabled account are not sent.
pub(super) fn disabled(from: &Address) -> Cause {
    Cause::here(Code::Refused, format!("the account {from} was disabled before it was sent"))
}

/// Notes on the disk that a link to a domain is open, or no more: after a crash, what was queued
/// before that may have gone out.
pub(super) fn note_linked(
    host: &Host,
    local: &Domain,
    remote: &Domain,
    open: bool,
) -> Pending<Outcome> {
    let now = host.clock.now();
    let record = LinkedRecord { open, until: now.as_millis() };
    let key = linked_key(local, remote);
    let value = Some(records::to_bytes(&record));
    let ops = vec![Op::Put { key, expect: Expect::Any, value }];
    host.store.submit(Unit { dedup: None, body: None, time: now, ops })
}

/// Where [`note_linked`] notes.
pub(super) fn linked_key(local: &Domain, remote: &Domain) -> RecordKey {
    let key = remote.as_str().as_bytes().to_vec();
    RecordKey { domain: local.clone(), table: LINKED, key }
}
