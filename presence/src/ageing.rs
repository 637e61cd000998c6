//! Those of whom word is kept for a while: by time, and by domain, so that where they are too many the
//! domain that has most makes room. Who invents addresses in one domain takes the places of that alone.
//!
//! What is kept of them is left to whoever keeps it.

use std::cmp::Reverse;
use std::collections::BTreeSet;
use std::time::Duration;

use impp_protocol::hashing::HashMap;
use impp_protocol::{Address, Domain, Timestamp};

/// So long word is kept: of who has looked since the last time, of a subscription since its end.
pub const WINDOW: Duration = Duration::from_secs(24 * 60 * 60);

/// Somebody, behind since when.
type Aged = (Timestamp, Address);

/// See the module.
#[derive(Debug, Default)]
pub(crate) struct Ageing {
    by_time: BTreeSet<Aged>,
    of: HashMap<Domain, BTreeSet<Aged>>,
    /// How many each domain has; of as many, the one that has the oldest stands last.
    ranks: BTreeSet<(usize, Reverse<Aged>)>,
}

impl Ageing {
    pub(crate) fn add(&mut self, since: Timestamp, who: &Address) {
        let aged = (since, who.clone());
        self.edit(&who.domain(), |own| own.insert(aged.clone()));
        self.by_time.insert(aged);
    }

    pub(crate) fn remove(&mut self, since: Timestamp, who: &Address) {
        let aged = (since, who.clone());
        self.edit(&who.domain(), |own| own.remove(&aged));
        self.by_time.remove(&aged);
    }

    pub(crate) fn len(&self) -> usize {
        self.by_time.len()
    }

    /// Whose time is over, the oldest first.
    pub(crate) fn over(&self, now: Timestamp) -> impl Iterator<Item = &Address> {
        let is_over = move |(since, _): &&Aged| since.after(WINDOW) <= now;
        self.by_time.iter().take_while(is_over).map(|(_, who)| who)
    }

    /// The oldest of the domain that has most.
    pub(crate) fn crowding(&self) -> Option<&Address> {
        self.ranks.last().map(|(_, Reverse((_, who)))| who)
    }

    fn edit(&mut self, domain: &Domain, act: impl FnOnce(&mut BTreeSet<Aged>) -> bool) {
        let own = self.of.entry(domain.clone()).or_default();
        let rank = |own: &BTreeSet<Aged>| Some((own.len(), Reverse(own.first()?.clone())));
        let before = rank(own);
        act(own);
        let after = rank(own);
        if before != after {
            if let Some(before) = before {
                self.ranks.remove(&before);
            }
            self.ranks.extend(after);
        }
        if own.is_empty() {
            self.of.remove(domain);
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn at(seconds: u64) -> Timestamp {
        Timestamp::from_millis(1_000_000_000_000 + seconds * 1000)
    }

    fn who(text: &str) -> Address {
        Address::parse(text).unwrap()
    }

    #[test]
    fn the_domain_that_has_most_makes_room_and_of_equal_ones_that_of_the_oldest() {
        let mut all = Ageing::default();
        for (second, text) in [(1, "a@x.example"), (2, "b@y.example"), (3, "c@y.example")] {
            all.add(at(second), &who(text));
        }
        let mut gone = Vec::new();
        while let Some(who) = all.crowding().cloned() {
            let since = all.by_time.iter().find(|(_, other)| *other == who).unwrap().0;
            all.remove(since, &who);
            gone.push(who.to_string());
        }
        assert_eq!(gone, ["b@y.example", "a@x.example", "c@y.example"]);
        assert!(all.len() == 0 && all.of.is_empty() && all.ranks.is_empty());
    }
}
