//! Whose messages are in an owner's inbox and not acknowledged: so each sender and each other domain has
//! its share of it.
//!
//! How full it is altogether the store counts. Counted here is what has come since the server runs: who
//! had the whole of a share at a restart has a new one. What was dropped the store does not count, so of
//! that there is a record, and it is counted here after a restart too.

use std::collections::BTreeMap;
use std::sync::Arc;

use impp_presence::places::{Amount, Asker, Places};
use impp_protocol::{Address, MessageId};
use impp_storage::{Payer, StoreError};

use super::Principals;
use crate::core::answers::Unstored;
use crate::core::keeping::{Bill, Commits};
use crate::core::records::place::{self, Place};

/// See the module. What a rule has dropped is counted like the rest: its sender is told that there is
/// no room when one whose messages are kept would be.
#[derive(Debug, Default)]
pub struct InboxShares {
    places: Places,
    /// What is stored, by its place in the log and in the order in which that was told; those that were
    /// dropped stand behind the newest of others.
    stored: BTreeMap<(u64, u64), One>,
    /// Of these, what was dropped: the store does not count it.
    dropped: Places,
    /// Of what was dropped and counts no more, what is to be forgotten.
    over: Vec<(Address, Dropped)>,
    newest: u64,
    acknowledged: u64,
    told: u64,
}

/// One of them.
#[derive(Debug)]
struct One {
    from: Address,
    /// What it has of its sender's share; nothing if it came before this server was started.
    bytes: Option<u64>,
    /// If it was not kept.
    dropped: Option<Dropped>,
}

/// A message that was not kept.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Dropped {
    /// Which.
    pub id: MessageId,
    /// Where in the log it would have come.
    pub at: u64,
    /// What it would have taken there.
    pub size: u64,
}

/// What has become of one that was on its way.
#[derive(Clone, Copy, Debug)]
pub enum Put {
    /// It is at this place in the log.
    At(u64),
    /// It was dropped.
    Dropped(Dropped),
}

impl Dropped {
    /// The record of it.
    pub fn place(&self, owner: &Address, from: &Address) -> Place<u64> {
        place::dropped(owner, self.at, from, self.id)
    }
}

impl InboxShares {
    /// Those of an owner whose log has come so far, and is acknowledged so far.
    pub(super) fn of(newest: u64, acknowledged: u64) -> InboxShares {
        InboxShares { newest, acknowledged, ..InboxShares::default() }
    }

    /// One that was dropped before this server was started.
    pub(super) fn restored(&mut self, from: &Address, dropped: Dropped) {
        self.drop_one(from, None, dropped);
    }

    /// One more is on its way to the disk, if its sender has room for it. Those that were dropped are
    /// in no inbox that could be full: of them there are as many again at most.
    pub fn take(&mut self, asker: Asker<'_>, bytes: u64, all: Amount) -> bool {
        let has_room = self.stored.len() as u64 <= all.items.saturating_mul(2);
        has_room && self.places.take_share(asker, bytes, all)
    }

    /// Where one comes that is on its way now, or would if it were kept.
    pub fn next(&self) -> u64 {
        self.newest.max(self.acknowledged) + 1
    }

    /// It is there, or dropped.
    pub fn stored(&mut self, from: &Address, bytes: u64, put: Put) {
        let seq = match put {
            Put::At(seq) => seq,
            Put::Dropped(dropped) => return self.drop_one(from, Some(bytes), dropped),
        };
        self.newest = self.newest.max(seq);
        if seq <= self.acknowledged {
            return self.places.give_back(from, bytes);
        }
        self.told += 1;
        let one = One { from: from.clone(), bytes: Some(bytes), dropped: None };
        self.stored.insert((seq, self.told), one);
    }

    fn drop_one(&mut self, from: &Address, bytes: Option<u64>, dropped: Dropped) {
        if dropped.at <= self.acknowledged {
            self.over.push((from.clone(), dropped));
            return bytes.into_iter().for_each(|bytes| self.places.give_back(from, bytes));
        }
        self.told += 1;
        self.dropped.put(Asker::of(from, from, false), dropped.size);
        let one = One { from: from.clone(), bytes, dropped: Some(dropped) };
        self.stored.insert((dropped.at, self.told), one);
    }

    /// What the inbox would hold more of a sender if none of its messages had been dropped: it is full
    /// for that sender when it would be then.
    pub fn dropped_of(&self, from: &Address) -> Amount {
        self.dropped.of(from)
    }

    /// It did not come there.
    pub fn lost(&mut self, from: &Address, bytes: u64) {
        self.places.give_back(from, bytes);
    }

    /// The owner has deleted the one at a place; whether there is more room than before. One that is
    /// told to be stored after this counts until it is acknowledged.
    pub fn deleted(&mut self, seq: u64) -> bool {
        let mut there = self.stored.range((seq, 0)..=(seq, u64::MAX));
        let Some(key) = there.find(|(_, one)| one.dropped.is_none()).map(|(key, _)| *key) else {
            return false;
        };
        if let Some(One { from, bytes, .. }) = self.stored.remove(&key) {
            bytes.into_iter().for_each(|bytes| self.places.give_back(&from, bytes));
        }
        true
    }

