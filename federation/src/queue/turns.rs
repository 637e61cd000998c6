//! Whose turn it is: senders take turns, and each sender's recipients take turns.
//!
//! Whether a pair has anything to send is the queue's to know.

use std::collections::VecDeque;

use impp_protocol::Address;
use impp_protocol::hashing::{HashMap, HashSet};

use super::Pair;

/// Pairs that have something to send, each once.
#[derive(Debug, Default)]
pub(super) struct Turns {
    senders: VecDeque<Address>,
    recipients: HashMap<Address, VecDeque<Address>>,
    there: HashSet<Pair>,
}

impl Turns {
    /// Whether nobody has anything to send.
    pub(super) fn is_empty(&self) -> bool {
        self.there.is_empty()
    }

    /// The pair has something to send.
    pub(super) fn add(&mut self, pair: &Pair) {
        if !self.there.insert(pair.clone()) {
            return;
        }
        let recipients = self.recipients.entry(pair.0.clone()).or_default();
        if recipients.is_empty() {
            self.senders.push_back(pair.0.clone());
        }
        recipients.push_back(pair.1.clone());
    }

    /// The pair has nothing to send any more.
    pub(super) fn remove(&mut self, pair: &Pair) {
        if self.there.remove(pair)
            && let Some(recipients) = self.recipients.get_mut(&pair.0)
        {
            recipients.retain(|to| *to != pair.1);
            if recipients.is_empty() {
                self.recipients.remove(&pair.0);
                self.senders.retain(|from| *from != pair.0);
            }
        }
    }

    /// Takes the pair whose turn it is.
    pub(super) fn next(&mut self) -> Option<Pair> {
        let from = self.senders.pop_front()?;
        let recipients = self.recipients.get_mut(&from)?;
        let to = recipients.pop_front()?;
        if recipients.is_empty() {
            self.recipients.remove(&from);
        } else {
            self.senders.push_back(from.clone());
        }
        let pair = (from, to);
        self.there.remove(&pair);
        Some(pair)
    }
}
