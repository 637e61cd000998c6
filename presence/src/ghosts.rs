//! Addresses that do not exist and that another domain has asked for: which of them are kept.
//!
//! Each is a presentity with the rules of a new account whose owner never signs in, on the same path
//! and by the same counters as those who exist, so that nobody can tell them apart. All that there is
//! to say of them alone is here: there could be any number of them, and there are so many at most.

use std::collections::{BTreeMap, VecDeque};

use impp_protocol::hashing::HashMap;
use impp_protocol::{Address, Domain};

/// All together.
pub const GHOSTS_MAX: usize = 4096;
/// Of those, the ones that one domain has asked for first.
pub const GHOSTS_PER_DOMAIN_MAX: usize = 1024;

const _: () = assert!(GHOSTS_PER_DOMAIN_MAX < GHOSTS_MAX);

/// See the module.
#[derive(Debug, Default)]
pub struct Ghosts {
    known: HashMap<Address, Ghost>,
    /// By the domain that has asked for them first, which has the place: the oldest first.
    of: BTreeMap<Domain, VecDeque<Address>>,
}

#[derive(Debug)]
struct Ghost {
    asked_by: Domain,
    /// Something of it may be stored.
    noted: bool,
}

/// One that has made room: nothing is kept of it any more.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Gone {
    /// Which.
    pub address: Address,
    /// Whether something of it may be stored.
    pub noted: bool,
}

impl Ghosts {
    /// A domain asks for one. Where there is no more room the oldest goes: of that domain, or of the
    /// one that has most.
    pub fn ask(&mut self, ghost: &Address, asked_by: &Domain) -> Option<Gone> {
        if self.known.contains_key(ghost) {
            return None;
        }
        let gone = self.make_room(asked_by);
        let kept = Ghost { asked_by: asked_by.clone(), noted: false };
        self.known.insert(ghost.clone(), kept);
        self.of.entry(asked_by.clone()).or_default().push_back(ghost.clone());
        gone
    }

    /// Something of one is about to be stored: the domain that has its place, if it is known.
    pub fn note(&mut self, ghost: &Address) -> Option<&Domain> {
        let kept = self.known.get_mut(ghost)?;
        kept.noted = true;
        Some(&kept.asked_by)
    }

    /// Whether one is known.
    pub fn contains(&self, ghost: &Address) -> bool {
        self.known.contains_key(ghost)
    }

    /// It exists now.
    pub fn forget(&mut self, ghost: &Address) {
        let Some(kept) = self.known.remove(ghost) else { return };
        if let Some(of) = self.of.get_mut(&kept.asked_by) {
            of.retain(|other| other != ghost);
            if of.is_empty() {
                self.of.remove(&kept.asked_by);
            }
        }
    }

    fn make_room(&mut self, asked_by: &Domain) -> Option<Gone> {
        let own = self.of.get(asked_by).map_or(0, VecDeque::len);
        let oldest = if own >= GHOSTS_PER_DOMAIN_MAX {
            self.of.get(asked_by)?.front()?.clone()
        } else if self.known.len() >= GHOSTS_MAX {
            self.of.values().max_by_key(|of| of.len())?.front()?.clone()
        } else {
            return None;
        };
        let noted = self.known.get(&oldest).is_some_and(|ghost| ghost.noted);
        self.forget(&oldest);
        Some(Gone { address: oldest, noted })
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn ghost(index: usize) -> Address {
        format!("g{index}@a.example").parse().unwrap()
    }

    fn domain(index: usize) -> Domain {
        Domain::parse(&format!("d{index}.example")).unwrap()
    }

    #[test]
    fn f14_a_domain_has_room_for_so_many_and_loses_its_own_oldest() {
        let mut ghosts = Ghosts::default();
        let other = "other@a.example".parse().unwrap();
        assert_eq!(ghosts.ask(&other, &domain(2)), None);
        for index in 0..GHOSTS_PER_DOMAIN_MAX {
            assert_eq!(ghosts.ask(&ghost(index), &domain(1)), None);
            assert_eq!(ghosts.ask(&ghost(0), &domain(1)), None, "it is there");
        }
        assert_eq!(ghosts.note(&ghost(1)), Some(&domain(1)));
        for (next, noted) in [(0, false), (1, true)] {
            let gone = ghosts.ask(&ghost(GHOSTS_PER_DOMAIN_MAX + next), &domain(1));
            assert_eq!(gone, Some(Gone { address: ghost(next), noted }));
            assert!(!ghosts.contains(&ghost(next)) && ghosts.contains(&other));
        }
        ghosts.forget(&other);
        assert!(ghosts.note(&other).is_none() && !ghosts.of.contains_key(&domain(2)));
    }

    #[test]
    fn f14_of_all_of_them_there_are_so_many_and_who_has_most_makes_room() {
        let mut ghosts = Ghosts::default();
        for index in 0..GHOSTS_MAX {
            let of = if index < 900 { 0 } else { 1 + index % 7 };
            assert_eq!(ghosts.ask(&ghost(index), &domain(of)), None);
        }
        for next in 0..100 {
            let gone = ghosts.ask(&ghost(GHOSTS_MAX + next), &domain(100 + next));
            assert_eq!(gone.unwrap().address, ghost(next), "those of the one that has most");
            assert_eq!(ghosts.known.len(), GHOSTS_MAX);
            assert_eq!(ghosts.of.values().map(VecDeque::len).sum::<usize>(), GHOSTS_MAX);
        }
    }
}
