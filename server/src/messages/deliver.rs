//! A message into an inbox here, in one step with what its sender is told: whoever brings it, a
//! session or a link, has proven who its sender is.
//!
//! What the recipient's delivery rules say is `impp_acl`'s, once-only storing the store's.

use std::cmp::Ordering;
use std::sync::Arc;

use bytes::Bytes;
use impp_acl::{DeliveryAction, Rate, Watcher};
use impp_presence::places::Amount;
use impp_protocol::command::{Message, Outcome, Written};
use impp_protocol::state::{Fate, FateReport};
use impp_protocol::{Address, By, Code, Error, Timestamp, What};
use impp_storage::{self as storage, Dedup, Lane, Limit, Op, Store, StoreError, Unit};

use super::accept::{answered, dedup, done, full, in_time, in_window, refused, writers};
use super::going_on::GoingOn;
use super::held::hold;
use super::under_way::UnderWay;
use crate::core::accounts::Account;
use crate::core::answers::{Answer, Handled, Stored};
use crate::core::chance::Chance;
use crate::core::clock::Clock;
use crate::core::config::Inbox;
use crate::core::ground::Ground;
use crate::core::metrics::Metrics;
use crate::core::principals::{Dropped, Principal, Principals, Put};
use crate::core::records::logs::{copy_sent, fate_of, fits, received, trimmed};
use crate::core::routes::{Routes, is_hidden};
use crate::core::sessions::Sessions;
use crate::core::settings::{Settings, Snapshot};

/// Who brings a message.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum Bearer {
    /// A session of its sender, whose log gets a copy and the fate.
    Session,
    /// A link of the sender's domain, whose server keeps its log.
    Link,
    /// Its sender's own queue, where the copy is already: it was redirected to here.
    Queue,
}

/// See the module.
pub struct Delivery {
    pub(super) store: Arc<dyn Store>,
    pub(super) clock: Clock,
    pub(super) chance: Arc<dyn Chance>,
    settings: Arc<Settings>,
    pub(super) routes: Arc<Routes>,
    pub(super) principals: Arc<Principals>,
    pub(super) sessions: Arc<Sessions>,
    under_way: Arc<UnderWay>,
    pub(super) going_on: Arc<GoingOn>,
    metrics: Arc<Metrics>,
}

/// Where a message goes.
struct Judged {
    /// Who has the inbox. Without, there is none, which other domains are not to know: all is as if
    /// there were one, but for what would be in it.
    recipient: Option<Arc<Account>>,
    /// What the owner's rules say.
    action: DeliveryAction,
    /// So much of the inbox may be full for this sender.
    limit: Limit,
    /// What is known of it if it is dropped.
    dropped: Dropped,
}

impl Delivery {
    /// Into the inboxes of these principals.
    pub fn new(
        ground: &Ground,
        routes: Arc<Routes>,
        principals: Arc<Principals>,
        sessions: Arc<Sessions>,
    ) -> Delivery {
        let Ground { store, clock, chance, settings, metrics, .. } = ground.clone();
        let (under_way, going_on) = Default::default();
        Delivery {
            store,
            clock,
            chance,
            settings,
            routes,
            principals,
            sessions,
            under_way,
            going_on,
            metrics,
        }
    }

    /// Takes a message of which it is proven from whom it is, and that `from` wrote it: the same, or a
    /// delegate, who pays for it. The answer comes when the store has it.
    ///
    /// # Errors
    /// Why it is not taken.
    pub async fn deliver(
        self: &Arc<Self>,
        message: Written,
        from: Address,
        bearer: Bearer,
    ) -> Result<Answer, Error> {
        let now = self.clock.wall();
        let dedup = dedup(&message, &from);
        // A link waits for nobody: what it repeats is told by the store, or comes again.
        let entered = match bearer {
            Bearer::Session => Some(self.under_way.enter(&dedup).await),
            Bearer::Link | Bearer::Queue => None,
        };
        // The same for all that becomes of it.
        let settings = self.settings.load_full();
        match self.judge(&message, &from, &bearer, &settings, now).await {
            Ok(Judged { recipient, action, .. }) if message.volatile => {
                self.metrics.messages.inc();
                if let Some(recipient) = recipient {
                    self.pass_on(&recipient, action, &message);
                }
                Ok(Answer::Now(done(now, Outcome::Sent).into()))
            }
            Ok(judged) => {
                let (action, dropped) = (judged.action, judged.dropped);
                let unit = self.unit(&message, dedup, &judged, &bearer, &settings, now);
                let bytes = message.body.len() as u64;
                let (writers, to) = (writers(&message), message.to.clone());
                let (pending, delivery) = (self.store.submit(unit), self.clone());
                // Whoever has new items is told, also if the sender is gone by then.
                Ok(Answer::when_done(async move {
                    let outcome = pending.await;
                    delivery.count(&outcome, &to, action, &from, (bytes, dropped)).await;
                    drop(entered);
                    delivery.answer(outcome, &writers, (&to, action), now)
                }))
            }
            // Seldom, so that what is taken has no room for it.
            Err(error) => Box::pin(refused(&*self.store, dedup, now, error)).await,
        }
    }

