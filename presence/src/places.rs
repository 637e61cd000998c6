//! Places of an owner that others take: who has how many of them, so that no sender and no other domain
//! has all, and the last ones are for those whom the owner knows.
//!
//! What a place is, and when it comes back, is the caller's.

use impp_protocol::Address;
use impp_protocol::hashing::HashMap;

/// An amount of what takes places.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub struct Amount {
    /// How many.
    pub items: u64,
    /// Their bytes.
    pub bytes: u64,
}

/// Who asks for a place.
#[derive(Clone, Copy, Debug)]
pub struct Asker<'a> {
    /// Whose address it is.
    pub who: &'a Address,
    /// Whether it is of another domain than the owner.
    pub elsewhere: bool,
    /// Whether the owner has it among the contacts.
    pub known: bool,
}

impl<'a> Asker<'a> {
    /// Of an owner with these contacts.
    pub fn of(owner: &Address, who: &'a Address, known: bool) -> Asker<'a> {
        Asker { who, elsewhere: who.domain_str() != owner.domain_str(), known }
    }

    /// Of so much, what may be taken by all before this one is told that it is full: the last part is
    /// for those of the owner's domain and contacts.
    pub fn of_all(&self, all: Amount) -> Amount {
        match self.elsewhere && !self.known {
            true => all.but(RESERVE_PART),
            false => all,
        }
    }
}

/// See the module.
#[derive(Debug, Default)]
pub struct Places {
    total: Amount,
    senders: HashMap<Address, Amount>,
    /// Other domains.
    domains: HashMap<String, Amount>,
}

impl Places {
    /// One more, if it has room among `all`.
    pub fn take(&mut self, asker: Asker<'_>, bytes: u64, all: Amount) -> bool {
        self.total.with(bytes).is_within(asker.of_all(all)) && self.take_share(asker, bytes, all)
    }

    /// The same, where all that there is is counted elsewhere.
    pub fn take_share(&mut self, asker: Asker<'_>, bytes: u64, all: Amount) -> bool {
        let Asker { who, elsewhere, .. } = asker;
        let fits = self.of(who).with(bytes).is_within(all.part(SENDER_PART))
            && (!elsewhere || self.of_domain(who).with(bytes).is_within(all.part(DOMAIN_PART)));
        if fits {
            self.put(asker, bytes);
        }
        fits
    }

    /// One that is there already.
    pub fn put(&mut self, asker: Asker<'_>, bytes: u64) {
        self.total = self.total.with(bytes);
        let of = self.senders.entry(asker.who.clone()).or_default();
        *of = of.with(bytes);
        if asker.elsewhere {
            let of = self.domains.entry(asker.who.domain_str().to_owned()).or_default();
            *of = of.with(bytes);
        }
    }

    /// One less.
    pub fn give_back(&mut self, who: &Address, bytes: u64) {
        let Some(of) = self.senders.get_mut(who) else { return };
        *of = of.without(bytes);
        if of.items == 0 {
            self.senders.remove(who);
        }
        self.total = self.total.without(bytes);
        if let Some(of) = self.domains.get_mut(who.domain_str()) {
            *of = of.without(bytes);
            if of.items == 0 {
                self.domains.remove(who.domain_str());
            }
        }
    }

    /// What one has.
    pub fn of(&self, who: &Address) -> Amount {
        self.senders.get(who).copied().unwrap_or_default()
    }

    /// Whether nobody has any.
    pub fn is_empty(&self) -> bool {
        self.total.items == 0
    }

    fn of_domain(&self, who: &Address) -> Amount {
        self.domains.get(who.domain_str()).copied().unwrap_or_default()
    }
}

impl Amount {
    /// So many, of whatever size.
    pub fn items(items: u64) -> Amount {
        Amount { items, bytes: u64::MAX }
    }

    /// So much, less what is taken otherwise.
    #[must_use]
    pub fn less(self, taken: Amount) -> Amount {
        let items = self.items.saturating_sub(taken.items);
        Amount { items, bytes: self.bytes.saturating_sub(taken.bytes) }
    }

    /// One part in so many, unless that is too little to be of use.
    fn part(self, of: u64) -> Amount {
        let part = |all: u64, least: u64| (all / of).max(least).min(all);
        Amount { items: part(self.items, ITEMS_MIN), bytes: part(self.bytes, BYTES_MIN) }
    }

    /// All but one part in so many.
    fn but(self, of: u64) -> Amount {
        let but = |all: u64, least: u64| (all - all / of).max(least).min(all);
        Amount { items: but(self.items, ITEMS_MIN), bytes: but(self.bytes, BYTES_MIN) }
    }

