//! What rules say, apart from their names and how they put it: with the members of groups in their place,
//! and no order. Two texts at their limits are compared by it, as a set finds one rule among hundreds; and
//! a set of people is a bit for each whom either text names, so that what many groups come to is reckoned
//! word by word.

use std::collections::{BTreeMap, BTreeSet};

use impp_protocol::hashing::HashMap;
use impp_protocol::{Address, Domain, Timestamp};

use crate::conditions::{Conditions, Validity};
use crate::delegation::{Delegate, Right};
use crate::grants::Grants;
use crate::identity::Who;
use crate::marks::Marks;
use crate::named::Named;
use crate::rules::{DeliveryAction, DeliveryRule, Handling, Rate, Rule, RuleSet};

/// What an access rule says.
#[derive(PartialEq, Eq, Hash)]
pub(super) struct Access<'a> {
    conditions: Meant<'a>,
    handling: Handling,
    fetch: Handling,
    grants: &'a Grants,
    by_entry: Option<&'a [Grants; 2]>,
}

/// What a delivery rule says.
#[derive(PartialEq, Eq, Hash)]
pub(super) struct Delivery<'a> {
    conditions: Meant<'a>,
    action: DeliveryAction,
    rate: Option<Rate>,
    marks: Marks,
}

/// What is said of a delegate.
#[derive(PartialEq, Eq, Hash)]
pub(super) struct Acts<'a> {
    who: &'a BTreeSet<Address>,
    rights: &'a BTreeSet<Right>,
    until: Option<Timestamp>,
}

#[derive(PartialEq, Eq, Hash)]
struct Meant<'a> {
    who: Whom<'a>,
    except: Whom<'a>,
    valid: BTreeSet<Validity>,
    spheres: BTreeSet<&'a str>,
}

#[derive(PartialEq, Eq, Hash)]
struct Whom<'a> {
    people: People,
    domains: &'a BTreeSet<Domain>,
    contacts: bool,
    authenticated: bool,
    anonymous: bool,
    anyone: bool,
}

/// A bit for each, by its place.
#[derive(Clone, PartialEq, Eq, Hash)]
struct People(Box<[u64]>);

/// The place of each whom any of the texts names.
pub(super) struct Places<'a>(HashMap<&'a Address, usize>);

/// One set of rules, read by the places of all.
pub(super) struct Reading<'a> {
    places: &'a Places<'a>,
    groups: BTreeMap<&'a str, People>,
}

impl<'a> Places<'a> {
    pub(super) fn of(all: &[&'a RuleSet]) -> Places<'a> {
        let mut places = HashMap::default();
        for rules in all {
            let access = rules.rules.iter().map(|rule| &rule.conditions);
            let conditions = access.chain(rules.delivery.iter().map(|rule| &rule.conditions));
            let lists = conditions.flat_map(|c| [&c.who.addresses, &c.except.addresses]);
            for address in rules.groups.values().chain(lists).flat_map(Named::iter) {
                let next = places.len();
                places.entry(address).or_insert(next);
            }
        }
        Places(places)
    }

    fn people(&self, named: &Named) -> People {
        let mut people = People(vec![0; self.0.len().div_ceil(64)].into());
        for place in named.iter().filter_map(|address| self.0.get(address)) {
            if let Some(word) = people.0.get_mut(place / 64) {
                *word |= 1 << (place % 64);
            }
        }
        people
    }

    pub(super) fn read(&'a self, rules: &'a RuleSet) -> Reading<'a> {
        let groups = rules.groups.iter().map(|(name, named)| (&**name, self.people(named)));
        Reading { places: self, groups: groups.collect() }
    }
}

impl<'a> Reading<'a> {
    pub(super) fn access(&self, rule: &'a Rule) -> Access<'a> {
        // What `fields`, `tuples` and `plain` put in words is in the grants.
        let Rule { conditions, handling, grants, by_entry, .. } = rule;
        let (handling, fetch) = (*handling, rule.fetch());
        let conditions = self.meant(conditions);
        Access { conditions, handling, fetch, grants, by_entry: by_entry.as_ref() }
    }

    pub(super) fn delivery(&self, rule: &'a DeliveryRule) -> Delivery<'a> {
        // Each part is named, so that a new one is compared too.
        let DeliveryRule { id: _, conditions, action, rate, marks } = rule;
        let conditions = self.meant(conditions);
        Delivery { conditions, action: *action, rate: *rate, marks: *marks }
    }

    fn meant(&self, conditions: &'a Conditions) -> Meant<'a> {
        let Conditions { who, except, valid, spheres } = conditions;
        Meant {
            who: self.whom(who),
            except: self.whom(except),
            valid: valid.iter().copied().collect(),
            spheres: spheres.iter().map(String::as_str).collect(),
        }
    }

    fn whom(&self, who: &'a Who) -> Whom<'a> {
        super::looked(1 + who.groups.len());
        let Who { addresses, domains, groups, contacts, authenticated, anonymous, anyone } = who;
        let mut people = self.places.people(addresses);
        for group in groups.iter().filter_map(|group| self.groups.get(group.name())) {
            people.0.iter_mut().zip(&group.0).for_each(|(all, more)| *all |= more);
        }
        let (contacts, authenticated) = (*contacts, *authenticated);
        let (anonymous, anyone) = (*anonymous, *anyone);
        Whom { people, domains, contacts, authenticated, anonymous, anyone }
    }
}

impl<'a> Acts<'a> {
    pub(super) fn of(delegate: &'a Delegate) -> Acts<'a> {
        let Delegate { id: _, who, rights, until } = delegate;
        Acts { who, rights, until: *until }
    }
}
