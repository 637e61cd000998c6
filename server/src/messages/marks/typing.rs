//! Who writes to whom just now: told to who follows it and may be told, and kept nowhere.

use std::time::Duration;

use impp_acl::{DeliveryAction, Watcher};
use impp_protocol::command::Publish;
use impp_protocol::hashing::HashMap;
use impp_protocol::state::{self, TYPING, Typing};
use impp_protocol::{Address, Timestamp, What};
use impp_storage::StoreError;

use super::Marks;
use crate::core::principals::Principal;

/// Between two that one is told of another.
const PACE: Duration = Duration::from_secs(2);
/// Pairs of which one has told the other within that time: of further ones nothing is told.
const PAIRS_MAX: usize = 4_096;

/// When who may tell whom again.
#[derive(Debug, Default)]
pub(super) struct Paces(HashMap<(Address, Address), Timestamp>);

impl Paces {
    /// Whether one may tell another now, and then not for a while.
    fn may(&mut self, now: Timestamp, from: &Address, to: &Address) -> bool {
        let pair = (from.clone(), to.clone());
        if self.0.len() >= PAIRS_MAX {
            self.0.retain(|_, rests| *rests > now);
        }
        let rests = self.0.get(&pair).is_some_and(|rests| *rests > now);
        if rests || (self.0.len() >= PAIRS_MAX && !self.0.contains_key(&pair)) {
            return false;
        }
        self.0.insert(pair, now.after(PACE));
        true
    }
}

impl Marks {
    /// An owner writes to somebody, who is told if the owner's rules let them be.
    ///
    /// # Errors
    /// [`StoreError`].
    pub async fn types(&self, owner: &Address, to: &Address) -> Result<(), StoreError> {
        if !self.granted(owner, to).await?.typing {
            return Ok(());
        }
        if !self.typed.lock().may(self.clock.now(), owner, to) {
            return Ok(());
        }
        if self.accounts.is_local(to) {
            self.typed_to(owner, to, TYPING).await;
            return Ok(());
        }
        let content = Some(state::encode(&Typing { from: owner.clone(), lasts: TYPING }));
        let publish = Publish::of(to.clone(), What::Typing, content);
        self.ask_beyond(owner, publish);
        Ok(())
    }

    /// Somebody writes to one of ours, if that one takes messages from there. Whatever comes of it is nothing to
    /// whoever says so.
    pub async fn typed_to(&self, from: &Address, to: &Address, lasts: Duration) {
        let sessions = self.sessions.of(to);
        if sessions.is_empty() {
            return;
        }
        let sender = Watcher::Principal(from.clone());
        let takes = |principal: &mut Principal, now| principal.presentity.delivery(now, &sender).0;
        if self.principals.look(to, takes).await.ok() == Some(DeliveryAction::Accept) {
            let until = self.clock.now().after(lasts.min(TYPING));
            sessions.iter().for_each(|mailbox| mailbox.types(from, until));
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn d_4_one_tells_another_once_in_a_while_and_pairs_are_bounded() {
        let who = |n: usize| Address::parse(&format!("u{n}@a.example")).unwrap();
        let at = |seconds: u64| Timestamp::from_millis(seconds * 1000);
        let mut paces = Paces::default();
        assert!(paces.may(at(1), &who(0), &who(1)));
        assert!(!paces.may(at(2), &who(0), &who(1)));
        assert!(paces.may(at(2), &who(1), &who(0)) && paces.may(at(3), &who(0), &who(1)));
        for n in 0..PAIRS_MAX {
            paces.may(at(10), &who(n), &who(n + 1));
        }
        assert!(!paces.may(at(11), &who(0), &who(9)));
        assert!(paces.may(at(12), &who(0), &who(9)) && paces.0.len() <= PAIRS_MAX);
    }
}
