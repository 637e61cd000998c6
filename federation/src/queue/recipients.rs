//! How many messages are out to each recipient, and which pairs wait for a place there.
//!
//! What a pair sends when it has one is left to the queue.

use std::collections::VecDeque;

use impp_protocol::Address;
use impp_protocol::hashing::{HashMap, HashSet};

use super::{PER_RECIPIENT_MAX, Pair};

/// See the module.
#[derive(Debug, Default)]
pub(super) struct Recipients {
    out_to: HashMap<Address, usize>,
    /// To all of them.
    out: usize,
    /// Pairs that wait for their recipient to have fewer messages out, the first to come first.
    crowds: HashMap<Address, VecDeque<Pair>>,
    waiting: HashSet<Pair>,
}

impl Recipients {
    /// How many messages are out.
    pub(super) fn out(&self) -> usize {
        self.out
    }

    /// Whether one more may be out to this one.
    pub(super) fn has_place(&self, to: &Address) -> bool {
        self.out_to.get(to).is_none_or(|out| *out < PER_RECIPIENT_MAX)
    }

    /// A message goes out.
    pub(super) fn goes(&mut self, to: &Address) {
        self.out += 1;
        *self.out_to.entry(to.clone()).or_default() += 1;
    }

    /// One that was out is not any more.
    pub(super) fn came_back(&mut self, to: &Address) {
        self.out -= 1;
        if let Some(out) = self.out_to.get_mut(to) {
            *out -= 1;
            if *out == 0 {
                self.out_to.remove(to);
            }
        }
    }

    /// The pair waits for a place.
    pub(super) fn wait(&mut self, pair: Pair) {
        self.waiting.insert(pair.clone());
        self.crowds.entry(pair.1.clone()).or_default().push_back(pair);
    }

    /// Whether the pair waits for a place.
    pub(super) fn waits(&self, pair: &Pair) -> bool {
        self.waiting.contains(pair)
    }

    /// Takes the pair that has waited longest for a place with this recipient.
    pub(super) fn next(&mut self, to: &Address) -> Option<Pair> {
        let crowd = self.crowds.get_mut(to)?;
        let next = crowd.pop_front();
        if crowd.is_empty() {
            self.crowds.remove(to);
        }
        let next = next?;
        self.waiting.remove(&next);
        Some(next)
    }
}