    /// A device has acknowledged all up to a place: what was dropped and is to be forgotten, if that is
    /// more than any had before.
    pub fn acknowledged(&mut self, upto: u64) -> Option<Vec<(Address, Dropped)>> {
        if upto <= self.acknowledged {
            return None;
        }
        self.acknowledged = upto;
        while let Some(first) = self.stored.first_entry()
            && first.key().0 <= upto
        {
            let One { from, bytes, dropped } = first.remove();
            bytes.into_iter().for_each(|bytes| self.places.give_back(&from, bytes));
            if let Some(dropped) = dropped {
                self.dropped.give_back(&from, dropped.size);
                self.over.push((from, dropped));
            }
        }
        Some(std::mem::take(&mut self.over))
    }
}

impl Principals {
    /// A device has acknowledged all up to a place; whether more than any had before, so that there may be
    /// room again.
    ///
    /// # Errors
    /// [`StoreError`].
    pub async fn acknowledged(
        self: &Arc<Self>,
        owner: &Address,
        upto: u64,
    ) -> Result<bool, StoreError> {
        let over = self.look(owner, |principal, _| principal.inbox.acknowledged(upto)).await?;
        let Some(over) = over else { return Ok(false) };
        if !over.is_empty() {
            let ops = over.iter().map(|(from, one)| one.place(owner, from).delete()).collect();
            let (store, now) = (&*self.ground.store, self.ground.clock.now());
            let bill = Bill { payer: Payer::Account(owner.clone()), share: None };
            let commits = Commits::submit(store, now, ops, &bill, Some(owner));
            tokio::spawn(async move {
                // What stays is found to be over when it is read.
                let stored = commits.done().await;
                let _ =
                    stored.inspect_err(|error| error.unstored("that dropped messages are over"));
            });
        }
        Ok(true)
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn e8_what_is_acknowledged_makes_room_whenever_it_is_told() {
        let (owner, bob) = ("o@a.example".parse().unwrap(), "bob@b.example".parse().unwrap());
        let (mut inbox, all) = (InboxShares::default(), Amount::items(40));
        let take = |inbox: &mut InboxShares| inbox.take(Asker::of(&owner, &bob, false), 5, all);
        assert_eq!((0..20).filter(|_| take(&mut inbox)).count(), 10);
        (1..=9).for_each(|seq| inbox.stored(&bob, 5, Put::At(seq * 10)));
        assert!(!take(&mut inbox));
        assert!(inbox.deleted(90) && take(&mut inbox) && !take(&mut inbox));
        assert!(!inbox.deleted(90) && !inbox.deleted(95), "nothing is there");
        inbox.stored(&bob, 5, Put::At(90));
        inbox.acknowledged(30);
        assert_eq!((0..20).filter(|_| take(&mut inbox)).count(), 3);
        // The tenth was read before it is known here that it is stored.
        inbox.acknowledged(100);
        inbox.stored(&bob, 5, Put::At(100));
        (0..3).for_each(|_| inbox.lost(&bob, 5));
        assert!(inbox.places.is_empty() && inbox.stored.is_empty());
        // What was dropped stands where it would have come, and goes with what is acknowledged there.
        assert!(take(&mut inbox) && take(&mut inbox));
        inbox.stored(&bob, 5, Put::At(110));
        let dropped = Dropped { id: MessageId([1; 16]), at: inbox.next(), size: 7 };
        inbox.stored(&bob, 5, Put::Dropped(dropped));
        assert_eq!(inbox.acknowledged(110), Some(vec![]));
        assert_eq!(inbox.places.of(&bob).items, 1);
        assert_eq!(inbox.dropped_of(&bob), Amount { items: 1, bytes: 7 });
        assert_eq!(inbox.acknowledged(110), None);
        assert_eq!(inbox.acknowledged(120), Some(vec![(bob, dropped)]));
        assert!(inbox.places.is_empty() && inbox.dropped.is_empty());
    }

    #[test]
    fn d9_e8_what_was_dropped_counts_after_a_restart_until_it_would_be_acknowledged() {
        let bob: Address = "bob@b.example".parse().unwrap();
        let mut inbox = InboxShares::of(20, 10);
        assert_eq!(inbox.next(), 21);
        let at = |at| Dropped { id: MessageId([at; 16]), at: u64::from(at), size: 7 };
        [10, 15, 21].into_iter().for_each(|place| inbox.restored(&bob, at(place)));
        // One is over already.
        assert_eq!(inbox.dropped_of(&bob), Amount { items: 2, bytes: 14 });
        assert!(inbox.places.is_empty(), "as of one whose messages are kept");
        let over = vec![(bob.clone(), at(10)), (bob.clone(), at(15))];
        assert_eq!(inbox.acknowledged(15), Some(over));
        assert_eq!(inbox.dropped_of(&bob), Amount { items: 1, bytes: 7 });
        // Told late, it is over at once, and goes with the next.
        inbox.stored(&bob, 5, Put::Dropped(at(15)));
        assert_eq!(inbox.acknowledged(30), Some(vec![(bob.clone(), at(15)), (bob, at(21))]));
        assert!(inbox.dropped.is_empty() && inbox.stored.is_empty());
    }
}
