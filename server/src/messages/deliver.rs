//! A message into an inbox here, in one step with what its sender is told: whoever brings it, a
//! session or a link, has proven who its sender is.
//!
//! What the recipient's delivery rules say is `impp_acl`'s, once-only storing the store's.

use std::sync::Arc;

use impp_acl::{DeliveryAction, Watcher};
use impp_presence::ghosts::GhostInboxes;
use impp_presence::places::Amount;
use impp_protocol::command::{Message, Outcome};
use impp_protocol::state::{Fate, FateReport};
use impp_protocol::{Address, By, Code, Error, Timestamp};
use impp_storage::{self as storage, Dedup, Lane, Limit, Op, Store, StoreError, Unit};
use parking_lot::Mutex;

use super::accept::{answered, dedup, done, full, in_time, in_window, is_repeat};
use super::held::hold;
use super::items::{copy_sent, fate_of, received};
use crate::core::accounts::Account;
use crate::core::answers::{Answer, Handled, Stored};
use crate::core::clock::Clock;
use crate::core::ground::Ground;
use crate::core::metrics::Metrics;
use crate::core::principals::{Principal, Principals};
use crate::core::routes::Routes;
use crate::core::sessions::Sessions;
use crate::core::settings::Settings;

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
    settings: Arc<Settings>,
    routes: Arc<Routes>,
    pub(super) principals: Arc<Principals>,
    pub(super) sessions: Arc<Sessions>,
    /// Addresses that do not exist here, as other domains see their inboxes.
    ghosts: Mutex<GhostInboxes>,
    metrics: Arc<Metrics>,
}

/// Where a message goes.
enum Judged {
    /// Into this inbox, or what its rules say instead; so much of it may be full for this sender.
    Inbox(Arc<Account>, DeliveryAction, Limit),
    /// There is no such inbox, which other domains are not to know.
    Nobody,
}

impl Delivery {
    /// Into the inboxes of these principals.
    pub fn new(
        ground: &Ground,
        routes: Arc<Routes>,
        principals: Arc<Principals>,
        sessions: Arc<Sessions>,
    ) -> Delivery {
        let Ground { store, clock, settings, metrics, .. } = ground.clone();
        let ghosts = Mutex::default();
        Delivery { store, clock, settings, routes, principals, sessions, ghosts, metrics }
    }

    /// Takes a message whose `from` is proven; the answer comes when the store has it.
    ///
    /// # Errors
    /// Why it is not taken.
    pub async fn deliver(
        self: &Arc<Self>,
        message: Message,
        from: Address,
        bearer: Bearer,
    ) -> Result<Answer, Error> {
        let now = self.clock.wall();
        let dedup = dedup(&message, &from);
        match self.judge(&message, &from, &bearer, now).await {
            Ok(Judged::Inbox(recipient, action, _)) if message.volatile => {
                self.metrics.messages.inc();
                self.pass_on(&recipient, action, &message);
                Ok(Answer::Now(done(now, Outcome::Sent).into()))
            }
            Ok(Judged::Nobody) if message.volatile => {
                Ok(Answer::Now(done(now, Outcome::Sent).into()))
            }
            Ok(judged) => {
                let (action, nobody) = match &judged {
                    Judged::Inbox(_, action, _) => (*action, false),
                    // It takes as long, and a repeat is told, as if there were somebody.
                    Judged::Nobody => (DeliveryAction::Drop, true),
                };
                let unit = self.unit(&message, dedup, &judged, &bearer, now);
                let bytes = message.body.len() as u64;
                let (pending, delivery, to) = (self.store.submit(unit), self.clone(), message.to);
                // Whoever has new items is told, also if the sender is gone by then.
                let answered = tokio::spawn(async move {
                    let outcome = pending.await;
                    delivery.count(&outcome, (&to, nobody), action, &from, bytes).await;
                    delivery.answer(outcome, &from, &to, now)
                });
                Ok(Answer::of_task(answered))
            }
            // What was accepted before is not refused now, whatever has changed meanwhile.
            Err(error) => match is_repeat(&*self.store, dedup).await? {
                true => Ok(Answer::Now(done(now, Outcome::Duplicate).into())),
                false => Err(error),
            },
        }
    }

    /// Whether a message may come in now, to whom, and what happens to it.
    async fn judge(
        &self,
        message: &Message,
        from: &Address,
        bearer: &Bearer,
        now: Timestamp,
    ) -> Result<Judged, Error> {
        in_window(message.id, bearer, now)?;
        in_time(message, now)?;
        let recipient = match self.recipient(&message.to) {
            Err(error) if self.routes.is_hidden(from, &message.to, &error) => {
                return self.nobody(&message.to, from);
            }
            recipient => recipient?,
        };
        let (held_max, all) = {
            let settings = self.settings.load();
            let (items, bytes) = (settings.inbox.items_max, settings.inbox.bytes_max);
            (settings.limits.pending_max, Amount { items, bytes })
        };
        let look = self.principals.look(&message.to, |principal, now| {
            admit(principal, now, message, from, (held_max, all))
        });
        let (action, most) = look.await.stored()??;
        if action == DeliveryAction::Refuse {
            let text = format!("{} does not take messages from you", message.to);
            return Err(Error::new(Code::Refused, text).by(By::Recipient));
        }
        let limit = Limit { items: most.items, bytes: most.bytes };
        Ok(Judged::Inbox(recipient, action, limit))
    }

