//! The contact list, as devices that do not know of each other change it: entry by entry and field by field,
//! in the order in which the server takes the changes.
//!
//! Every change gives the list a number. An amendment may name the number of the list that it was made on:
//! what was removed since is not changed by it and does not come back, and nobody is granted more by it than
//! was known there. Reading and storing is left to the server.

use std::collections::BTreeMap;
use std::time::Duration;

use impp_protocol::state::{CONTACT_GROUPS_MAX, Grant};
use impp_protocol::{Address, Timestamp};

use crate::policy::Contact;

/// So long it is known at least when an entry was removed, if not more are than are kept.
const REMOVED_KEPT: Duration = Duration::from_secs(60 * 86_400);
/// Entries that were removed and of which that is known.
pub const REMOVED_MAX: usize = 1_000;

/// A change of one entry of a contact list.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Amendment {
    /// Whose entry.
    pub address: Address,
    /// The number of the list that it was made on; without one, on whatever the list is when it comes.
    pub base: Option<u64>,
    /// What becomes of the entry.
    pub amends: Amends,
}

/// What becomes of an entry.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum Amends {
    /// It goes.
    Remove,
    /// These fields of it are set.
    Set(Fields),
}

/// Fields of an entry; what is not said stays as it is.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct Fields {
    /// There may be so many entries, if it is to be added where there is none.
    pub add: Option<usize>,
    /// What its owner calls them, or that it is nothing.
    pub name: Option<Option<String>>,
    /// Groups of the owner's.
    pub groups: Labels,
    /// Whether the owner follows them.
    pub follow: Option<bool>,
    /// What they may see.
    pub grant: Option<Grant>,
}

/// Groups of an entry: each is in it or not, for itself.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub enum Labels {
    /// As they are.
    #[default]
    Kept,
    /// These alone.
    Are(Vec<String>),
    /// Some come, others go; what does both, goes.
    Some {
        /// These come.
        more: Vec<String>,
        /// And these go.
        less: Vec<String>,
    },
}

/// What an amendment has come to.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Amended {
    /// The list is so from now on, and has this number.
    Done(u64),
    /// The entry was removed since the list that it was made on: nothing is changed.
    Dropped,
    /// It may grant what was taken back since the list that it was made on; or it is not known any more, or
    /// never was, what has been since: nothing is changed.
    Conflict,
    /// There is no such entry.
    Missing,
    /// There is no room for another entry.
    Full,
    /// The entry would be in too many groups.
    Crowded,
}

impl Amendment {
    /// The entry is this one, whatever it was.
    pub fn put(address: Address, entry: Contact) -> Amendment {
        let Contact { name, groups, follow, grant } = entry;
        let fields = Fields {
            add: Some(usize::MAX),
            name: Some(name),
            groups: Labels::Are(groups),
            follow: Some(follow),
            grant: Some(grant),
        };
        Amendment { address, base: None, amends: Amends::Set(fields) }
    }

    /// There is no entry any more.
    pub fn remove(address: Address) -> Amendment {
        Amendment { address, base: None, amends: Amends::Remove }
    }

    /// Whether it only takes something from an entry, or the entry away.
    pub(crate) fn takes_from(&self, contacts: &BTreeMap<Address, Contact>) -> bool {
        match &self.amends {
            Amends::Remove => true,
            Amends::Set(fields) => contacts
                .get(&self.address)
                .is_some_and(|before| fields.applied(before.clone()).takes_from(before)),
        }
    }
}

impl Fields {
    fn applied(&self, entry: Contact) -> Contact {
        let mut entry = entry;
        if let Some(name) = &self.name {
            entry.name.clone_from(name);
        }
        match &self.groups {
            Labels::Kept => {}
            Labels::Are(groups) => entry.groups.clone_from(groups),
            Labels::Some { more, less } => {
                entry.groups.extend(more.iter().cloned());
                entry.groups.retain(|group| !less.contains(group));
            }
        }
        entry.groups.sort();
        entry.groups.dedup();
        entry.follow = self.follow.unwrap_or(entry.follow);
        entry.grant = self.grant.unwrap_or(entry.grant);
        entry
    }

    /// Whether it says nothing but that less is granted than this.
    fn only_lowers(&self, granted: Grant) -> bool {
        let grant = self.grant.filter(|grant| grant.number() <= granted.number());
        grant.is_some() && *self == Fields { grant, add: self.add, ..Fields::default() }
    }
}

/// Which number the list had when something became of an entry; 0 if that was before it had any.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub struct Trace {
    /// When anything of it changed last.
    pub changed: u64,
    /// When what it grants changed last.
    pub granted: u64,
    /// When an entry of that address was removed last.
    pub removed: u64,
    /// And the time of that.
    pub removed_at: Timestamp,
}

