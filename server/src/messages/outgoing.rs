//! Messages to other domains: into the queue, which is on the disk before their senders hear of it,
//! and back into it at the start.
//!
//! What becomes of them is in `fates`.

use std::sync::Arc;

use bytes::Bytes;
use impp_federation::queue::{Full, HOPS_MAX, Item, Queue, Standing, Ticket};
use impp_federation::shares::Claim;
use impp_protocol::command::{Message, Outcome, Written};
use impp_protocol::{Address, Code, Domain, Error, MessageId, Timestamp, What};
use impp_storage::{self as storage, Dedup, Expect, Lane, Op, Pending, Store, StoreError, Unit};

use super::accept::{answered, dedup, done, in_time, in_window, refused, writers};
use super::deliver::Bearer;
use super::linked::Linked;
use super::queued::{item, record, restored};
use super::under_way::UnderWay;
use super::waiting::{Queues, Waiting};
use crate::core::answers::{Answer, Handled};
use crate::core::clock::Clock;
use crate::core::ground::Ground;
use crate::core::keeping::all;
use crate::core::metrics::Metrics;
use crate::core::records::logs::{copy_sent, trimmed};
use crate::core::records::{QUEUED, place};
use crate::core::sessions::Sessions;
use crate::core::settings::Settings;
use crate::reach::Beyond;

/// Links, as messages see them: what is put into a queue is carried from there.
pub trait Carriers: Beyond {
    /// What waits for the domain of a claim, made and seen to if there was nothing.
    ///
    /// # Errors
    /// busy, if there are too many other domains.
    fn waiting(&self, claim: &Claim) -> Result<Arc<Waiting>, Error>;

    /// The same for what is there already, on the disk: there is room for as many again.
    ///
    /// # Errors
    /// busy.
    fn waiting_held(&self, local: &Domain, remote: &Domain) -> Result<Arc<Waiting>, Error>;

    /// The claim of an account of which something is accepted already and is sent on to another
    /// domain: there is room for as many again as by [`Beyond::claim`].
    ///
    /// # Errors
    /// full.
    fn claim_held(&self, account: &Address, remote: &Domain) -> Result<Claim, Error>;

    /// The claim of an account of which something waited before the server started, whatever its
    /// share.
    fn claim_kept(&self, account: &Address, remote: &Domain) -> Claim;
}

/// Puts something into a queue, whichever is there: one may end just before.
pub(super) fn enter<R>(
    find: impl Fn() -> Result<Arc<Waiting>, Error>,
    act: impl Fn(&mut Queue) -> R,
) -> Result<(Arc<Waiting>, R), Error> {
    loop {
        let waiting = find()?;
        if let Some(entered) = waiting.enter(&act) {
            return Ok((waiting, entered));
        }
        // It is out of the table at once.
        std::thread::yield_now();
    }
}

/// See the module.
pub struct Outgoing {
    store: Arc<dyn Store>,
    clock: Clock,
    settings: Arc<Settings>,
    sessions: Arc<Sessions>,
    metrics: Arc<Metrics>,
    queues: Arc<Queues>,
    linked: Arc<Linked>,
    carriers: Arc<dyn Carriers>,
    under_way: Arc<UnderWay>,
}

impl Outgoing {
    /// Into these queues; nothing of what was there before is, until [`Outgoing::restore`].
    pub fn new(
        ground: &Ground,
        sessions: Arc<Sessions>,
        queues: Arc<Queues>,
        linked: Arc<Linked>,
        carriers: Arc<dyn Carriers>,
    ) -> Outgoing {
        let Ground { store, clock, settings, metrics, .. } = ground.clone();
        let under_way = Arc::default();
        Outgoing { store, clock, settings, sessions, metrics, queues, linked, carriers, under_way }
    }