    fn with(self, bytes: u64) -> Amount {
        Amount { items: self.items + 1, bytes: self.bytes.saturating_add(bytes) }
    }

    fn without(self, bytes: u64) -> Amount {
        let (items, bytes) = (self.items.saturating_sub(1), self.bytes.saturating_sub(bytes));
        Amount { items, bytes }
    }

    fn is_within(self, most: Amount) -> bool {
        self.items <= most.items && self.bytes <= most.bytes
    }
}

/// One sender has at most one part in so many of all places,
const SENDER_PART: u64 = 4;
/// all of one other domain together at most this,
const DOMAIN_PART: u64 = 2;
/// and one part in so many is kept from strangers of other domains.
const RESERVE_PART: u64 = 4;
/// Places that are no more than these are not shared out.
const ITEMS_MIN: u64 = 8;
/// The same of bytes: some of the largest messages.
const BYTES_MIN: u64 = 256 * 1024;

#[cfg(test)]
mod tests {
    use proptest::prelude::*;

    use super::*;

    fn address(text: &str) -> Address {
        Address::parse(text).unwrap()
    }

    fn take(places: &mut Places, who: &Address, known: bool, all: u64) -> bool {
        places.take(Asker::of(&address("o@a.example"), who, known), 1, Amount::items(all))
    }

    fn fill(places: &mut Places, who: &str, known: bool) -> usize {
        let who = address(who);
        (0..1000).filter(|_| take(places, &who, known, 200)).count()
    }

    #[test]
    fn e8_a_sender_a_domain_and_strangers_have_their_share() {
        let mut places = Places::default();
        assert_eq!(fill(&mut places, "m@evil.example", false), 50);
        assert_eq!(fill(&mut places, "n@evil.example", false), 50);
        assert_eq!(fill(&mut places, "o@evil.example", false), 0, "of its domain's");
        assert_eq!(fill(&mut places, "m@other.example", false), 50);
        assert_eq!(fill(&mut places, "x@third.example", false), 0, "the rest is for others");
        assert_eq!(fill(&mut places, "friend@third.example", true), 50);
        assert_eq!(fill(&mut places, "colleague@a.example", false), 0, "all of it is taken");
        places.give_back(&address("m@evil.example"), 1);
        assert_eq!(fill(&mut places, "colleague@a.example", false), 1);
    }

    #[test]
    fn few_places_are_not_shared_out_and_bytes_count_too() {
        let (mut places, who) = (Places::default(), address("m@evil.example"));
        assert_eq!((0..9).filter(|_| take(&mut places, &who, false, 3)).count(), 3);
        let (mut places, all) = (Places::default(), Amount { items: 1000, bytes: 4 << 20 });
        let asker = Asker { who: &who, elsewhere: true, known: false };
        assert_eq!((0..100).filter(|_| places.take(asker, 100_000, all)).count(), 10);
    }

    proptest! {
        /// Whatever is taken and given back: the counts are those of what is held, and nobody has more
        /// than a share.
        #[test]
        fn e8_what_is_counted_is_what_is_held(
            steps in prop::collection::vec((0..6_usize, any::<bool>(), 1..100_u64), 0..300),
        ) {
            const ALL: u64 = 40;
            let names = ["a@a.example", "b@a.example", "a@b.example", "b@b.example",
                "a@c.example", "b@c.example"].map(address);
            let (mut places, mut held) = (Places::default(), Vec::<(usize, u64)>::new());
            for (n, takes, bytes) in steps {
                let asker = Asker::of(&names[0], &names[n], n == 4);
                if takes && places.take(asker, bytes, Amount::items(ALL)) {
                    held.push((n, bytes));
                } else if !takes && !held.is_empty() {
                    let (n, bytes) = held.swap_remove(n % held.len());
                    places.give_back(&names[n], bytes);
                }
                for (n, name) in names.iter().enumerate() {
                    let own = held.iter().filter(|(of, _)| *of == n);
                    let items = own.clone().count() as u64;
                    prop_assert_eq!(places.of(name), Amount { items, bytes: own.map(|o| o.1).sum() });
                    prop_assert!(items <= ALL / SENDER_PART);
                }
                prop_assert_eq!(places.total.items, held.len() as u64);
                prop_assert!(places.total.items <= ALL);
            }
            while let Some((n, bytes)) = held.pop() {
                places.give_back(&names[n], bytes);
            }
            prop_assert!(places.is_empty() && places.senders.is_empty() && places.domains.is_empty());
        }
    }
}
