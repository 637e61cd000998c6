//! How many messages are held for an owner's decision, of each sender, and of whom they are just being
//! moved into the inbox: until the last one is there, whatever else comes from that sender waits
//! behind it.
//!
//! What is held is in the store.

use std::sync::Arc;

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
    /// Decisions that are just carried out have each a share in it.
    moving: Arc<()>,
}

impl Sender {
    fn is_moving(&self) -> bool {
        Arc::strong_count(&self.moving) > 1
    }
}

/// What is held of a sender is being moved, as long as this lives: however its task ends, nothing waits
/// behind it for ever.
#[derive(Debug)]
#[must_use]
pub struct Moving(#[expect(dead_code, reason = "it is counted")] Arc<()>);

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
        self.senders.get(from).is_some_and(Sender::is_moving)
    }

    /// From now on what is held of a sender is moved, until [`HeldMessages::moved`] says that it is, or
    /// this is dropped: what is left stays held then.
    pub fn begin_moving(&mut self, from: &Address) -> Moving {
        Moving(self.senders.entry(from.clone()).or_default().moving.clone())
    }

    /// Whether all is moved; then nothing has to wait behind it any more. Else it goes on.
    ///
    /// # Errors
    /// Not all of it is.
    pub fn moved(&mut self, from: &Address, moving: Moving) -> Result<(), Moving> {
        if self.has(from) {
            return Err(moving);
        }
        drop(moving);
        self.tidy(from);
        Ok(())
    }

    fn tidy(&mut self, from: &Address) {
        if self.senders.get(from).is_some_and(|sender| sender.held == 0 && !sender.is_moving()) {
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
        let moving = held.begin_moving(&bob);
        held.one_less(&bob);
        let moving = held.moved(&bob, moving).unwrap_err();
        assert!(held.is_moving(&bob));
        held.one_less(&bob);
        held.moved(&bob, moving).unwrap();
        assert!(!held.is_moving(&bob) && !held.has(&bob));
        assert!(held.senders.is_empty() && held.total == 0);
    }

    #[test]
    fn nothing_waits_behind_a_task_that_has_failed() {
        let (mut held, bob) = (HeldMessages::default(), Address::parse("bob@a.example").unwrap());
        assert!(held.hold(&bob, 1));
        let (first, second) = (held.begin_moving(&bob), held.begin_moving(&bob));
        let task = std::thread::spawn(move || {
            let _moving = first;
            std::panic::resume_unwind(Box::new("it fails"));
        });
        assert!(task.join().is_err() && held.is_moving(&bob));
        drop(second);
        assert!(!held.is_moving(&bob) && held.has(&bob));
    }
}
