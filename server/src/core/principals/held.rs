//! How many messages are held for an owner's decision, of each sender, and of whom they are just being
//! moved into the inbox: until the last one is there, whatever else comes from that sender waits
//! behind it.
//!
//! What is held is in the store.

use impp_presence::places::{Amount, Asker, Places};
use impp_protocol::Address;
use impp_protocol::hashing::HashMap;

/// See the module. Those on the way to being held count too.
#[derive(Debug, Default)]
pub struct HeldMessages {
    places: Places,
    /// How many decisions about each sender are just carried out.
    moving: HashMap<Address, u64>,
}

impl HeldMessages {
    /// One more of a sender, if there is room among `max`.
    pub fn hold(&mut self, from: Asker<'_>, max: u64) -> bool {
        self.places.take(from, 0, Amount::items(max))
    }

    /// One more that is held already.
    pub(super) fn add(&mut self, from: Asker<'_>) {
        self.places.put(from, 0);
    }

    /// One less.
    pub fn one_less(&mut self, from: &Address) {
        self.places.give_back(from, 0);
    }

    /// Whether anything of a sender is held, or on the way to it.
    pub fn has(&self, from: &Address) -> bool {
        self.places.of(from).items > 0
    }

    /// Whether what comes from a sender has to wait behind what is being moved.
    pub fn is_moving(&self, from: &Address) -> bool {
        self.moving.contains_key(from)
    }

    /// From now on what is held of a sender is moved, until [`HeldMessages::moved`] says so, or
    /// [`HeldMessages::stop_moving`] is called.
    pub fn begin_moving(&mut self, from: &Address) {
        *self.moving.entry(from.clone()).or_default() += 1;
    }

    /// Whether all is moved; then nothing has to wait behind it any more.
    pub fn moved(&mut self, from: &Address) -> bool {
        let all = !self.has(from);
        if all {
            self.stop_moving(from);
        }
        all
    }

    /// What is left stays held.
    pub fn stop_moving(&mut self, from: &Address) {
        let Some(moving) = self.moving.get_mut(from) else { return };
        *moving = moving.saturating_sub(1);
        if *moving == 0 {
            self.moving.remove(from);
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn what_comes_while_held_ones_are_moved_waits_until_the_last_is() {
        let (mut held, bob) = (HeldMessages::default(), Address::parse("bob@a.example").unwrap());
        let asker = Asker::of(&bob, &bob, false);
        assert!(held.hold(asker, 2) && held.hold(asker, 2) && !held.hold(asker, 2));
        assert!(!held.is_moving(&bob) && held.has(&bob));
        held.begin_moving(&bob);
        held.one_less(&bob);
        assert!(held.is_moving(&bob) && !held.moved(&bob) && held.is_moving(&bob));
        held.one_less(&bob);
        assert!(held.moved(&bob) && !held.is_moving(&bob) && !held.has(&bob));
        assert!(held.places.is_empty() && held.moving.is_empty());
    }
}