/// What has become of a contact list, as far as amendments that come late have to know it.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct History {
    traces: BTreeMap<Address, Trace>,
    /// What was removed before is not known.
    floor: u64,
    number: u64,
}

impl History {
    /// As it was stored.
    pub fn restored(traces: BTreeMap<Address, Trace>, floor: u64) -> History {
        let newest = traces.values().map(|trace| trace.changed).max().unwrap_or_default();
        History { traces, floor, number: newest.max(floor) }
    }

    /// The list's number.
    pub fn number(&self) -> u64 {
        self.number
    }

    /// The number of the oldest list on which amendments can be made.
    pub fn floor(&self) -> u64 {
        self.floor
    }

    /// What is known of an entry.
    pub fn trace(&self, address: &Address) -> Option<Trace> {
        self.traces.get(address).copied()
    }

    pub(crate) fn addresses(&self) -> impl Iterator<Item = &Address> {
        self.traces.keys()
    }

    /// Makes an amendment; `order` is higher than those of all before, however often it is made anew.
    pub(crate) fn amend(
        &mut self,
        contacts: &mut BTreeMap<Address, Contact>,
        (now, order): (Timestamp, u64),
        amendment: &Amendment,
    ) -> Amended {
        let Amendment { address, base, amends } = amendment;
        let (known, trace) = (contacts.get(address), self.trace(address).unwrap_or_default());
        let number = order.max(self.number + 1);
        match (amends, known) {
            (Amends::Remove, None) => Amended::Missing,
            (Amends::Remove, Some(_)) => {
                contacts.remove(address);
                let trace = Trace { changed: number, removed: number, removed_at: now, ..trace };
                self.note(address, trace);
                self.forget(now, contacts);
                Amended::Done(number)
            }
            (Amends::Set(fields), known) => {
                let entry = match self.allows(fields, known, trace, *base, contacts.len()) {
                    Ok(()) => fields.applied(known.cloned().unwrap_or(NOBODY)),
                    Err(refused) => return refused,
                };
                if entry.groups.len() > CONTACT_GROUPS_MAX {
                    return Amended::Crowded;
                }
                if known == Some(&entry) {
                    return Amended::Done(self.number);
                }
                let is_granted = known.map(|known| known.grant) == Some(entry.grant);
                let granted = if is_granted { trace.granted } else { number };
                contacts.insert(address.clone(), entry);
                self.note(address, Trace { changed: number, granted, ..trace });
                Amended::Done(number)
            }
        }
    }

    /// Whether fields may be set, of an entry that is known or of none, by who knew the list of this number.
    fn allows(
        &self,
        fields: &Fields,
        known: Option<&Contact>,
        trace: Trace,
        base: Option<u64>,
        entries: usize,
    ) -> Result<(), Amended> {
        if known.is_some_and(|known| fields.only_lowers(known.grant)) {
            return Ok(());
        }
        let base = base.unwrap_or(self.number);
        if base < self.floor || base > self.number {
            return Err(Amended::Conflict);
        }
        if base < trace.removed {
            return Err(Amended::Dropped);
        }
        match (known, fields.add) {
            (None, None) => Err(Amended::Missing),
            (None, Some(max)) if entries >= max => Err(Amended::Full),
            (Some(known), _) if base < trace.granted => {
                let is_more = |grant: Grant| grant.number() > known.grant.number();
                if fields.grant.is_some_and(is_more) { Err(Amended::Conflict) } else { Ok(()) }
            }
            _ => Ok(()),
        }
    }

    fn note(&mut self, address: &Address, trace: Trace) {
        self.number = trace.changed;
        self.traces.insert(address.clone(), trace);
    }

    /// Forgets what was removed long ago, and of too many the first: amendments on lists of before that are
    /// not taken any more.
    fn forget(&mut self, now: Timestamp, contacts: &BTreeMap<Address, Contact>) {
        let gone = self.traces.iter().filter(|(address, _)| !contacts.contains_key(*address));
        let mut gone: Vec<(u64, Timestamp, Address)> = gone
            .map(|(address, trace)| (trace.removed, trace.removed_at, address.clone()))
            .collect();
        gone.sort_unstable();
        let mut over = gone.len().saturating_sub(REMOVED_MAX);
        for (removed, at, address) in gone {
            if over == 0 && now.since(at) < REMOVED_KEPT {
                // Those behind it were removed later.
                return;
            }
            over = over.saturating_sub(1);
            self.traces.remove(&address);
            self.floor = self.floor.max(removed);
        }
    }
}

/// An entry of which nothing is said.
const NOBODY: Contact =
    Contact { name: None, groups: Vec::new(), follow: false, grant: Grant::None };

#[cfg(test)]
mod tests;
