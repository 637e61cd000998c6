//! A view, and at which pace it shows changes to whom.
//!
//! Who comes must not find the pace spent by what was shown to others: by how soon it is told something it
//! would know whether anybody has the same view. So who comes while the view has not rested is in a group
//! that has its own pace, and goes on as if it were alone. Once both have rested a group is as the first
//! one, and is merged into it. There are never more groups than watchers, and most often one.

use impp_acl::Content;
use impp_protocol::hashing::{HashMap, HashSet};
use impp_protocol::presence::Version;
use impp_protocol::{Address, Timestamp};
use smallvec::{SmallVec, smallvec};

use super::pace::{Pace, PaceLimit};

/// Watchers of a view who are told the same at the same time.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord, Hash)]
pub(super) struct GroupId(u64);

/// See the module. Each view has paces of its own: what it does not show neither wakes nor delays whoever
/// has it.
#[derive(Debug)]
pub(super) struct View {
    /// The first one is always there, the others as long as somebody is in them.
    groups: SmallVec<[Group; 1]>,
    /// Who is in another group than the first.
    apart: HashMap<Address, GroupId>,
}

#[derive(Debug)]
struct Group {
    id: GroupId,
    /// What it is shown.
    content: Content,
    /// None as long as it has rested.
    pace: Option<Pace>,
    /// It is not shown the newest, and may not be before then.
    owed: Option<Timestamp>,
    /// How many are in it, if it is not the first.
    members: usize,
}

impl GroupId {
    /// Who has come while the view had rested.
    pub(super) const FIRST: GroupId = GroupId(0);
}

impl View {
    /// One that nobody has had until now.
    pub(super) fn new(content: Content, pace: Option<Pace>) -> View {
        let first = Group { id: GroupId::FIRST, content, pace, owed: None, members: 0 };
        View { groups: smallvec![first], apart: HashMap::default() }
    }

    /// Where somebody is who has the view.
    pub(super) fn group_of(&self, who: &Address) -> GroupId {
        self.apart.get(who).copied().unwrap_or(GroupId::FIRST)
    }

    /// What somebody is shown.
    pub(super) fn content(&self, who: &Address) -> &Content {
        let index = self.index(self.group_of(who)).unwrap_or_default();
        &self.groups[index].content
    }

    /// What it shows to anybody.
    pub(super) fn versions(&self) -> HashSet<Version> {
        self.groups.iter().map(|group| group.content.version()).collect()
    }

    /// The newest, if somebody is shown that.
    pub(super) fn newest(&self) -> Option<&Content> {
        self.groups.iter().find(|group| group.owed.is_none()).map(|group| &group.content)
    }

    /// How many groups there are.
    #[cfg(test)]
    pub(super) fn len(&self) -> usize {
        self.groups.len()
    }

    /// When it may show somebody what it does not show them yet.
    pub(super) fn next_owed(&self) -> Option<Timestamp> {
        self.groups.iter().filter_map(|group| group.owed).min()
    }

    /// It is new, and has shown a change by that.
    pub(super) fn spend(&mut self, now: Timestamp, limit: PaceLimit) {
        for group in &mut self.groups {
            group.pace.get_or_insert_with(|| Pace::rested(now, limit)).spend();
        }
    }

    /// Puts somebody who comes with this pace into a group that is as if they had been alone in it, if
    /// there is one.
    pub(super) fn takes(
        &mut self,
        now: Timestamp,
        limit: PaceLimit,
        who: &Address,
        pace: Option<Pace>,
    ) -> bool {
        let is_alike = |group: &&mut Group| {
            let left = group.pace.and_then(|pace| pace.unrested(now, limit));
            group.owed.is_none() && left == pace
        };
        let Some(group) = self.groups.iter_mut().find(is_alike) else { return false };
        if group.id != GroupId::FIRST {
            group.members += 1;
            self.apart.insert(who.clone(), group.id);
        }
        true
    }

    /// Begins a group with somebody who comes, and is shown this.
    pub(super) fn begin(&mut self, who: &Address, content: Content, pace: Option<Pace>) {
        let id = GroupId(self.groups.last().map_or(0, |last| last.id.0) + 1);
        self.groups.push(Group { id, content, pace, owed: None, members: 1 });
        self.apart.insert(who.clone(), id);
    }

    /// Somebody has the view no more; what is left of their pace.
    pub(super) fn leave(&mut self, who: &Address) -> Option<Pace> {
        let index = self.index(self.group_of(who))?;
        let pace = self.groups[index].pace;
        if self.apart.remove(who).is_some() {
            self.groups[index].members -= 1;
            if self.groups[index].members == 0 {
                self.groups.remove(index);
            }
        }
        pace
    }

    /// Brings the groups up to date, each at its pace if there is one, or only those that are due; those
    /// that are shown something else now, with what they were shown before.
    pub(super) fn bring_up(
        &mut self,
        now: Timestamp,
        limit: Option<PaceLimit>,
        only_due: bool,
        mut newest: impl FnMut() -> Content,
    ) -> Vec<(GroupId, Version)> {
        if let Some(limit) = limit {
            self.merge(now, limit);
        }
        let mut changed = Vec::new();
        for group in &mut self.groups {
            // It is looked at when it may be shown: until then it is not even encoded.
            if only_due && group.owed.is_none_or(|at| at > now) || group.waits(now, limit) {
                continue;
            }
            let content = newest();
            if content.version() == group.content.version() {
                continue;
            }
            if let Some(pace) = group.pace.as_mut().filter(|_| limit.is_some()) {
                pace.spend();
            }
            changed.push((group.id, group.content.version()));
            group.content = content;
        }
        changed
    }

    /// Groups that have rested are as the first, if that has.
    fn merge(&mut self, now: Timestamp, limit: PaceLimit) {
        if self.apart.is_empty() || !self.groups[0].has_rested(now, limit) {
            return;
        }
        self.groups.retain(|group| group.id == GroupId::FIRST || !group.has_rested(now, limit));
        let left: HashSet<GroupId> = self.groups.iter().map(|group| group.id).collect();
        self.apart.retain(|_, id| left.contains(id));
    }

    fn index(&self, id: GroupId) -> Option<usize> {
        self.groups.binary_search_by_key(&id, |group| group.id).ok()
    }
}

impl Group {
    fn has_rested(&self, now: Timestamp, limit: PaceLimit) -> bool {
        self.owed.is_none() && self.pace.is_none_or(|pace| pace.unrested(now, limit).is_none())
    }

    /// Whether it may not be shown the newest yet, at its pace if there is one.
    fn waits(&mut self, now: Timestamp, limit: Option<PaceLimit>) -> bool {
        self.owed = limit.and_then(|limit| {
            let pace = self.pace.get_or_insert_with(|| Pace::rested(now, limit));
            pace.waits_until(now, limit)
        });
        self.owed.is_some()
    }
}
