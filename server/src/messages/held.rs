//! Messages that wait for their recipient's decision: a record each, counted with the recipient; and
//! what becomes of them when there is one.
//!
//! Who asks for it, and that it is a rule, is `session/things/requests.rs`'s.

use std::collections::BTreeSet;
use std::sync::Arc;
use std::time::Duration;

use bytes::Bytes;
use impp_acl::DeliveryAction;
use impp_federation::backoff::Backoff;
use impp_protocol::command::Message;
use impp_protocol::{Address, Code, Domain, Error, MessageId, Timestamp, What};
use impp_storage::{
    Expect, Lane, Op, Outcome, Payer, Record, Rejection, Salvaged, StoreError, Unit,
};

use super::Delivery;
use super::deliver::judged;
use super::going_on::Turn;
use crate::core::answers::{Stored, Unstored};
use crate::core::keeping;
use crate::core::principals::{Moving, Principal};
use crate::core::records::place::{self, Place, Raw};
use crate::core::records::{self, DECIDED, HELD};

/// How often what is held is looked at, at most, while more comes.
const LOOKS_MAX: usize = 1000;
/// How often what the store has no time or room for is tried again, until there is another cause: half
/// a quarter of an hour or more.
const TRIES_MAX: u32 = 24;
/// How long tries are apart.
const BACKOFF: Backoff = Backoff { min: Duration::from_secs(1), max: Duration::from_secs(60) };