    /// What is answered to who may not write so: that, or that it was taken before, if it was.
    ///
    /// # Errors
    /// This, conflict, or the store's.
    pub async fn not_taken(
        &self,
        message: &Written,
        writer: &Address,
        error: Error,
    ) -> Result<Answer, Error> {
        refused(&*self.store, dedup(message, writer), self.clock.wall(), error).await
    }

    /// Whether a message may come in now, to whom, and what happens to it.
    async fn judge(
        &self,
        message: &Written,
        from: &Address,
        bearer: &Bearer,
        settings: &Snapshot,
        now: Timestamp,
    ) -> Result<Judged, Error> {
        in_window(message.id, bearer, now)?;
        in_time(message, now)?;
        let recipient = match self.recipient(&message.to, settings) {
            Err(error) if is_hidden(from, &message.to, &error, settings) => None,
            recipient => Some(recipient?),
        };
        let is_elsewhere = from.domain_str() != message.to.domain_str();
        if is_elsewhere {
            self.principals.asked_from(&message.to, &from.domain());
        }
        let all = Amount { items: settings.inbox.items_max, bytes: settings.inbox.bytes_max };
        let held_max = settings.limits.pending_max;
        let look = self.principals.look(&message.to, |principal, now| {
            let admitted = admit(principal, now, message, from, (held_max, all));
            admitted.map(|(action, most)| (action, most, principal.inbox.next()))
        });
        let (action, most, at) = look.await.stored()??;
        if action == DeliveryAction::Refuse {
            let text = format!("{} does not take messages from you", message.to);
            return Err(Error::new(Code::Refused, text).by(By::Recipient));
        }
        if action == DeliveryAction::Hold && is_elsewhere {
            self.principals.waits_at(&message.to, &from.domain());
        }
        let limit = Limit { items: most.items, bytes: most.bytes };
        // There is no inbox that could take it.
        let nowhere = recipient.is_none() && action == DeliveryAction::Accept;
        let action = if nowhere { DeliveryAction::Drop } else { action };
        let dropped = Dropped { id: message.id, at, size: message.encoded().len() as u64 };
        Ok(Judged { recipient, action, limit, dropped })
    }

    fn recipient(&self, to: &Address, settings: &Snapshot) -> Result<Arc<Account>, Error> {
        let account = self.routes.account(to, settings)?;
        if account.services.im {
            Ok(account)
        } else {
            Err(Error::new(Code::NotOffered, format!("{to} has no inbox")))
        }
    }

    /// What the store has, or has not, counts with the recipient.
    async fn count(
        &self,
        outcome: &Result<storage::Outcome, StoreError>,
        to: &Address,
        action: DeliveryAction,
        from: &Address,
        (bytes, dropped): (u64, Dropped),
    ) {
        let seqs = match outcome {
            Ok(storage::Outcome::Committed { seqs, .. }) => Some(seqs),
            _ => None,
        };
        let counted = match action {
            DeliveryAction::Hold if seqs.is_none() => {
                return self.one_less_held(to, from).await;
            }
            DeliveryAction::Accept | DeliveryAction::Drop => {
                // The first one is the recipient's.
                let seq = seqs.and_then(|seqs| seqs.first().copied()).map(Put::At);
                let seq = seq.filter(|_| action == DeliveryAction::Accept);
                self.principals.look(to, move |principal, _| match seqs {
                    Some(_) => {
                        principal.inbox.stored(from, bytes, seq.unwrap_or(Put::Dropped(dropped)));
                    }
                    None => principal.inbox.lost(from, bytes),
                })
            }
            _ => return,
        };
        if let Err(error) = counted.await {
            tracing::error!(%error, "an inbox could not be counted");
        }
    }

    /// What an answered unit means to the sender; whoever has new items is told.
    fn answer(
        &self,
        outcome: Result<storage::Outcome, StoreError>,
        writers: &[Address],
        (to, action): (&Address, DeliveryAction),
        now: Timestamp,
    ) -> Handled {
        answered(outcome, to, now, || {
            self.metrics.messages.inc();
            match action {
                DeliveryAction::Accept => self.sessions.thing_changed(to, What::Log),
                DeliveryAction::Hold => self.sessions.thing_changed(to, What::Requests),
                DeliveryAction::Drop | DeliveryAction::Refuse => {}
            }
            writers.iter().for_each(|writer| self.sessions.thing_changed(writer, What::Log));
            Outcome::Delivered
        })
    }

