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
use crate::reach::{Brought, bring};

/// Between two that one is told of another, from whichever device or link they come.
const PACE: Duration = Duration::from_secs(2);
/// Whom one tells within that time: further ones are told nothing.
const TOLD_BY_ONE_MAX: usize = 16;
/// Who has told anybody within that time, of all domains: of further ones nothing is told, unless another
/// domain has more of these.
const WRITERS_MAX: usize = 4_096;

/// When who may tell whom again, by the domain of who tells.
#[derive(Debug, Default)]
pub(super) struct Paces {
    of: HashMap<String, Writers>,
    /// How many there are of all domains.
    len: usize,
}

/// Whom each one has told, and when that may be again.
type Writers = HashMap<Address, Vec<(Address, Timestamp)>>;

impl Paces {
    /// Whether one may tell another now, and then not for a while.
    fn may(&mut self, now: Timestamp, from: &Address, to: &Address) -> bool {
        if !self.has_place(now, from) {
            return false;
        }
        let writers = self.of.entry(from.domain_str().to_owned()).or_default();
        let before = writers.len();
        let told = writers.entry(from.clone()).or_default();
        told.retain(|(_, rests)| *rests > now);
        let may = told.len() < TOLD_BY_ONE_MAX && told.iter().all(|(who, _)| who != to);
        if may {
            told.push((to.clone(), now.after(PACE)));
        }
        self.len += writers.len() - before;
        may
    }

    /// Whether one is among those who tell, or there is room for one more of that domain.
    fn has_place(&mut self, now: Timestamp, from: &Address) -> bool {
        let domain = from.domain_str();
        if self.len < WRITERS_MAX || self.of.get(domain).is_some_and(|all| all.contains_key(from)) {
            return true;
        }
        self.rest(now);
        if self.len < WRITERS_MAX {
            return true;
        }
        let own = self.of.get(domain).map_or(0, HashMap::len);
        let most = self.of.values_mut().max_by_key(|all| all.len());
        let Some(most) = most.filter(|most| most.len() > own + 1) else { return false };
        // Any of them may tell again a little too soon.
        let Some(one) = most.keys().next().cloned() else { return false };
        most.remove(&one);
        self.len -= 1;
        true
    }

    /// Who has told nobody for a while has no place.
    fn rest(&mut self, now: Timestamp) {
        self.of.retain(|_, all| {
            all.retain(|_, told| told.iter().any(|(_, rests)| *rests > now));
            !all.is_empty()
        });
        self.len = self.of.values().map(HashMap::len).sum();
    }
}

/// Word that an owner writes to somebody.
struct Types<'a> {
    marks: &'a Marks,
    owner: &'a Address,
    to: &'a Address,
}

impl Brought for Types<'_> {
    type Outcome = ();

    async fn here(self) {
        self.marks.typed_to(self.owner, self.to, TYPING).await;
    }

    async fn elsewhere(self) {
        let content = Some(state::encode(&Typing { from: self.owner.clone(), lasts: TYPING }));
        let publish = Publish::of(self.to.clone(), What::Typing, content);
        self.marks.ask_beyond(self.owner, publish);
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
        bring(&self.routes, owner, to, Types { marks: self, owner, to }).await;
        Ok(())
    }

    /// Somebody of another domain writes to one of ours. It is told no oftener than of somebody here: their
    /// server need not keep the pace.
    pub async fn typed_beyond(&self, from: &Address, to: &Address, lasts: Duration) {
        if self.typed_beyond.lock().may(self.clock.now(), from, to) {
            self.typed_to(from, to, lasts).await;
        }
    }

    /// Somebody writes to one of ours, if that one takes messages from there. Whatever comes of it is nothing to
    /// whoever says so.
    async fn typed_to(&self, from: &Address, to: &Address, lasts: Duration) {
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
    fn d_4_one_tells_another_once_in_a_while_and_few_at_once() {
        let who = |n: usize| Address::parse(&format!("u{n}@a.example")).unwrap();
        let at = |seconds: u64| Timestamp::from_millis(seconds * 1000);
        let mut paces = Paces::default();
        assert!(paces.may(at(1), &who(0), &who(1)));
        assert!(!paces.may(at(2), &who(0), &who(1)));
        assert!(paces.may(at(2), &who(1), &who(0)) && paces.may(at(3), &who(0), &who(1)));
        // One who tells very many leaves others their places.
        let told = (0..1000).filter(|n| paces.may(at(10), &who(0), &who(*n))).count();
        assert_eq!(told, TOLD_BY_ONE_MAX);
        assert!(paces.may(at(10), &who(1), &who(0)) && !paces.may(at(11), &who(0), &who(999)));
        assert!(paces.may(at(12), &who(0), &who(999)));
        assert_eq!(paces.of["a.example"][&who(0)].len(), 1);
        for n in 0..WRITERS_MAX {
            paces.may(at(20), &who(n), &who(n + 1));
        }
        assert!(!paces.may(at(21), &who(WRITERS_MAX), &who(9)));
        assert!(paces.may(at(22), &who(WRITERS_MAX), &who(9)) && paces.len == 1);
    }

    #[test]
    fn f13_a_domain_with_very_many_writers_leaves_others_their_places() {
        let at = Timestamp::from_millis(1000);
        let who = |n: usize, of: &str| Address::parse(&format!("u{n}@{of}.example")).unwrap();
        let (mut paces, to) = (Paces::default(), who(0, "a"));
        let may = |paces: &mut Paces, of: &str, upto: usize| {
            (0..upto).filter(|n| paces.may(at, &who(*n, of), &to)).count()
        };
        assert_eq!(may(&mut paces, "evil", 2 * WRITERS_MAX), WRITERS_MAX);
        // As many as it has left, by and by; and whoever was told is not told again so soon.
        assert_eq!(may(&mut paces, "b", WRITERS_MAX), WRITERS_MAX / 2);
        assert_eq!(may(&mut paces, "c", WRITERS_MAX), WRITERS_MAX / 3);
        assert_eq!(may(&mut paces, "c", WRITERS_MAX / 3), 0);
        assert_eq!(paces.len, WRITERS_MAX);
        assert_eq!(paces.of.values().map(HashMap::len).sum::<usize>(), WRITERS_MAX);
    }
}
