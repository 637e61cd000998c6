//! Addresses at which another domain waits, existing or not: which of them are kept.
//!
//! One that does not exist is a presentity with the rules of a new account whose owner never signs in,
//! on the same path and by the same counters as those who exist, so that nobody can tell them apart.
//! There could be any number of those, so there are so many at most; and as that may tell nothing
//! either, an account at which a domain waits for the owner has its place among them.

use std::collections::{BTreeMap, VecDeque};

use impp_protocol::hashing::HashMap;
use impp_protocol::{Address, Domain};

/// All together, those at which two domains wait twice.
pub const GHOSTS_MAX: usize = 16_384;
/// Of those, the ones at which one domain waits.
pub const GHOSTS_PER_DOMAIN_MAX: usize = 4096;

const _: () = assert!(GHOSTS_PER_DOMAIN_MAX < GHOSTS_MAX);

/// See the module.
#[derive(Debug, Default)]
pub struct Ghosts {
    /// By address: who waits there, and whether something of that may be stored.
    known: HashMap<Address, BTreeMap<Domain, bool>>,
    /// By the domain that waits, the one asked for first in front.
    of: BTreeMap<Domain, VecDeque<Address>>,
    len: usize,
}

/// One that has made room: its domain does not wait there any more.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Gone {
    /// Where.
    pub address: Address,
    /// Who.
    pub asked_by: Domain,
    /// Whether something of it may be stored.
    pub noted: bool,
}

impl Ghosts {
    /// A domain waits there from now on. Where there is no more room the oldest goes: of that domain,
    /// or of the one that has most.
    pub fn ask(&mut self, address: &Address, asked_by: &Domain) -> Option<Gone> {
        if self.waits(address, asked_by) {
            return None;
        }
        let gone = self.make_room(asked_by);
        self.known.entry(address.clone()).or_default().insert(asked_by.clone(), false);
        self.of.entry(asked_by.clone()).or_default().push_back(address.clone());
        self.len += 1;
        gone
    }

    /// Something of one is about to be stored; whether it has a place.
    pub fn note(&mut self, address: &Address, asked_by: &Domain) -> bool {
        let noted = self.known.get_mut(address).and_then(|by| by.get_mut(asked_by));
        noted.map(|noted| *noted = true).is_some()
    }

    /// Whether a domain waits there.
    pub fn waits(&self, address: &Address, asked_by: &Domain) -> bool {
        self.known.get(address).is_some_and(|by| by.contains_key(asked_by))
    }

    /// Whether any does.
    pub fn contains(&self, address: &Address) -> bool {
        self.known.contains_key(address)
    }

    fn make_room(&mut self, asked_by: &Domain) -> Option<Gone> {
        let own = self.of.get(asked_by).map_or(0, VecDeque::len);
        let of = if own >= GHOSTS_PER_DOMAIN_MAX {
            asked_by.clone()
        } else if self.len >= GHOSTS_MAX {
            self.of.iter().max_by_key(|(_, of)| of.len())?.0.clone()
        } else {
            return None;
        };
        let waits = self.of.get_mut(&of)?;
        let address = waits.pop_front()?;
        if waits.is_empty() {
            self.of.remove(&of);
        }
        self.len -= 1;
        let by = self.known.get_mut(&address)?;
        let noted = by.remove(&of).unwrap_or_default();
        if by.is_empty() {
            self.known.remove(&address);
        }
        Some(Gone { address, asked_by: of, noted })
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
        // Another domain waits there too, and goes on.
        assert_eq!(ghosts.ask(&ghost(0), &domain(2)), None);
        for index in 0..GHOSTS_PER_DOMAIN_MAX {
            assert_eq!(ghosts.ask(&ghost(index), &domain(1)), None);
            assert_eq!(ghosts.ask(&ghost(0), &domain(1)), None, "it is there");
        }
        assert!(ghosts.note(&ghost(1), &domain(1)) && !ghosts.note(&ghost(1), &domain(2)));
        for (next, noted) in [(0, false), (1, true)] {
            let gone = ghosts.ask(&ghost(GHOSTS_PER_DOMAIN_MAX + next), &domain(1));
            let (address, asked_by) = (ghost(next), domain(1));
            assert_eq!(gone, Some(Gone { address, asked_by, noted }));
            assert!(!ghosts.waits(&ghost(next), &domain(1)));
        }
        assert!(ghosts.waits(&ghost(0), &domain(2)) && !ghosts.contains(&ghost(1)));
    }

    #[test]
    fn f14_of_all_of_them_there_are_so_many_and_who_has_most_makes_room() {
        let mut ghosts = Ghosts::default();
        for index in 0..GHOSTS_MAX {
            let of = if index < 4000 { 0 } else { 1 + index % 7 };
            assert_eq!(ghosts.ask(&ghost(index), &domain(of)), None);
        }
        for next in 0..100 {
            let gone = ghosts.ask(&ghost(GHOSTS_MAX + next), &domain(100 + next));
            assert_eq!(gone.unwrap().address, ghost(next), "those of the one that has most");
            assert_eq!((ghosts.known.len(), ghosts.len), (GHOSTS_MAX, GHOSTS_MAX));
            assert_eq!(ghosts.of.values().map(VecDeque::len).sum::<usize>(), GHOSTS_MAX);
        }
    }
}