    /// Another domain writes to an address without an inbox, which it is not to be told.
    fn nobody(&self, to: &Address, from: &Address) -> Result<Judged, Error> {
        match self.ghosts.lock().hold(to, from, self.settings.load().limits.pending_max) {
            true => Ok(Judged::Nobody),
            false => Err(full(to)),
        }
    }

    fn recipient(&self, to: &Address) -> Result<Arc<Account>, Error> {
        let account = self.routes.account(to)?;
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
        (to, nobody): (&Address, bool),
        action: DeliveryAction,
        from: &Address,
        bytes: u64,
    ) {
        let seqs = match outcome {
            Ok(storage::Outcome::Committed { seqs, .. }) => Some(seqs),
            _ => None,
        };
        let counted = match (nobody, action) {
            (true, _) if seqs.is_none() => return self.ghosts.lock().release(to, from),
            (false, DeliveryAction::Hold) if seqs.is_none() => {
                return self.one_less_held(to, from).await;
            }
            (false, DeliveryAction::Accept | DeliveryAction::Drop) => {
                // The first one is the recipient's.
                let kept = action == DeliveryAction::Accept;
                let seq = seqs.and_then(|seqs| seqs.first().copied()).filter(|_| kept);
                self.principals.look(to, move |principal, _| match seqs {
                    Some(_) => principal.inbox.stored(from, bytes, seq),
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
        from: &Address,
        to: &Address,
        now: Timestamp,
    ) -> Handled {
        answered(outcome, to, now, || {
            self.metrics.messages.inc();
            self.sessions.log_grew(to);
            self.sessions.log_grew(from);
            Outcome::Delivered
        })
    }

    /// All that one message does to the store.
    fn unit(
        &self,
        message: &Message,
        dedup: Dedup,
        judged: &Judged,
        bearer: &Bearer,
        now: Timestamp,
    ) -> Unit {
        let (from, to) = (dedup.from.clone(), &message.to);
        let body = message.encode();
        let mut ops = Vec::new();
        match *judged {
            Judged::Inbox(_, DeliveryAction::Accept, limit) => ops.push(received(to, limit)),
            Judged::Inbox(_, DeliveryAction::Hold, _) => ops.push(hold(message, &from, &body)),
            // Refused where it would be if it were kept.
            Judged::Inbox(_, DeliveryAction::Drop, limit) => {
                ops.push(Op::Fits { owner: to.clone(), limit });
            }
            Judged::Inbox(_, DeliveryAction::Refuse, _) | Judged::Nobody => {}
        }
        if *bearer == Bearer::Session {
            // Accepted, held and dropped are alike to the sender.
            let (code, by, text, address) = (None, None, None, None);
            let (id, to, fate) = (message.id, to.clone(), Fate::Delivered);
            ops.push(copy_sent(&from));
            ops.push(fate_of(&from, &FateReport { id, to, fate, code, by, text, address }));
        }
        // All messages of a pair in one, so that they keep their order.
        let lane = match bearer {
            Bearer::Session | Bearer::Queue => Lane::Account(from),
            Bearer::Link => Lane::Domain(from.domain()),
        };
        Unit { dedup: Some(dedup), body: Some(body), ..Unit::of(now, ops).in_lane(lane) }
    }

    /// A message into an inbox, as far as its quota allows; the unit's body is the message.
    pub(super) fn received(&self, owner: &Address) -> Op {
        let inbox = &self.settings.load().inbox;
        received(owner, Limit { items: inbox.items_max, bytes: inbox.bytes_max })
    }

    /// A message that is not stored goes to the devices that are connected, or to none.
    fn pass_on(&self, recipient: &Account, action: DeliveryAction, message: &Message) {
        if action == DeliveryAction::Accept {
            let encoded = message.encode();
            for mailbox in self.sessions.of(&recipient.address) {
                mailbox.volatile(encoded.clone());
            }
        }
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
    let (owner, sender) = (&message.to, Watcher::Principal(from.clone()));
    let (action, rate) = principal.presentity.delivery(now, &sender);
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
    if fits { Ok((action, most)) } else { Err(full(owner)) }
}

impl std::fmt::Debug for Delivery {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        f.debug_struct("Delivery").finish_non_exhaustive()
    }
}
