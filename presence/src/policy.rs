//! The policy of a principal: its rules and its contact list, as decisions look at them.
//!
//! Loading and storing is left to the server, deciding to `impp_acl`. A policy is cheap to clone.

use std::collections::BTreeMap;
use std::sync::Arc;

use impp_acl::{
    Decision, DeliveryDecision, DeliveryQuestion, DomainPolicy, Handling, Purpose, Question,
    RuleSet, Watcher, decide, decide_delivery, decide_delivery_unsure, decide_unsure,
};
use impp_protocol::state::{Grant, SubscriptionState};
use impp_protocol::{Address, Timestamp};

use crate::contact_list::{Amended, Amendment, History};

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

/// The owner's sphere, as decisions look at it.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Sphere<'a> {
    /// This, or none.
    Is(Option<&'a str>),
    /// Nobody knows it: what said it may have been lost in a crash, and not have been said again.
    Lost,
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
    /// What has become of that list.
    pub history: Arc<History>,
    /// What the owner's domain lays down above the rules.
    pub domain: Arc<DomainPolicy>,
    /// How many milliseconds the clock on the wall, by which rules name times, is ahead of the time by
    /// which all else here goes.
    pub ahead: i64,
}

impl Policy {
    /// Rules without contacts, as a new account has them.
    pub fn new(rules: impl Into<Arc<RuleSet>>, text: impl Into<Arc<str>>, number: u64) -> Policy {
        let (rules, text, domain) = (rules.into(), text.into(), DomainPolicy::none().clone());
        let (contacts, history) = Default::default();
        Policy { rules, text, number, contacts, history, domain, ahead: 0 }
    }

    /// The time, as rules name it.
    pub fn wall(&self, now: Timestamp) -> Timestamp {
        now.shifted(self.ahead)
    }

    /// What becomes of a principal who wants to follow `owner`'s presence, and stands so.
    pub fn decide(
        &self,
        owner: &Address,
        watcher: &Address,
        now: Timestamp,
        sphere: Sphere<'_>,
        stands: Option<SubscriptionState>,
    ) -> Decision {
        let watcher = Watcher::of(watcher);
        self.decide_for(owner, &watcher, Purpose::Subscribe, now, sphere, stands)
    }

    /// The same of anybody, proven or not, for whatever they want.
    ///
    /// What hangs on a sphere that is lost is neither granted nor refused: whom rules without a sphere
    /// let in is shown what these grant; of the others, who waits goes on waiting, who is shown
    /// something is shown nothing but offline, and so is who comes now, or waits if they would have to
    /// without a sphere.
    pub fn decide_for(
        &self,
        owner: &Address,
        watcher: &Watcher,
        purpose: Purpose,
        now: Timestamp,
        sphere: Sphere<'_>,
        stands: Option<SubscriptionState>,
    ) -> Decision {
        use SubscriptionState::{Active, Pending, Waiting};
        let (contact, now, domain) = (self.grant(watcher), self.wall(now), &*self.domain);
        let question = |sphere| Question { owner, watcher, purpose, now, sphere, contact, domain };
        let (decision, hangs) = match sphere {
            Sphere::Is(sphere) => (decide(&self.rules, &question(sphere)), false),
            Sphere::Lost => decide_unsure(&self.rules, &question(None)),
        };
        let decision = decision.by_clock_ahead(-self.ahead);
        // Rules only grant: what they grant without a sphere they grant in every one.
        if !hangs || decision.handling() >= Handling::PoliteBlock {
            return decision;
        }
        let waits = match stands {
            Some(Pending | Waiting) => true,
            Some(Active) => false,
            _ => decision.handling() == Handling::Confirm,
        };
        decision.put_off(waits)
    }

    /// What becomes of a message for `owner`. What a lost sphere might let in is held.
    pub fn decide_delivery(
        &self,
        owner: &Address,
        sender: &Watcher,
        now: Timestamp,
        sphere: Sphere<'_>,
    ) -> DeliveryDecision {
        let (contact, now) = (self.grant(sender), self.wall(now));
        let question = |sphere| DeliveryQuestion { owner, sender, now, sphere, contact };
        match sphere {
            Sphere::Is(sphere) => decide_delivery(&self.rules, &question(sphere)),
            Sphere::Lost => decide_delivery_unsure(&self.rules, &question(None)),
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

    /// Amends the contact list.
    pub(crate) fn amend(&mut self, at: (Timestamp, u64), amendment: &Amendment) -> Amended {
        let before = self.clone();
        let (contacts, history) =
            (Arc::make_mut(&mut self.contacts), Arc::make_mut(&mut self.history));
        let amended = history.amend(contacts, at, amendment);
        if before.history.number() == self.history.number() {
            // Nothing has changed, and nothing is judged anew by it.
            *self = before;
        }
        amended
    }

    /// Whether both decide alike for the same reasons: clones of one that nobody has changed.
    pub(crate) fn is_same(&self, other: &Policy) -> bool {
        Arc::ptr_eq(&self.rules, &other.rules)
            && Arc::ptr_eq(&self.contacts, &other.contacts)
            && Arc::ptr_eq(&self.history, &other.history)
            && Arc::ptr_eq(&self.domain, &other.domain)
    }
}
