//! Who a rule is about: addresses, domains, groups, contacts, proven or unproven (RFC 4745 7.1).
//!
//! Proving that a watcher is who it says is left to sign-in and links; the contact list is the
//! server's.

use std::collections::BTreeSet;
use std::fmt;
use std::sync::Arc;

pub use impp_protocol::state::Grant;
use impp_protocol::{Address, Domain};

use crate::named::{Named, Sought};

/// Who is not proven, in words.
pub(crate) const ANONYMOUS: &str = "anonymous";

/// Who asks.
#[derive(Clone, Debug, PartialEq, Eq, Hash)]
pub enum Watcher {
    /// A principal whose identity is proven, here or by its home domain.
    Principal(Address),
    /// Nobody that could be proven.
    Anonymous,
}

impl Watcher {
    /// Who is known by this address: [`Address::anonymous`] is nobody's.
    pub fn of(address: &Address) -> Watcher {
        match address.is_anonymous() {
            true => Watcher::Anonymous,
            false => Watcher::Principal(address.clone()),
        }
    }

    /// Who it is, to be looked for in rules; nobody who is not proven.
    pub(crate) fn sought(&self) -> Option<Sought<'_>> {
        match self {
            Watcher::Principal(address) => Some(Sought::new(address)),
            Watcher::Anonymous => None,
        }
    }
}

impl fmt::Display for Watcher {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            Watcher::Principal(address) => address.fmt(f),
            Watcher::Anonymous => f.write_str(ANONYMOUS),
        }
    }
}

/// A named group of addresses; a rule holds its members, so that later groups do not widen it.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Group {
    pub(crate) name: Arc<str>,
    pub(crate) members: Named,
}

impl Group {
    /// The name.
    pub fn name(&self) -> &str {
        &self.name
    }

    /// The members.
    pub fn members(&self) -> &Named {
        &self.members
    }
}

/// A list of identities as `who` and `except` take it; any of them suffices.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct Who {
    pub(crate) addresses: Named,
    pub(crate) domains: BTreeSet<Domain>,
    pub(crate) groups: Vec<Group>,
    pub(crate) contacts: bool,
    pub(crate) authenticated: bool,
    pub(crate) anonymous: bool,
    pub(crate) anyone: bool,
}

/// Which item of a list it was that matched: the narrowest.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) enum By<'a> {
    Address,
    Group(&'a str),
    Contacts,
    Domain(&'a str),
    Authenticated,
    Anonymous,
    Anyone,
}

impl Who {
    /// Whether an address stands in the list itself.
    pub fn names(&self, address: &Address) -> bool {
        self.addresses.contains(address)
    }

    /// The item that a watcher matches, if any; nobody is one who is not proven. Domains are equal
    /// or they are not: both sides are canonical, and no part of a name is ever compared.
    pub(crate) fn find(&self, watcher: Option<Sought<'_>>, contact: Grant) -> Option<By<'_>> {
        let Some(sought) = watcher else {
            let by_anonymous = self.anonymous.then_some(By::Anonymous);
            return by_anonymous.or(self.anyone.then_some(By::Anyone));
        };
        if self.addresses.has(sought) {
            return Some(By::Address);
        }
        if let Some(group) = self.groups.iter().find(|group| group.members.has(sought)) {
            return Some(By::Group(&group.name));
        }
        if self.contacts && contact != Grant::None {
            return Some(By::Contacts);
        }
        if let Some(domain) = self.domains.get(sought.domain()) {
            return Some(By::Domain(domain.as_str()));
        }
        let by_proof = self.authenticated.then_some(By::Authenticated);
        by_proof.or(self.anyone.then_some(By::Anyone))
    }
}

impl fmt::Display for By<'_> {
    /// The item as it stands in the text, or what stands for it.
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            By::Address => f.write_str("address"),
            By::Group(name) => write!(f, "group:{name}"),
            By::Contacts => f.write_str("contacts"),
            By::Domain(domain) => write!(f, "domain:{domain}"),
            By::Authenticated => f.write_str("authenticated"),
            By::Anonymous => f.write_str("anonymous"),
            By::Anyone => f.write_str("anyone"),
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn principal(text: &str) -> Watcher {
        Watcher::Principal(Address::parse(text).unwrap())
    }

    #[test]
    fn d7_a_domain_is_never_matched_by_part_of_its_name() {
        let domains = BTreeSet::from([Domain::parse("b.example").unwrap()]);
        let who = Who { domains, ..Who::default() };
        assert_eq!(
            who.find(principal("x@B.Example").sought(), Grant::None),
            Some(By::Domain("b.example"))
        );
        for other in ["x@ab.example", "x@a.b.example", "x@b.example.org", "x@example"] {
            assert_eq!(who.find(principal(other).sought(), Grant::All), None, "{other}");
        }
        assert_eq!(who.find(Watcher::Anonymous.sought(), Grant::None), None);
    }

    #[test]
    fn proven_and_unproven_are_told_apart() {
        let bob = principal("bob@b.example");
        let authenticated = Who { authenticated: true, ..Who::default() };
        assert!(authenticated.find(bob.sought(), Grant::None).is_some());
        assert!(authenticated.find(Watcher::Anonymous.sought(), Grant::None).is_none());
        let anonymous = Who { anonymous: true, ..Who::default() };
        assert!(anonymous.find(bob.sought(), Grant::None).is_none());
        assert!(anonymous.find(Watcher::Anonymous.sought(), Grant::None).is_some());
        let anyone = Who { anyone: true, ..Who::default() };
        assert!(anyone.find(bob.sought(), Grant::None).is_some());
        assert!(anyone.find(Watcher::Anonymous.sought(), Grant::None).is_some());
    }

    #[test]
    fn contacts_are_those_that_are_granted_something() {
        let who = Who { contacts: true, ..Who::default() };
        let bob = principal("bob@b.example");
        assert_eq!(who.find(bob.sought(), Grant::None), None);
        assert_eq!(who.find(bob.sought(), Grant::Status), Some(By::Contacts));
        assert_eq!(who.find(Watcher::Anonymous.sought(), Grant::All), None);
    }
}
