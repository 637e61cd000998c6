//! The policy of a principal: its rules and its contact list, as decisions look at them.
//!
//! Loading and storing is left to the host, deciding to `impp_acl`.

use std::collections::BTreeMap;

use impp_acl::{
    Decision, DeliveryDecision, DeliveryQuestion, Purpose, Question, RuleSet, Watcher, decide,
    decide_delivery,
};
use impp_protocol::state::Grant;
use impp_protocol::{Address, Timestamp};

use crate::records::ContactRecord;

/// Rules and contacts of one principal.
#[derive(Clone, Debug)]
pub struct Policy {
    /// The rules.
    pub rules: RuleSet,
    /// Their text, as the owner wrote it.
    pub text: String,
    /// Their version; 0 for the rules that a new account has.
    pub number: u64,
    /// The contact list.
    pub contacts: BTreeMap<Address, ContactRecord>,
}

impl Policy {
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
        let contact = self.grant(watcher);
        decide(&self.rules, &Question { owner, watcher, purpose, now, sphere, contact })
    }

    /// What becomes of a message for `owner`.
    pub fn decide_delivery(
        &self,
        owner: &Address,
        sender: &Watcher,
        now: Timestamp,
        sphere: Option<&str>,
    ) -> DeliveryDecision {
        let contact = self.grant(sender);
        decide_delivery(&self.rules, &DeliveryQuestion { owner, sender, now, sphere, contact })
    }

    /// Puts an entry into the contact list, or takes it out.
    pub fn set_contact(&mut self, address: &Address, entry: Option<ContactRecord>) {
        match entry {
            Some(entry) => drop(self.contacts.insert(address.clone(), entry)),
            None => drop(self.contacts.remove(address)),
        }
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
}
