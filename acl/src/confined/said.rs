//! What rules say, whatever their order; of access rules, whatever their ids. Two texts at their limits are
//! compared by it, as a set finds one rule among hundreds.
//!
//! A group is its name: who is in it is the owner's to change at any time, so that of two groups with the same
//! members one is not the other.

use std::collections::BTreeSet;

use impp_protocol::{Address, Domain, Timestamp};

use crate::conditions::{Conditions, Validity};
use crate::delegation::{Delegate, Right};
use crate::grants::Grants;
use crate::identity::{Group, Who};
use crate::marks::Marks;
use crate::named::Named;
use crate::rules::{DeliveryAction, DeliveryRule, Handling, Rate, Rule};

/// What an access rule says.
#[derive(PartialEq, Eq, Hash)]
pub(super) struct Access<'a> {
    conditions: Meant<'a>,
    handling: Handling,
    fetch: Handling,
    grants: &'a Grants,
    by_entry: Option<&'a [Grants; 2]>,
}

/// What a delivery rule says. Its id is part of it: by that a decision finds the rule that it adds to.
#[derive(PartialEq, Eq, Hash)]
pub(super) struct Delivery<'a> {
    id: &'a str,
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
    addresses: BTreeSet<&'a Address>,
    groups: BTreeSet<&'a str>,
    domains: &'a BTreeSet<Domain>,
    contacts: bool,
    authenticated: bool,
    anonymous: bool,
    anyone: bool,
}

impl<'a> Access<'a> {
    pub(super) fn of(rule: &'a Rule) -> Access<'a> {
        // What `fields`, `tuples` and `plain` put in words is in the grants.
        let Rule { conditions, handling, grants, by_entry, .. } = rule;
        let (handling, fetch) = (*handling, rule.fetch());
        let conditions = Meant::of(conditions);
        Access { conditions, handling, fetch, grants, by_entry: by_entry.as_ref() }
    }
}

impl<'a> Delivery<'a> {
    pub(super) fn of(rule: &'a DeliveryRule) -> Delivery<'a> {
        // Each part is named, so that a new one is compared too.
        let DeliveryRule { id, conditions, action, rate, marks } = rule;
        let conditions = Meant::of(conditions);
        Delivery { id, conditions, action: *action, rate: *rate, marks: *marks }
    }
}

impl<'a> Meant<'a> {
    fn of(conditions: &'a Conditions) -> Meant<'a> {
        let Conditions { who, except, valid, spheres } = conditions;
        Meant {
            who: Whom::of(who),
            except: Whom::of(except),
            valid: valid.iter().copied().collect(),
            spheres: spheres.iter().map(String::as_str).collect(),
        }
    }
}

impl<'a> Whom<'a> {
    fn of(who: &'a Who) -> Whom<'a> {
        super::looked(1 + who.groups.len());
        let Who { addresses, domains, groups, contacts, authenticated, anonymous, anyone } = who;
        let addresses = Named::iter(addresses).collect();
        let groups = groups.iter().map(Group::name).collect();
        let (contacts, authenticated) = (*contacts, *authenticated);
        let (anonymous, anyone) = (*anonymous, *anyone);
        Whom { addresses, groups, domains, contacts, authenticated, anonymous, anyone }
    }
}

impl<'a> Acts<'a> {
    pub(super) fn of(delegate: &'a Delegate) -> Acts<'a> {
        let Delegate { id: _, who, rights, until } = delegate;
        Acts { who, rights, until: *until }
    }
}
