//! The groups of a link: which watchers of one presentity see the same, as the other side knows it.
//!
//! What there is to see is left to `across`, frames to the link. Nothing here holds content.

mod planning;

use std::collections::{BTreeMap, BTreeSet};

use impp_protocol::Address;
use impp_protocol::presence::Version;
use impp_protocol::state::SubscriptionState;

use super::contents::Held;
use planning::Planning;

/// The watchers of one presentity over one link, as the other side knows them.
///
/// Whatever changes here was said to the other side at the same moment, in one ordered stream, so
/// both sides agree at every point of it.
#[derive(Clone, Debug, Default)]
pub struct Groups {
    handles: u64,
    places: BTreeMap<Address, Place>,
    groups: BTreeMap<u64, Group>,
}

/// Where a watcher is, and what was said of it.
#[derive(Clone, Copy, Debug)]
struct Place {
    group: Option<u64>,
    state: SubscriptionState,
}

/// Watchers who see the same.
#[derive(Clone, Debug, Default)]
struct Group {
    members: BTreeSet<Address>,
    /// What the other side surely holds for it.
    told: Option<Version>,
    /// What an OK has named as its content, if nothing was told yet.
    promised: Option<Version>,
    /// What its first member says it holds.
    claimed: Option<Version>,
    /// The version of the members, as long as they are the same.
    set: Option<Version>,
}

/// Watchers whose content is equal now.
#[derive(Clone, Copy, Debug)]
pub(super) struct Class {
    /// That content.
    pub version: Version,
    /// Whoever was shown nothing is not shown this yet.
    pub withheld: bool,
}

/// One thing to say: who joins a group, and what it sees.
#[derive(Clone, Debug, PartialEq, Eq)]
pub(super) struct Step {
    /// The group.
    pub group: u64,
    /// Who is in it from now on and was not.
    pub joined: Vec<Address>,
    /// Index of the class.
    pub class: usize,
}

/// The version of a set of watchers: a digest of their addresses in order, each with a zero octet
/// behind it.
pub fn set_version<'a>(members: impl Iterator<Item = &'a Address>) -> Version {
    let mut bytes = Vec::new();
    for member in members {
        bytes.extend_from_slice(member.as_str().as_bytes());
        bytes.push(0);
    }
    Version::of(&bytes)
}

impl Groups {
    /// How many watchers there are.
    pub fn len(&self) -> usize {
        self.places.len()
    }

    /// Whether there are none.
    pub fn is_empty(&self) -> bool {
        self.places.is_empty()
    }

    /// Whether this watcher is one of them.
    pub fn contains(&self, watcher: &Address) -> bool {
        self.places.contains_key(watcher)
    }

    /// A watcher follows no more over this link, as an answer or notification says.
    pub fn leave(&mut self, watcher: &Address) -> bool {
        self.leave_group(watcher);
        self.places.remove(watcher).is_some()
    }

    /// The watchers, by address.
    pub fn watchers(&self) -> impl Iterator<Item = &Address> {
        self.places.keys()
    }

    /// What was said of a watcher's state.
    pub(super) fn state(&self, watcher: &Address) -> Option<SubscriptionState> {
        self.places.get(watcher).map(|place| place.state)
    }

    /// The group that a watcher is in.
    pub(super) fn group_of(&self, watcher: &Address) -> Option<u64> {
        self.places.get(watcher).and_then(|place| place.group)
    }

    /// A watcher is in no group, and it was said how it stands.
    pub(super) fn stand(&mut self, watcher: &Address, state: SubscriptionState) {
        self.leave_group(watcher);
        self.places.insert(watcher.clone(), Place { group: None, state });
    }

    /// An OK says that a watcher who says it holds `claimed` sees `version`: the group that the OK
    /// names, and the version that this group has or is about to get.
    pub(super) fn join(
        &mut self,
        watcher: &Address,
        version: Version,
        claimed: Option<Version>,
    ) -> (u64, Version) {
        if let Some(handle) = self.group_of(watcher)
            && let Some(group) = self.groups.get_mut(&handle)
        {
            // Where it belongs is looked at with the others. Whoever was told and holds nothing
            // has lost it, and is told again.
            let named = group.told.or(group.promised).unwrap_or(version);
            if claimed.is_none() {
                (group.told, group.claimed, group.promised) = (None, None, Some(named));
            }
            return (handle, named);
        }
        let shows = |group: &Group| group.told.or(group.promised) == Some(version);
        let found = self.groups.iter().find(|(_, group)| shows(group)).map(|(handle, _)| *handle);
        let handle = found.unwrap_or_else(|| self.new_handle());
        let group = self.groups.entry(handle).or_default();
        if found.is_none() {
            (group.promised, group.claimed) = (Some(version), claimed);
        }
        if claimed == Some(version) {
            group.told = claimed;
        }
        self.enter(watcher, handle);
        (handle, version)
    }

    /// Whether something has still to be said to a group that an OK has named.
    pub(super) fn is_owed(&self, handle: u64) -> bool {
        self.groups.get(&handle).is_some_and(|group| group.told.is_none())
    }

    /// What the members of a group hold.
    pub(super) fn held(&self, handle: u64) -> Held {
        match self.groups.get(&handle) {
            Some(Group { told: Some(told), .. }) => Held::Sent(*told),
            Some(Group { claimed: Some(claimed), .. }) => Held::Claimed(*claimed),
            _ => Held::Nothing,
        }
    }

    /// Says that watchers join a group.
    pub(super) fn join_all(&mut self, joined: &[Address], handle: u64) {
        for watcher in joined {
            self.leave_group(watcher);
            self.enter(watcher, handle);
        }
    }

    /// Says what the group sees.
    pub(super) fn told(&mut self, handle: u64, version: Version) {
        if let Some(group) = self.groups.get_mut(&handle) {
            (group.told, group.promised, group.claimed) = (Some(version), None, None);
        }
    }

    /// The version of the set of a group's watchers.
    pub(super) fn set(&mut self, handle: u64) -> Option<Version> {
        let group = self.groups.get_mut(&handle)?;
        Some(*group.set.get_or_insert_with(|| set_version(group.members.iter())))
    }

    /// What has to be said, in this order, so that whoever sees the same is in one group and every
    /// group sees what it should; `of` says which watcher is in which class.
    ///
    /// Each class goes on in the group that it shares most watchers with, so that an ordinary change
    /// names nobody. Nobody is in a group when it gets what that watcher may not see: whoever leaves
    /// it is said to be elsewhere before.
    pub(super) fn plan(&mut self, of: &[(Address, usize)], classes: &[Class]) -> Vec<Step> {
        let mut plan = Planning::new(self, of, classes).plan();
        for step in plan.iter_mut().filter(|step| step.group == 0) {
            step.group = self.new_handle();
        }
        plan
    }

    fn new_handle(&mut self) -> u64 {
        self.handles += 1;
        self.handles
    }

    fn enter(&mut self, watcher: &Address, handle: u64) {
        let state = SubscriptionState::Active;
        self.places.insert(watcher.clone(), Place { group: Some(handle), state });
        let group = self.groups.entry(handle).or_default();
        group.members.insert(watcher.clone());
        group.set = None;
    }

    fn leave_group(&mut self, watcher: &Address) {
        let Some(place) = self.places.get_mut(watcher) else { return };
        let Some(handle) = place.group.take() else { return };
        if let Some(group) = self.groups.get_mut(&handle) {
            group.members.remove(watcher);
            group.set = None;
            if group.members.is_empty() {
                self.groups.remove(&handle);
            }
        }
    }
}