    /// Takes a message from who wrote it: its sender, or a delegate of the same domain, who pays for it. The
    /// answer comes when the queue on the disk has it.
    ///
    /// # Errors
    /// Why it is not taken.
    pub async fn accept(
        self: &Arc<Self>,
        message: Written,
        from: Address,
    ) -> Result<Answer, Error> {
        let (now, wall) = (self.clock.now(), self.clock.wall());
        is_of_one_domain(&message, &from)?;
        if message.volatile {
            in_window(message.id, &Bearer::Session, wall)?;
            in_time(&message, wall)?;
            self.pass_on(&self.carriers.claim(&from, &message.to.domain())?, &message);
            return Ok(Answer::Now(done(wall, Outcome::Sent).into()));
        }
        let (dedup, body) = (dedup(&message, &from), message.encoded().clone());
        let entered = self.under_way.enter(&dedup).await;
        let ticket = self.queues.ticket(now);
        let waiting = match self.reserve(&message, &from, ticket, body.len() as u64, now) {
            Ok(waiting) => waiting,
            Err(error) => return refused(&*self.store, dedup, wall, error).await,
        };
        let record = record(&message.to, &message.to, HOPS_MAX, now, &body);
        let put = place::queued(&from, ticket).put_if(Expect::Absent, &record);
        let writers = writers(&message);
        let unit = self.unit(wall, put, &writers, dedup, body.clone());
        let (pending, outgoing) = (self.store.submit(unit), self.clone());
        // It goes on its way also if the sender is gone by then.
        Ok(Answer::when_done(async move {
            let outcome = outgoing.stored(pending, &waiting, ticket, &from, body).await;
            drop(entered);
            outgoing.answer(outcome, &writers, &message.to, wall)
        }))
    }

    /// What the store does of a message that its sender has queued, in that sender's lane.
    fn unit(
        &self,
        now: Timestamp,
        put: Op,
        writers: &[Address],
        dedup: Dedup,
        body: Bytes,
    ) -> Unit {
        let (from, settings) = (dedup.from.clone(), self.settings.load());
        let copies = |of| [copy_sent(of), trimmed(of, &settings.inbox, None)];
        let ops = writers.iter().flat_map(copies).chain([put]).collect();
        let (dedup_max, lane) = (Some(settings.limits.known_ids_max), Lane::Account(from));
        let (dedup, body) = (Some(dedup), Some(body));
        Unit { dedup, body, dedup_max, ..Unit::of(now, ops).in_lane(lane) }
    }

    /// A place in the queue of a domain.
    fn reserve(
        &self,
        message: &Message,
        from: &Address,
        ticket: Ticket,
        bytes: u64,
        now: Timestamp,
    ) -> Result<Arc<Waiting>, Error> {
        let wall = self.clock.wall();
        in_window(message.id, &Bearer::Session, wall)?;
        in_time(message, wall)?;
        let (to, remote) = (&message.to, message.to.domain());
        let claim = self.carriers.claim(from, &remote)?;
        let item = item(&self.settings.load().federation, ticket, message.id, from, to, now);
        let item = Item {
            expires: message.expires.map(|at| self.clock.named(at)),
            bytes,
            claim: Some(claim.clone()),
            ..item
        };
        let (waiting, reserved) =
            enter(|| self.carriers.waiting(&claim), |queue| queue.reserve(item.clone()))?;
        reserved.map(|()| waiting).map_err(|full| {
            let text = match full {
                Full::Domain => format!("too much waits for {remote} already; try again later"),
                Full::Sender => format!("too many of yours wait for {remote}; try again later"),
            };
            Error::new(Code::Full, text)
        })
    }

    /// When the disk has it, or has not.
    async fn stored(
        &self,
        pending: Pending<storage::Outcome>,
        waiting: &Waiting,
        ticket: Ticket,
        from: &Address,
        body: Bytes,
    ) -> Result<storage::Outcome, StoreError> {
        let outcome = pending.await;
        match outcome {
            Ok(storage::Outcome::Committed { .. }) => waiting.change(|queue| {
                queue.ready(ticket, Some(body));
                self.queues.end_unless_enabled(queue, from);
            }),
            _ => waiting.settle(|queue| queue.remove(ticket)),
        }
        outcome
    }

    fn answer(
        &self,
        outcome: Result<storage::Outcome, StoreError>,
        writers: &[Address],
        to: &Address,
        now: Timestamp,
    ) -> Handled {
        answered(outcome, to, now, || {
            self.metrics.messages.inc();
            writers.iter().for_each(|writer| self.sessions.thing_changed(writer, What::Log));
            Outcome::Queued
        })
    }

