//! How many messages are held for an owner's decision, of each sender, and of whom they are just being
//! moved into the inbox: until the last one is there, whatever else comes from that sender waits
//! behind it.
//!
//! What is held is in the store.

use impp_protocol::Address;
use impp_protocol::hashing::HashMap;

/// See the module. Those on the way to being held count too.
#[derive(Debug, Default)]
pub struct HeldMessages {
    total: u64,
    senders: HashMap<Address, Sender>,
}

#[derive(Debug, Default)]
struct Sender {
    held: u64,
    /// How many decisions are just carried out.
    moving: u64,
}

impl HeldMessages {
    /// One more of a sender, if there are not `max` already.
    pub fn hold(&mut self, from: &Address, max: u64) -> bool {
        let fits = self.total < max;
        if fits {
            self.add(from);
        }
        fits
    }

    /// One more that is held already.
    pub(super) fn add(&mut self, from: &Address) {
        self.total += 1;
        self.senders.entry(from.clone()).or_default().held += 1;
    }

    /// One less.
    pub fn one_less(&mut self, from: &Address) {
        let Some(sender) = self.senders.get_mut(from) else { return };
        if sender.held > 0 {
            sender.held -= 1;
            self.total -= 1;
        }
        self.tidy(from);
    }

    /// Whether anything of a sender is held, or on the way to it.
    pub fn has(&self, from: &Address) -> bool {
        self.senders.get(from).is_some_and(|sender| sender.held > 0)
    }

    /// Whether what comes from a sender has to wait behind what is being moved.
    pub fn is_moving(&self, from: &Address) -> bool {
        self.senders.get(from).is_some_and(|sender| sender.moving > 0)
    }

    /// From now on what is held of a sender is moved, until [`HeldMessages::moved`] says so, or
    /// [`HeldMessages::stop_moving`] is called.
    pub fn begin_moving(&mut self, from: &Address) {
        self.senders.entry(from.clone()).or_default().moving += 1;
    }

    /// Whether all is moved; then nothing has to wait behind it any more.
    pub fn moved(&mut self, from: &Address) -> bool {
        let all = self.senders.get(from).is_none_or(|sender| sender.held == 0);
        if all {
            self.stop_moving(from);
        }
        all
    }

    /// What is left stays held.
    pub fn stop_moving(&mut self, from: &Address) {
        if let Some(sender) = self.senders.get_mut(from) {
            sender.moving = sender.moving.saturating_sub(1);
        }
        self.tidy(from);
    }

    fn tidy(&mut self, from: &Address) {
        if self.senders.get(from).is_some_and(|sender| sender.held == 0 && sender.moving == 0) {
            self.senders.remove(from);
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn what_comes_while_held_ones_are_moved_waits_until_the_last_is() {
        let (mut held, bob) = (HeldMessages::default(), Address::parse("bob@a.example").unwrap());
        assert!(held.hold(&bob, 2) && held.hold(&bob, 2) && !held.hold(&bob, 2));
        assert!(!held.is_moving(&bob) && held.has(&bob));
        held.begin_moving(&bob);
        held.one_less(&bob);
        assert!(held.is_moving(&bob) && !held.moved(&bob) && held.is_moving(&bob));
        held.one_less(&bob);
        assert!(held.moved(&bob) && !held.is_moving(&bob) && !held.has(&bob));
        assert!(held.senders.is_empty() && held.total == 0);
    }
}
