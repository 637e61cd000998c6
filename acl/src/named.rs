//! Addresses that stand together in rules: the members of a group, those of one `who` or `except`. Who
//! asks is looked for in very many of them, so each is found by a hash that is reckoned once.
//!
//! Which of them a rule is about is `identity`'s.

use std::fmt;
use std::hash::BuildHasher;
use std::sync::{Arc, LazyLock};

use hashbrown::HashTable;
use impp_protocol::Address;
use impp_protocol::hashing::Keyed;

/// One key for all, so that one hash serves for all of them. It is secret, as that of any table.
static KEY: LazyLock<Keyed> = LazyLock::new(Keyed::default);

/// Somebody to be looked for.
#[derive(Clone, Copy, Debug)]
pub(crate) struct Sought<'a> {
    address: &'a Address,
    /// Many rules ask for it, one after the other.
    domain: &'a str,
    hash: u64,
}

impl<'a> Sought<'a> {
    pub(crate) fn new(address: &'a Address) -> Sought<'a> {
        let (domain, hash) = (address.domain_str(), KEY.hash_one(address.as_str()));
        Sought { address, domain, hash }
    }

    pub(crate) fn address(self) -> &'a Address {
        self.address
    }

    pub(crate) fn domain(self) -> &'a str {
        self.domain
    }
}

/// Addresses, each once; shared by all that name them together. Cloning is cheap.
#[derive(Clone, Default)]
pub struct Named(Option<Arc<Found>>);

struct Found {
    /// In their order.
    all: Box<[Address]>,
    /// Their places, by their hashes.
    places: HashTable<u16>,
}

impl Named {
    /// Whether somebody is among them.
    pub fn contains(&self, address: &Address) -> bool {
        self.has(Sought::new(address))
    }

    /// They, in their order.
    pub fn iter(&self) -> impl ExactSizeIterator<Item = &Address> {
        self.all().iter()
    }

    /// How many they are.
    pub fn len(&self) -> usize {
        self.all().len()
    }

    /// Whether there is none.
    pub fn is_empty(&self) -> bool {
        self.0.is_none()
    }

    #[inline]
    pub(crate) fn has(&self, sought: Sought<'_>) -> bool {
        let Some(found) = &self.0 else { return false };
        let is = |place: &u16| found.all.get(usize::from(*place)) == Some(sought.address);
        found.places.find(sought.hash, is).is_some()
    }

    fn all(&self) -> &[Address] {
        self.0.as_ref().map_or(&[], |found| &found.all)
    }
}

impl FromIterator<Address> for Named {
    /// No text of rules has room for more addresses than places can number.
    fn from_iter<I: IntoIterator<Item = Address>>(addresses: I) -> Named {
        let mut all: Vec<Address> = addresses.into_iter().collect();
        all.sort_unstable();
        all.dedup();
        if all.is_empty() {
            return Named(None);
        }
        let mut places = HashTable::with_capacity(all.len());
        let hash = |address: &Address| Sought::new(address).hash;
        for (place, address) in (0..=u16::MAX).zip(&all) {
            places.insert_unique(hash(address), place, |other| {
                all.get(usize::from(*other)).map_or(0, hash)
            });
        }
        Named(Some(Arc::new(Found { all: all.into(), places })))
    }
}

impl PartialEq for Named {
    /// Whether the same are named; one that is shared is the same at a glance.
    fn eq(&self, other: &Named) -> bool {
        match (&self.0, &other.0) {
            (Some(a), Some(b)) => Arc::ptr_eq(a, b) || a.all == b.all,
            (a, b) => a.is_none() == b.is_none(),
        }
    }
}

impl Eq for Named {}

impl fmt::Debug for Named {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_set().entries(self.all()).finish()
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn address(text: &str) -> Address {
        Address::parse(text).unwrap()
    }

    #[test]
    fn each_of_them_is_found_and_nobody_else() {
        let named: Named = (0..1000).rev().map(|n| address(&format!("u{n}@a.example"))).collect();
        assert_eq!(named.len(), 1000);
        assert!((0..1000).all(|n| named.contains(&address(&format!("U{n}@A.example")))));
        assert!(!(1000..2000).any(|n| named.contains(&address(&format!("u{n}@a.example")))));
        assert!(!named.contains(&address("u1@b.example")));
        assert!(named.iter().is_sorted());
    }

    #[test]
    fn the_same_are_equal_in_whatever_order_they_were_named() {
        let of = |all: &[&str]| all.iter().map(|text| address(text)).collect::<Named>();
        assert_eq!(of(&["b@x", "a@x", "b@x"]), of(&["a@x", "b@x"]));
        assert_ne!(of(&["a@x"]), of(&["b@x"]));
        assert_ne!(of(&["a@x"]), Named::default());
        let none = of(&[]);
        assert!(none.is_empty() && none == Named::default() && !none.contains(&address("a@x")));
    }
}
