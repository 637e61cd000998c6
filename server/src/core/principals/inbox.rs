//! Whose messages are in an owner's inbox and not acknowledged: so each sender and each other domain has
//! its share of it.
//!
//! How full it is altogether the store counts. Counted here is what has come since the server runs: who
//! had the whole of a share at a restart has a new one.

use std::collections::BTreeMap;

use impp_presence::places::{Amount, Asker, Places};
use impp_protocol::Address;

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
    newest: u64,
    acknowledged: u64,
    told: u64,
}

/// One of them.
#[derive(Debug)]
struct One {
    from: Address,
    bytes: u64,
    /// Not kept, and what it would have taken.
    dropped: Option<u64>,
}

/// What has become of one that was on its way.
#[derive(Clone, Copy, Debug)]
pub enum Put {
    /// It is at this place in the log.
    At(u64),
    /// It was dropped, and would have taken so many bytes there.
    Dropped(u64),
}

impl InboxShares {
    /// One more is on its way to the disk, if its sender has room for it. Those that were dropped are
    /// in no inbox that could be full: of them there are as many again at most.
    pub fn take(&mut self, asker: Asker<'_>, bytes: u64, all: Amount) -> bool {
        let has_room = self.stored.len() as u64 <= all.items.saturating_mul(2);
        has_room && self.places.take_share(asker, bytes, all)
    }

    /// It is there, or dropped.
    pub fn stored(&mut self, from: &Address, bytes: u64, put: Put) {
        let behind = self.newest.max(self.acknowledged) + 1;
        let (seq, dropped) = match put {
            Put::At(seq) => (seq, None),
            Put::Dropped(size) => (behind, Some(size)),
        };
        if dropped.is_none() {
            self.newest = self.newest.max(seq);
        }
        if seq <= self.acknowledged {
            return self.places.give_back(from, bytes);
        }
        self.told += 1;
        if let Some(size) = dropped {
            self.dropped.put(Asker::of(from, from, false), size);
        }
        self.stored.insert((seq, self.told), One { from: from.clone(), bytes, dropped });
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
            self.places.give_back(&from, bytes);
        }
        true
    }

    /// A device has acknowledged all up to a place; whether more than any had before.
    pub fn acknowledged(&mut self, upto: u64) -> bool {
        if upto <= self.acknowledged {
            return false;
        }
        self.acknowledged = upto;
        while let Some(first) = self.stored.first_entry()
            && first.key().0 <= upto
        {
            let One { from, bytes, dropped } = first.remove();
            self.places.give_back(&from, bytes);
            if let Some(size) = dropped {
                self.dropped.give_back(&from, size);
            }
        }
        true
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
        inbox.stored(&bob, 5, Put::Dropped(7));
        inbox.acknowledged(110);
        assert_eq!(inbox.places.of(&bob).items, 1);
        assert_eq!(inbox.dropped_of(&bob), Amount { items: 1, bytes: 7 });
        inbox.acknowledged(120);
        assert!(inbox.places.is_empty() && inbox.dropped.is_empty());
    }
}
