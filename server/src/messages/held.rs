//! Messages that wait for their recipient's decision: a record each, counted with the recipient; and
//! what becomes of them when there is one.
//!
//! Who asks for it, and that it is a rule, is `session/things/requests.rs`'s.

use std::collections::BTreeSet;
use std::sync::Arc;
use std::time::Duration;

use bytes::Bytes;
use impp_acl::{DeliveryAction, Watcher};
use impp_federation::backoff::Backoff;
use impp_protocol::command::Message;
use impp_protocol::{Address, Code, Domain, Error, MessageId, Timestamp};
use impp_storage::{Expect, Lane, Op, Outcome, Payer, Record, Rejection, Unit};

use super::Delivery;
use crate::core::answers::Stored;
use crate::core::keeping;
use crate::core::principals::Moving;
use crate::core::records::place::{self, Place, Raw};
use crate::core::records::{self, DECIDED, HELD};

/// How often what is held is looked at, at most, while more comes.
const LOOKS_MAX: usize = 1000;
/// How often what the store has no time or room for is tried again, until there is another cause: half
/// a quarter of an hour or more.
const TRIES_MAX: u32 = 24;
/// How long tries are apart.
const BACKOFF: Backoff = Backoff { min: Duration::from_secs(1), max: Duration::from_secs(60) };

/// The record of a message that is held.
pub(super) fn hold(message: &Message, from: &Address, body: &Bytes) -> Op {
    place::held(&message.to, from, message.id).put_bytes(Expect::Any, body.clone())
}

/// A held message; one without a body came while there was no inbox, and nobody reads it.
pub struct Held {
    key: Vec<u8>,
    /// Who sent it.
    pub from: Address,
    /// When, by its id.
    pub since: Timestamp,
    record: Record,
}

impl Delivery {
    /// A message that was counted as held is not any more.
    pub(super) async fn one_less_held(&self, owner: &Address, from: &Address) {
        let counted = self.principals.look(owner, |principal, _| principal.held.one_less(from));
        if let Err(error) = counted.await {
            tracing::error!(%error, "held messages could not be counted");
        }
    }

    /// What is held for an owner, in the order in which it came.
    ///
    /// # Errors
    /// The store's trouble.
    pub async fn held(&self, owner: &Address) -> Result<Vec<Held>, Error> {
        let records = keeping::scan(&*self.store, owner, HELD).await.stored()?;
        let read = |(key, record): (Vec<u8>, Record)| {
            let (from, since) = {
                let mut parts = records::parts(&key).skip(1);
                let from = Address::parse_canonical(parts.next()?).ok()?;
                let id: MessageId = parts.next()?.parse().ok()?;
                (from, id.time().unwrap_or_default())
            };
            Some(Held { key, from, since, record })
        };
        let mut held: Vec<Held> = records.into_iter().filter_map(read).collect();
        // Their keys do not keep it.
        held.sort_by_key(|held| held.record.version);
        Ok(held)
    }

    /// Does by the rules with what is held of a sender, from the oldest, until there is no more of it. If
    /// that fails, or more and more comes, the rest stays held, and what comes behind it too; it goes on
    /// with [`Delivery::go_on`]: when the owner has made room, with the next decision, or when the server
    /// is started.
    ///
    /// # Errors
    /// What kept the rest from being moved.
    pub async fn move_held(
        &self,
        owner: &Address,
        from: &Address,
        mut moving: Moving,
    ) -> Result<(), Error> {
        for _ in 0..LOOKS_MAX {
            let mut held = self.held(owner).await?;
            held.retain(|held| held.from == *from);
            let mut action = None;
            for held in held {
                action = Some(self.release(owner, held).await?);
                if action == Some(DeliveryAction::Hold) {
                    break;
                }
            }
            let moved = self.principals.look(owner, |principal, _| {
                let last = match action {
                    // It was decided otherwise since.
                    Some(DeliveryAction::Hold) => principal.held.given_up(from, moving),
                    _ => principal.held.moved(from, moving)?,
                };
                // Queued under the lock: before whatever is decided about the sender next.
                Ok::<_, Moving>(last.then(|| self.store.submit(self.forget(owner, from))))
            });
            match moved.await.stored()? {
                Ok(None) => return Ok(()),
                Ok(Some(forgotten)) => {
                    // What stays noted is found to be done at the next start.
                    if let Err(error) = forgotten.await {
                        tracing::warn!(%error, "that held messages are moved could not be stored");
                    }
                    return Ok(());
                }
                Err(goes_on) => moving = goes_on,
            }
            // What is on its way to being held is there after this.
            let unit = Unit::of(self.clock.now(), Vec::new());
            self.store.submit(unit).await.stored()?;
        }
        Ok(())
    }