    /// Passes a message that is not stored, or drops it if too much waits.
    fn pass_on(&self, claim: &Claim, message: &Message) {
        loop {
            match self.carriers.waiting(claim).map(|waiting| waiting.pass_on(message, claim)) {
                Ok(Some(())) => return,
                Ok(None) => std::thread::yield_now(),
                Err(error) => {
                    tracing::debug!(%error, "a message that is not stored was dropped");
                    return;
                }
            }
        }
    }

    /// Reads what waits from the disk, at the start, and has links sought for it. What is damaged stays
    /// there, and is in the way of nothing.
    ///
    /// # Errors
    /// The store's.
    pub async fn restore(&self) -> Result<(), StoreError> {
        for local in self.queues.accounts.domains().to_vec() {
            let linked = self.linked.restore(&local).await?;
            let mut items: Vec<Item> = Vec::new();
            for (found, record) in all(&*self.store, &local, QUEUED).await?.records {
                let read =
                    restored(&self.settings.load().federation, &local, &found, &record.value);
                let item = match read {
                    Ok(item) if !self.queues.accounts.is_closed(&item.from) => item,
                    // Whether its sender may still send is not known.
                    Ok(item) => {
                        tracing::error!(from = %item.from, "a message waits: its account is damaged");
                        continue;
                    }
                    // The others go on.
                    Err(error) => {
                        tracing::error!(%error, "it waits on the disk");
                        continue;
                    }
                };
                let maybe_taken = linked.is_taken(&item.to.domain(), item.since);
                let expires = item.expires.map(|at| self.clock.named(at));
                items.push(Item { maybe_taken, expires, ..item });
            }
            for item in items {
                self.put_back(&local, item);
            }
        }
        Ok(())
    }

    fn put_back(&self, local: &Domain, item: Item) {
        self.queues.taken(item.ticket);
        let remote = item.to.domain();
        let claim = Some(self.carriers.claim_kept(&item.from, &remote));
        let item = Item { claim, ..item };
        let entered = enter(
            || self.carriers.waiting_held(local, &remote),
            |queue| {
                queue.restore(item.clone());
                // Disabled or removed while no server ran, or just before a crash.
                self.queues.end_unless_enabled(queue, &item.from);
            },
        );
        if let Err(error) = entered {
            tracing::error!(%remote, %error, "a message waits on the disk until a restart");
        }
    }

    /// Where a queued message waits, in times as they are told.
    pub fn standing(&self, from: &Address, id: MessageId) -> Option<Standing> {
        let Standing { to, since, cause, next_try } = self.queues.standing(from, id)?;
        let (since, next_try) = (self.clock.told(since), next_try.map(|at| self.clock.told(at)));
        Some(Standing { to, since, cause, next_try })
    }

    /// An account is gone: nothing more goes out in its name.
    pub fn forget_sender(&self, from: &Address) {
        self.queues.forget_sender(from);
    }

    /// An account cannot be used any more: what it has waiting comes to its end.
    pub fn end_sender(&self, from: &Address) {
        self.queues.end_sender(from);
    }

    /// How many messages wait for other domains.
    pub fn queued(&self) -> usize {
        self.queues.queued()
    }

    /// Forgets of which links nothing that waits can have gone out any more.
    ///
    /// # Errors
    /// The store's.
    pub async fn forget_linked(&self, now: Timestamp) -> Result<(), StoreError> {
        self.linked.forget(now).await
    }
}

/// Who writes a message is of the domain that it is from: of another one the other side would have no proof.
///
/// # Errors
/// refused.
fn is_of_one_domain(message: &Message, writer: &Address) -> Result<(), Error> {
    let domain = message.from.as_ref().map_or("", Address::domain_str);
    let text = || format!("from: to other domains only who is of {domain} sends for it");
    let is = domain == writer.domain_str();
    is.then_some(()).ok_or_else(|| Error::new(Code::Refused, text()))
}

impl std::fmt::Debug for Outgoing {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        f.debug_struct("Outgoing").field("queues", &self.queues).finish_non_exhaustive()
    }
}