    /// All that one message does to the store.
    fn unit(
        &self,
        message: &Written,
        dedup: Dedup,
        judged: &Judged,
        bearer: &Bearer,
        settings: &Snapshot,
        now: Timestamp,
    ) -> Unit {
        let (from, to, inbox) = (dedup.from.clone(), &message.to, &settings.inbox);
        let body = message.encoded().clone();
        let mut ops = Vec::new();
        let Judged { recipient, action, limit, dropped } = judged;
        match action {
            DeliveryAction::Accept => {
                ops.push(received(to, *limit));
                ops.push(trimmed(to, inbox, None));
            }
            // Where there is no account it counts, over a restart too; nobody will read it.
            DeliveryAction::Hold => {
                let kept = if recipient.is_some() { body.clone() } else { Bytes::new() };
                ops.push(hold(message, &from, &kept));
                if from.domain_str() != to.domain_str() {
                    ops.extend(self.principals.ghost_note(to, &from.domain()));
                }
            }
            // Refused where it would be if it were kept, and counted over a restart like that. Where there
            // is no account it counts as long as the server runs.
            DeliveryAction::Drop => {
                ops.push(fits(to, *limit));
                let kept =
                    recipient.as_ref().map(|_| dropped.place(to, &from).set(Some(&dropped.size)));
                ops.extend(kept);
            }
            DeliveryAction::Refuse => {}
        }
        if *bearer == Bearer::Session {
            ops.extend(sent(message, &from, inbox));
        }
        // What waited in a queue was counted when it came there.
        let dedup_max = (*bearer != Bearer::Queue).then_some(settings.limits.known_ids_max);
        // All messages of a pair in one, so that they keep their order.
        let lane = match bearer {
            Bearer::Session | Bearer::Queue => Lane::Account(from),
            Bearer::Link => Lane::Domain(from.domain()),
        };
        Unit { dedup: Some(dedup), body: Some(body), dedup_max, ..Unit::of(now, ops).in_lane(lane) }
    }

    /// A message into an inbox, as far as its quota allows; the unit's body is the message.
    pub(super) fn received(&self, owner: &Address) -> Op {
        let inbox = &self.settings.load().inbox;
        received(owner, Limit { items: inbox.items_max, bytes: inbox.bytes_max })
    }

    /// A message that is not stored goes to the devices that are connected, or to none.
    fn pass_on(&self, recipient: &Account, action: DeliveryAction, message: &Written) {
        if action == DeliveryAction::Accept {
            for mailbox in self.sessions.of(&recipient.address) {
                mailbox.volatile(message.encoded().clone());
            }
        }
    }
}

/// What goes into the logs of those who have sent a message. Accepted, held and dropped are alike to them.
fn sent(message: &Message, writer: &Address, inbox: &Inbox) -> Vec<Op> {
    let (code, by, text, address) = Default::default();
    let (id, to, fate) = (message.id, message.to.clone(), Fate::Delivered);
    let writers = writers(message);
    let mut ops: Vec<Op> = writers.iter().map(copy_sent).collect();
    ops.push(fate_of(writer, &FateReport { id, to, fate, code, by, text, address }));
    ops.extend(writers.iter().map(|of| trimmed(of, inbox, None)));
    ops
}

/// What the owner's rules make of a message that somebody has written, and from whom it is: the stricter of
/// what they say of the two.
pub(super) fn judged(
    principal: &Principal,
    now: Timestamp,
    from: Option<&Address>,
    writer: &Address,
) -> (DeliveryAction, Option<Rate>) {
    let of = |who: &Address| principal.presentity.delivery(now, &Watcher::of(who));
    let own = of(writer);
    let Some(other) = from.filter(|from| *from != writer).map(of) else { return own };
    match own.0.cmp(&other.0) {
        Ordering::Less => own,
        Ordering::Greater => other,
        Ordering::Equal => (own.0, Rate::stricter(own.1, other.1)),
    }
}

/// What the owner's rules make of a message, if there is room for it among what is there of its sender;
/// and how much of the inbox may be full for that.
fn admit(
    principal: &mut Principal,
    now: Timestamp,
    message: &Message,
    from: &Address,
    (held_max, all): (u64, Amount),
) -> Result<(DeliveryAction, Amount), Error> {
    let owner = &message.to;
    let (action, rate) = judged(principal, now, message.from.as_ref(), from);
    if let Some(rate) = rate {
        principal.rates.take(now, from, rate).map_err(|wait| {
            let text = format!("{owner} takes no more messages from you for now");
            Error::new(Code::RateLimited, text).by(By::Recipient).retry_after(wait)
        })?;
    }
    let asker = principal.asker(owner, from);
    let most = asker.of_all(all);
    if message.volatile {
        return Ok((action, most));
    }
    // In its order: what came before is just on the way into the inbox.
    let waits = action == DeliveryAction::Accept && principal.held.is_moving(from);
    let action = if waits { DeliveryAction::Hold } else { action };
    let bytes = message.body.len() as u64;
    let fits = match action {
        // In the words of a full inbox: that messages are held is not for the sender to know.
        DeliveryAction::Hold => principal.held.hold(asker, held_max),
        // What is dropped counts as what is not: its sender is not to know.
        DeliveryAction::Accept | DeliveryAction::Drop => principal.inbox.take(asker, bytes, all),
        DeliveryAction::Refuse => true,
    };
    // The store counts only what is kept.
    let dropped = (action == DeliveryAction::Drop).then(|| principal.inbox.dropped_of(from));
    let most = most.less(dropped.unwrap_or_default());
    if fits { Ok((action, most)) } else { Err(full(owner)) }
}

impl std::fmt::Debug for Delivery {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        f.debug_struct("Delivery").finish_non_exhaustive()
    }
}