    /// Goes on with decisions of an owner that were not carried out, as when the inbox was full. What the
    /// store is too busy for, or has no room for, is tried again so often (`TRIES_MAX`).
    pub async fn go_on(self: &Arc<Self>, owner: &Address) {
        let Some(left) = self.left(owner).await else { return };
        let (delivery, owner) = (self.clone(), owner.clone());
        tokio::spawn(async move {
            let (mut next, mut failures) = (Some(left), 0);
            while let Some((goes_on, left)) = next {
                let passes = delivery.go_through(&owner, left).await;
                let ended = delivery.principals.look(&owner, |p, _| p.held.went_on(goes_on));
                let again = ended.await.is_ok_and(|again| again);
                if !again && passes {
                    failures += 1;
                    if failures > TRIES_MAX {
                        tracing::warn!(%owner, "held messages are left until there is a cause to move them");
                        return;
                    }
                    delivery.pause(failures).await;
                }
                next = if again || passes { delivery.left(&owner).await } else { None };
            }
        });
    }

    /// Carries out what is left of an owner's decisions; whether something kept it from that which may
    /// pass by itself.
    async fn go_through(&self, owner: &Address, left: Vec<(Address, Moving)>) -> bool {
        let mut passes = false;
        for (from, moving) in left {
            let Err(error) = self.move_held(owner, &from, moving).await else { continue };
            tracing::info!(%owner, %error, "held messages are not all moved yet");
            if error.code == Code::Full {
                // Nor is there room for anybody else's, until the owner makes some.
                break;
            }
            passes |= matches!(error.code, Code::Busy | Code::Storage);
        }
        passes
    }

    /// After so many failures in a row.
    async fn pause(&self, failures: u32) {
        // Without chance all come back at once, which the store stands.
        let random = self.chance.bytes().map_or(u64::MAX, u64::from_ne_bytes);
        let again = self.clock.now().after(BACKOFF.wait(failures, random));
        self.clock.reach(again).await;
    }

    /// What of an owner's decisions is to be carried out, if nobody is at it.
    async fn left(&self, owner: &Address) -> Option<(Arc<()>, Vec<(Address, Moving)>)> {
        let left = self.principals.look(owner, |principal, _| {
            let (goes_on, left) = principal.held.go_on()?;
            let begin = |from: Address| {
                let moving = principal.held.begin_moving(&from);
                (from, moving)
            };
            Some((goes_on, left.into_iter().map(begin).collect()))
        });
        left.await.ok().flatten()
    }

    /// The same of all owners, after a start: a crash may have come in between.
    pub async fn go_on_with_all(self: &Arc<Self>, domains: &[Domain]) {
        for domain in domains {
            let found = match keeping::all(&*self.store, domain, DECIDED).await {
                Ok(found) => found,
                Err(error) => {
                    tracing::error!(%domain, %error, "what was decided could not be read");
                    continue;
                }
            };
            let keys = found.records.into_iter().map(|(key, _)| key).chain(found.damaged);
            let owners: BTreeSet<Address> = keys
                .filter_map(|key| {
                    let local = records::parts(&key).next()?.to_owned();
                    Address::parse_canonical(&format!("{local}@{domain}")).ok()
                })
                .collect();
            for owner in owners {
                self.go_on(&owner).await;
            }
        }
    }

    /// A held message goes where the rules say now; there it stays if they say that it is held.
    async fn release(&self, owner: &Address, held: Held) -> Result<DeliveryAction, Error> {
        let sender = Watcher::Principal(held.from.clone());
        let look = self
            .principals
            .look(owner, |principal, now| principal.presentity.delivery(now, &sender).0);
        let action = look.await.stored()?;
        if action == DeliveryAction::Hold {
            return Ok(action);
        }
        // What came while there was no inbox is not there to be read.
        let accept = action == DeliveryAction::Accept && held.is_read();
        let place: Place<Raw> = place::found(&owner.domain(), HELD, held.key);
        let mut ops = vec![place.delete_if(Expect::Version(held.record.version))];
        if accept {
            ops.push(self.received(owner));
        }
        let body = accept.then_some(held.record.value);
        let unit = Unit { body, ..Unit::of(self.clock.wall(), ops) };
        match self.store.submit(unit).await.stored()? {
            Outcome::Rejected(Rejection::Full { .. }) => {
                let text = "your inbox is full; the messages stay held until it has room";
                Err(Error::new(Code::Full, text))
            }
            Outcome::Committed { .. } => {
                self.one_less_held(owner, &held.from).await;
                self.sessions.log_grew(owner);
                Ok(action)
            }
            // Another session released it first.
            _ => Ok(action),
        }
    }

    /// The end of what is noted of a decision.
    fn forget(&self, owner: &Address, from: &Address) -> Unit {
        let payer = Payer::Account(owner.clone());
        let ops = vec![place::decided(owner, from).delete()];
        Unit::of(self.clock.now(), ops).paid_by(payer).in_lane(Lane::Account(owner.clone()))
    }
}

impl Held {
    /// The fields of its MESSAGE.
    pub fn message(&self) -> &Bytes {
        &self.record.value
    }

    /// Its place in the order in which they came.
    pub fn place(&self) -> Bytes {
        Bytes::copy_from_slice(&self.record.version.to_be_bytes())
    }

    /// Whether there is anything to decide about.
    pub fn is_read(&self) -> bool {
        !self.record.value.is_empty()
    }
}

impl std::fmt::Debug for Held {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        f.debug_struct("Held").field("from", &self.from).finish_non_exhaustive()
    }
}

#[cfg(test)]
mod tests;