/// What a pass over an owner's decisions has come to.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord)]
enum Passed {
    /// Whatever is left waits for a cause, as where the inbox is full.
    Rests,
    /// More and more came: there is a rest.
    MoreCame,
    /// Something kept it from being moved that may pass by itself.
    Failed,
}

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
        counted(self.principals.look(owner, |principal, _| principal.held.one_less(from)).await);
    }

    /// What is held for an owner and can be read, in the order in which it came. What cannot be, the store
    /// has named and counted.
    ///
    /// # Errors
    /// The store's trouble.
    pub async fn held(&self, owner: &Address) -> Result<Vec<Held>, Error> {
        Ok(self.held_under(owner, &[""]).await?.0)
    }

    /// The same of those whose keys go on like this, and whether that is all there is.
    async fn held_under(&self, owner: &Address, rest: &[&str]) -> Result<(Vec<Held>, bool), Error> {
        let salvaged = keeping::salvage_of(&*self.store, owner, HELD, rest).await.stored()?;
        let Salvaged { records, damaged, unsure } = salvaged;
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
        Ok((held, damaged.is_empty() && !unsure))
    }

    /// Does by the rules with what is held of a sender, from the oldest, until there is no more of it;
    /// whether that is so. If it fails, or more and more comes, the rest stays held, and what comes behind
    /// it too; it goes on with [`Delivery::go_on`]: when the owner has made room, with the next decision,
    /// or when the server is started. What cannot be read stays where it is, and nothing waits behind it.
    ///
    /// # Errors
    /// What kept the rest from being moved.
    pub async fn move_held(
        &self,
        owner: &Address,
        from: &Address,
        mut moving: Moving,
    ) -> Result<bool, Error> {
        // How many were counted before all of them were there.
        let mut counted = None;
        for _ in 0..LOOKS_MAX {
            let (held, is_all) = self.held_under(owner, &[from.as_str(), ""]).await?;
            let none_is_left = held.is_empty() && !is_all;
            let action = match self.release_all(owner, held).await {
                Ok(action) => action,
                Err((error, versions)) => {
                    drop(moving);
                    self.rests(owner, from, versions).await;
                    return Err(error);
                }
            };
            let moved = self.principals.look(owner, |principal, _| {
                let count = Some(principal.held.count(from));
                if none_is_left && count == counted {
                    principal.held.lost(from);
                }
                counted = count;
                let last = match action {
                    // It was decided otherwise since.
                    Some(DeliveryAction::Hold) => principal.held.given_up(from, moving),
                    _ => principal.held.moved(from, moving)?,
                };
                // Queued under the lock: before whatever is decided about the sender next.
                Ok::<_, Moving>(last.then(|| self.store.submit(self.forget(owner, from))))
            });
            match moved.await.stored()? {
                Ok(None) => return Ok(true),
                Ok(Some(forgotten)) => {
                    // What stays noted is found to be done at the next start.
                    if let Err(error) = forgotten.await {
                        error.unstored("that held messages are moved");
                    }
                    return Ok(true);
                }
                Err(goes_on) => moving = goes_on,
            }
            // What is on its way to being held is there after this: it is in the same lane. The owner
            // asks for it.
            let lane = Some(keeping::lane_of(from, self.routes.is_local(from)));
            let share = Some(Lane::Account(owner.clone()));
            let unit = Unit { lane, share, ..Unit::of(self.clock.now(), Vec::new()) };
            self.store.submit(unit).await.stored()?;
        }
        Ok(false)
    }

    /// Goes on with decisions of an owner that were not carried out, as when the inbox was full. What the
    /// store is too busy for, or has no room for, is tried again so often (`TRIES_MAX`), and so is an owner
    /// who cannot be read: by one task, which begins anew with each cause.
    pub async fn go_on(self: &Arc<Self>, owner: &Address) {
        let nothing = self.principals.look(owner, |principal, _| !principal.held.has_decided());
        if nothing.await == Ok(true) {
            return;
        }
        let Some(turn) = self.going_on.begin(owner) else { return };
        let (delivery, owner) = (self.clone(), owner.clone());
        tokio::spawn(async move { delivery.take_turn(&owner, turn).await });
    }

    async fn take_turn(&self, owner: &Address, mut turn: Turn) {
        let mut failures = 0;
        loop {
            failures = match self.go_through(owner).await {
                Passed::Rests => 0,
                Passed::MoreCame => 1,
                Passed::Failed => failures + 1,
            };
            if failures > TRIES_MAX {
                tracing::warn!(%owner, "held messages are left until there is a cause to move them");
            }
            if failures == 0 || failures > TRIES_MAX {
                let Some(next) = turn.end() else { return };
                (turn, failures) = (next, 0);
                continue;
            }
            tokio::select! {
                () = self.pause(failures) => {}
                () = turn.cause() => failures = 0,
            }
        }
    }

    /// Carries out what is left of an owner's decisions. What keeps one sender's messages does not keep
    /// another's: those that are dropped need no room.
    async fn go_through(&self, owner: &Address) -> Passed {
        let decided = self.principals.look(owner, |principal, _| {
            let decided: Vec<Address> = principal.held.decided_about().cloned().collect();
            let begin = |from: Address| {
                let moving = principal.held.begin_moving(&from);
                (from, moving)
            };
            decided.into_iter().map(begin).collect::<Vec<_>>()
        });
        let decided = match decided.await.stored() {
            Ok(decided) => decided,
            Err(error) => return kept(owner, &error),
        };
        let mut passed = Passed::Rests;
        for (from, moving) in decided {
            passed = passed.max(match self.move_held(owner, &from, moving).await {
                Ok(true) => Passed::Rests,
                Ok(false) => Passed::MoreCame,
                Err(error) => kept(owner, &error),
            });
        }
        passed
    }

    /// After so many failures in a row.
    async fn pause(&self, failures: u32) {
        // Without chance all come back at once, which the store stands.
        let random = self.chance.bytes().map_or(u64::MAX, u64::from_ne_bytes);
        let again = self.clock.now().after(BACKOFF.wait(failures, random));
        self.clock.reach(again).await;
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

    /// These of a sender are left: of what was set aside while they were moved nothing has a place.
    async fn rests(&self, owner: &Address, from: &Address, versions: Vec<u64>) {
        let left = versions.into_iter();
        counted(self.principals.look(owner, |principal, _| principal.held.left(from, left)).await);
    }

    /// These go where the rules say, until one stays held; what was done with the last one.
    ///
    /// # Errors
    /// What has kept one from being moved, and the versions of those that are left.
    async fn release_all(
        &self,
        owner: &Address,
        held: Vec<Held>,
    ) -> Result<Option<DeliveryAction>, (Error, Vec<u64>)> {
        let versions: Vec<u64> = held.iter().map(|held| held.record.version).collect();
        let mut action = None;
        for (done, held) in held.into_iter().enumerate() {
            let released = self.release(owner, held).await;
            action = Some(
                released.map_err(|error| (error, versions.iter().skip(done).copied().collect()))?,
            );
            if action == Some(DeliveryAction::Hold) {
                break;
            }
        }
        Ok(action)
    }

    /// A held message goes where the rules say now; there it stays if they say that it is held.
    async fn release(&self, owner: &Address, held: Held) -> Result<DeliveryAction, Error> {
        // From whom it is, if a delegate of theirs wrote it.
        let from = Message::decode(held.record.value.clone()).ok().and_then(|message| message.from);
        let look = self
            .principals
            .look(owner, |principal, now| judged(principal, now, from.as_ref(), &held.from).0);
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
        // What is held was read, so it is there; one is waited for before the next is moved.
        let lane = Lane::Account(owner.clone());
        let unit = Unit { body, ..Unit::of(self.clock.wall(), ops).in_lane(lane) };
        match self.store.submit(unit).await.stored()? {
            Outcome::Rejected(Rejection::Full { .. }) => {
                let text = "your inbox is full; the messages stay held until it has room";
                Err(Error::new(Code::Full, text))
            }
            Outcome::Committed { .. } => {
                let version = held.record.version;
                let gone = |principal: &mut Principal, _| principal.held.gone(&held.from, version);
                counted(self.principals.look(owner, gone).await);
                self.sessions.thing_changed(owner, What::Log);
                self.sessions.thing_changed(owner, What::Requests);
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

/// If they could not be.
fn counted(counted: Result<(), StoreError>) {
    if let Err(error) = counted {
        tracing::error!(%error, "held messages could not be counted");
    }
}

/// What has kept held messages from being moved.
fn kept(owner: &Address, error: &Error) -> Passed {
    tracing::info!(%owner, %error, "held messages are not all moved yet");
    match error.code {
        Code::Busy | Code::Storage => Passed::Failed,
        _ => Passed::Rests,
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
