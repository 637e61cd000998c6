//! The policy of a principal: its rules and its contact list, as decisions look at them.
//!
//! Loading and storing is left to the server, deciding to `impp_acl`. A policy is cheap to clone.

use std::collections::BTreeMap;
use std::sync::Arc;

use impp_acl::{
    Decision, DeliveryDecision, DeliveryQuestion, Purpose, Question, RuleSet, Watcher, decide,
    decide_delivery,
};
use impp_protocol::state::Grant;
use impp_protocol::{Address, Timestamp};

/// An entry of a contact list, beside its address.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Contact {
    /// What its owner calls them.
    pub name: Option<String>,
    /// Groups of the owner's.
    pub groups: Vec<String>,
    /// Whether the owner follows them.
    pub follow: bool,
    /// What they may see.
    pub grant: Grant,
}

impl Contact {
    /// Whether it only takes something from an entry that was there before.
    pub(crate) fn takes_from(&self, before: &Contact) -> bool {
        let alike = self.name == before.name && self.groups == before.groups;
        let no_more = self.grant.number() <= before.grant.number() && self.follow <= before.follow;
        alike && no_more
    }
}

/// Rules and contacts of one principal.
#[derive(Clone, Debug)]
pub struct Policy {
    /// The rules.
    pub rules: Arc<RuleSet>,
    /// Their text, as the owner wrote it.
    pub text: Arc<str>,
    /// Their version; 0 for the rules that a new account has.
    pub number: u64,
    /// The contact list.
    pub contacts: Arc<BTreeMap<Address, Contact>>,
    /// How many milliseconds the clock on the wall, by which rules name times, is ahead of the time by
    /// which all else here goes.
    pub ahead: i64,
}

impl Policy {
    /// Rules without contacts, as a new account has them.
    pub fn new(rules: RuleSet, text: &str, number: u64) -> Policy {
        let contacts = Arc::default();
        Policy { rules: Arc::new(rules), text: text.into(), number, contacts, ahead: 0 }
    }

    /// The time, as rules name it.
    pub fn wall(&self, now: Timestamp) -> Timestamp {
        now.shifted(self.ahead)
    }

    /// What becomes of a principal who wants to see `owner`'s presence.
    pub fn decide(
        &self,
        owner: &Address,
        watcher: &Address,
        purpose: Purpose,
        now: Timestamp,
        sphere: Option<&str>,
    ) -> Decision {
        self.decide_for(owner, &Watcher::Principal(watcher.clone()), purpose, now, sphere)
    }

    /// The same of anybody, proven or not.
    pub fn decide_for(
        &self,
        owner: &Address,
        watcher: &Watcher,
        purpose: Purpose,
        now: Timestamp,
        sphere: Option<&str>,
    ) -> Decision {
        let (contact, now) = (self.grant(watcher), self.wall(now));
        decide(&self.rules, &Question { owner, watcher, purpose, now, sphere, contact })
            .by_clock_ahead(-self.ahead)
    }

    /// What becomes of a message for `owner`.
    pub fn decide_delivery(
        &self,
        owner: &Address,
        sender: &Watcher,
        now: Timestamp,
        sphere: Option<&str>,
    ) -> DeliveryDecision {
        let (contact, now) = (self.grant(sender), self.wall(now));
        decide_delivery(&self.rules, &DeliveryQuestion { owner, sender, now, sphere, contact })
    }

    /// What the contact list grants to somebody.
    pub fn grant(&self, watcher: &Watcher) -> Grant {
        match watcher {
            Watcher::Principal(address) => {
                self.contacts.get(address).map_or(Grant::None, |contact| contact.grant)
            }
            Watcher::Anonymous => Grant::None,
        }
    }

    /// Puts an entry into the contact list, or takes it out.
    pub(crate) fn set_contact(&mut self, address: &Address, entry: Option<Contact>) {
        let contacts = Arc::make_mut(&mut self.contacts);
        match entry {
            Some(entry) => drop(contacts.insert(address.clone(), entry)),
            None => drop(contacts.remove(address)),
        }
    }

    /// Whether both decide alike for the same reasons: clones of one that nobody has changed.
    pub(crate) fn is_same(&self, other: &Policy) -> bool {
        Arc::ptr_eq(&self.rules, &other.rules) && Arc::ptr_eq(&self.contacts, &other.contacts)
    }
}
